//! A Postgres server as it comes: durable, and with the defaults of its package.

use std::os::unix::fs::chown;

use fencegate::connect;
use sqlx::{AssertSqlSafe, Executor, PgPool};

use crate::support::{self, Postgres, postgres};

/// Rows that pgbench updates, in the table that it makes itself.
pub const ROWS: u32 = 100_000;

pub async fn start() -> Postgres {
    let folder = support::folder("postgres");
    if let Some((user, group)) = postgres::other_user() {
        chown(folder.path(), Some(user), Some(group)).unwrap();
    }
    // Not the template of the tests, whose small log segments nobody has in production.
    let data = folder.path().join("data");
    postgres::run(
        postgres::command("initdb")
            .args([
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
            ])
            .arg("-D")
            .arg(data),
    );
    let settings = [
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("shared_buffers", "128MB"),
        ("max_connections", "300"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let server = Postgres::start_on(folder, settings.to_vec()).await;
    let server = server.unwrap_or_else(|error| panic!("{}", error.text));
    crate::pgbench::fill(&server);
    server
}

/// A database of this server with fencegate's tables, and so many fences with tokens that are known.
pub struct Store {
    pub url: String,
    pub pool: PgPool,
}

impl Store {
    pub async fn new(server: &Postgres, fences: u32) -> Self {
        let url = server.create_database().await;
        let locks = connect(&url, None).await.unwrap();
        locks.migrate().await.unwrap();
        let pool = PgPool::connect(&url).await.unwrap();
        let store = Self { url, pool };
        // A million grants one by one would take longer than all the rest.
        store
            .run(&format!(
                "insert into fencegate.fence (name, epoch, sequence, holder)
                 select 'f' || i, 1, i, sha256(decode(md5(i::text), 'hex')) from generate_series(1, {fences}) i"
            ))
            .await;
        store.settle().await;
        store
    }

    pub async fn run(&self, sql: &str) {
        self.pool.execute(AssertSqlSafe(sql)).await.unwrap();
    }

    /// So that no vacuum, and no checkpoint of what was made just now, falls into a measurement.
    pub async fn settle(&self) {
        self.run("vacuum analyze").await;
        self.run("checkpoint").await;
    }

    pub async fn number(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    /// Bytes of write-ahead log so far.
    pub async fn wal(&self) -> i64 {
        self.number("select (pg_current_wal_insert_lsn() - '0/0')::bigint")
            .await
    }

    /// Transactions that were committed so far, once the server's sessions have reported them.
    pub async fn commits(&self) -> i64 {
        tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
        self.number(
            "select pg_stat_get_db_xact_commit(oid) from pg_database where datname = current_database()",
        )
        .await
    }
}
