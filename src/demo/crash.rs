//! The scenario `crash`: A is killed with SIGKILL in the middle of a transaction. The database does not know: it goes
//! on with what it was sent, and at the end of it is a commit.
//!
//! With the guard, the seal of B's grant waits for A's transaction, and after half a second ends its session: A's
//! half-done work is undone before B is let in. Without it, B reads, writes, is told that this is done; and
//! then the dead A's transaction commits.
//!
//! What A's transaction is slow with is, here, an advisory lock that the demo holds: it takes as long as the story
//! needs it to.

use std::time::Duration;

use anyhow::{Context, ensure};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions, raw_sql};

use super::{
    Guard, Late, Outcome, PATIENCE,
    event::{Happening, Who},
    stage::Stage,
    stories::acknowledged,
    writer::{Writer, line, tell},
};
use fencegate::client::Client;

/// How often the database is asked what becomes of A's session.
const LOOK: Duration = Duration::from_millis(2);

/// Plays it, in a table that [`clear`] takes away.
pub(super) async fn play(stage: &Stage) -> anyhow::Result<Outcome> {
    let mut database = connect(&stage.servers.store, "fencegate demo").await?;
    let table = table(stage);
    let create = format!("create table {table} (ledger jsonb not null); insert into {table} values ('[]')");
    raw_sql(AssertSqlSafe(create))
        .execute(&mut database)
        .await
        .context("making a table for the demo")?;
    in_table(stage, &mut database, &table).await
}

/// Takes the table away, also when the story was given up half way.
pub(super) async fn clear(stage: &Stage) -> anyhow::Result<()> {
    let mut database = connect(&stage.servers.store, "fencegate demo").await?;
    let table = table(stage);
    // Whoever still writes to it is one of the demo's, and in the way.
    let _ = end_session(&mut database, stage.fence.as_str()).await;
    raw_sql(AssertSqlSafe(format!("drop table if exists {table}")))
        .execute(&mut database)
        .await
        .with_context(|| format!("dropping the demo's table {table}"))?;
    Ok(())
}

/// Named after the fence, whose name is random and has nothing else than letters and digits behind the colon.
fn table(stage: &Stage) -> String {
    format!("fencegate.{}", stage.fence.as_str().replace(':', "_"))
}

