//! Connections whose statements a test interleaves by hand.

use fencegate::Token;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool, Row};

use crate::support::{eventually, eventually::PATIENCE};

pub const LEVELS: [&str; 3] = ["read committed", "repeatable read", "serializable"];

/// A connection of its own.
pub struct Session {
    pub connection: PgConnection,
    pub pid: i32,
}

impl Session {
    pub async fn open(url: &str) -> Self {
        let mut connection = PgConnection::connect(url).await.unwrap();
        let pid = sqlx::query_scalar("select pg_backend_pid()")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        Self { connection, pid }
    }

    /// Runs statements; answers how many rows came back, or the SQLSTATE.
    pub async fn run(&mut self, sql: &str) -> Result<usize, String> {
        let rows = self.connection.fetch_all(sqlx::raw_sql(AssertSqlSafe(sql))).await;
        rows.map(|rows| rows.len()).map_err(code)
    }

    /// The first column of the only row, which is a text.
    pub async fn text(&mut self, sql: &str) -> String {
        let row = sqlx::query(AssertSqlSafe(sql))
            .fetch_one(&mut self.connection)
            .await
            .unwrap();
        row.try_get(0).unwrap()
    }

    pub async fn begin(&mut self, level: &str) {
        self.run(&format!("begin isolation level {level}")).await.unwrap();
    }

    /// Enters a fence, with the token as a bind parameter.
    pub async fn enter(&mut self, fence: &str, token: &Token) -> Result<(), String> {
        let query = sqlx::query("select fencegate.enter($1, $2)")
            .bind(fence)
            .bind(token.expose());
        query.execute(&mut self.connection).await.map(drop).map_err(code)
    }

    /// Raises the mark, in whatever transaction this is.
    pub async fn seal(&mut self, fence: &str, token: &Token) -> Result<(), String> {
        let query = sqlx::query("select fencegate.seal($1, $2)")
            .bind(fence)
            .bind(token.expose());
        query.execute(&mut self.connection).await.map(drop).map_err(code)
    }
}

/// The SQLSTATE, or what else went wrong.
pub fn code(error: sqlx::Error) -> String {
    match &error {
        sqlx::Error::Database(said) => said.code().unwrap_or_default().into_owned(),
        other => other.to_string(),
    }
}

/// Returns when that backend waits for a lock.
pub async fn waits_for_lock(pool: &PgPool, pid: i32) {
    eventually(PATIENCE, async || {
        sqlx::query_scalar("select wait_event_type = 'Lock' from pg_stat_activity where pid = $1")
            .bind(pid)
            .fetch_one(pool)
            .await
            .unwrap_or(Some(false))
            == Some(true)
    })
    .await;
}