async fn in_table(stage: &Stage, database: &mut PgConnection, table: &str) -> anyhow::Result<Outcome> {
    let slow = i64::from_ne_bytes(uuid::Uuid::new_v4().as_u64_pair().0.to_ne_bytes());
    sqlx::query("select pg_advisory_lock($1)")
        .bind(slow)
        .execute(&mut *database)
        .await?;
    let guard = match stage.guard {
        Guard::Fenced => "--guarded",
        Guard::Unfenced => "--unguarded",
    };
    let mut a = stage.start(
        Who::A,
        false,
        &["--table", table, guard, "--slow", &slow.to_string()],
    )?;
    a.say(&stage.servers.store).await?;
    a.until(|happening| matches!(happening, Happening::Sends { .. }))
        .await?;
    let is_under_way = async {
        loop {
            if let Some(pid) = waiting(database, stage.fence.as_str()).await? {
                return anyhow::Ok(pid);
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let session = tokio::time::timeout(PATIENCE, is_under_way)
        .await
        .context("A's transaction was never under way")??;
    a.kill().await?;
    stage.note(Who::Demo, Happening::Killed);
    ensure!(
        is_open(database, session).await?,
        "the database ended A's session by itself (client_connection_check_interval?), so there is nothing to show"
    );
    stage.note(Who::Store, Happening::SessionGoesOn);

    let mut b = stage.start(Who::B, false, &["--table", table, guard])?;
    b.say(&stage.servers.store).await?;
    match stage.guard {
        Guard::Fenced => {
            let (done, over) = tokio::join!(b.finish(), is_over(stage, database, session, false));
            done?;
            over?;
        }
        Guard::Unfenced => {
            b.finish().await?;
            sqlx::query("select pg_advisory_unlock($1)")
                .bind(slow)
                .execute(&mut *database)
                .await?;
            is_over(stage, database, session, true).await?;
        }
    }
    let ledger: serde_json::Value = sqlx::query_scalar(AssertSqlSafe(format!("select ledger from {table}")))
        .fetch_one(&mut *database)
        .await?;
    let kept: Vec<String> = serde_json::from_value(ledger)?;
    Ok(Outcome {
        late: match kept.iter().any(|name| name == "A") {
            true => Late::Accepted,
            false => Late::Undone,
        },
        acknowledged: acknowledged([&a, &b]),
        kept: kept.into_iter().collect(),
    })
}

async fn is_over(
    stage: &Stage,
    database: &mut PgConnection,
    session: i32,
    committed: bool,
) -> anyhow::Result<()> {
    let over = async {
        while is_open(database, session).await? {
            tokio::time::sleep(LOOK).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(stage.ttl + PATIENCE, over)
        .await
        .context("A's session does not end")??;
    stage.note(Who::Store, Happening::SessionOver { committed });
    Ok(())
}

/// The session of this name, if it waits for the slow thing.
async fn waiting(database: &mut PgConnection, name: &str) -> sqlx::Result<Option<i32>> {
    sqlx::query_scalar(
        "select pid from pg_stat_activity where application_name = $1 and wait_event_type = 'Lock'",
    )
    .bind(name)
    .fetch_optional(database)
    .await
}

/// Whether a session has a transaction.
async fn is_open(database: &mut PgConnection, session: i32) -> sqlx::Result<bool> {
    sqlx::query_scalar("select exists (select from pg_locks where pid = $1)")
        .bind(session)
        .fetch_one(database)
        .await
}

async fn end_session(database: &mut PgConnection, name: &str) -> sqlx::Result<()> {
    sqlx::query("select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1")
        .bind(name)
        .execute(database)
        .await
        .map(drop)
}

async fn connect(url: &str, name: &str) -> anyhow::Result<PgConnection> {
    let options: PgConnectOptions = url.parse()?;
    let connection = options.application_name(name).connect().await;
    connection.context("connecting to the database")
}

/// How a writer writes that has a connection to the database of its own.
#[derive(Debug, Clone)]
pub struct InTable {
    /// The table with the ledger.
    pub table: String,
    /// Whether its transaction enters the fence.
    pub guarded: bool,
    /// An advisory lock that its transaction waits for.
    pub slow: Option<i64>,
}

impl InTable {
    /// Reads the ledger, adds the writer's name and writes it back, under a lease: in a transaction that is sent as
    /// a whole.
    ///
    /// # Errors
    /// When the gateway or the database cannot be asked, or refuse.
    pub async fn run(self, writer: Writer) -> anyhow::Result<()> {
        // Not an argument, which everybody on the machine can read.
        let url = line()?;
        let mut database = connect(url.trim(), writer.fence.as_str()).await?;
        let client = Client::new(&writer.gateway)?;
        let lease = writer.acquire(&client).await?;
        let Self { table, .. } = &self;
        let ledger: serde_json::Value =
            sqlx::query_scalar(AssertSqlSafe(format!("select ledger from {table}")))
                .fetch_one(&mut database)
                .await?;
        let mut ledger: Vec<String> = serde_json::from_value(ledger)?;
        tell(Happening::Read {
            ledger: ledger.clone(),
        })?;
        ledger.push(writer.name.clone());

        // What is sent as a whole cannot have parameters.
        sqlx::query("select set_config('demo.ledger', $1, false)")
            .bind(serde_json::to_string(&ledger)?)
            .execute(&mut database)
            .await?;
        let (token, added) = (lease.token.to_string(), writer.name.clone());
        raw_sql("begin").execute(&mut database).await?;
        if self.guarded {
            sqlx::query("select fencegate.enter($1, $2)")
                .bind(writer.fence.as_str())
                .bind(lease.token.expose())
                .execute(&mut database)
                .await?;
        }
        if self.slow.is_some() {
            tell(Happening::Sends {
                token: token.clone(),
                ledger: ledger.clone(),
            })?;
        }
        raw_sql(AssertSqlSafe(self.rest())).execute(&mut database).await?;
        tell(Happening::Wrote { token, ledger, added })?;
        database.close().await?;
        client.release(&writer.fence, &lease.token).await?;
        tell(Happening::Released)
    }

    /// What is sent once the transaction has begun: the rest of it, as a whole.
    fn rest(&self) -> String {
        let Self { table, slow, .. } = self;
        let slow = slow.map_or(String::new(), |key| {
            format!("select pg_advisory_xact_lock_shared({key});")
        });
        format!("{slow} update {table} set ledger = current_setting('demo.ledger')::jsonb; commit")
    }
}
