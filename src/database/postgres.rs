//! Postgres: the pool, the migrations, and transactions and reads that find a connection that lives.

use std::{
    pin::Pin,
    str::FromStr,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use sqlx::{
    AssertSqlSafe, PgPool, Postgres, Row, SqlSafeStr, Transaction,
    migrate::Migrator,
    postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow},
};

use super::DatabaseError;

/// What functions raise that need a read committed transaction.
const INVALID_TRANSACTION_STATE: &str = "25000";

/// The migrations of fencegate's schema, in order.
pub fn migrations() -> Migrator {
    let mut migrator = sqlx::migrate!("migrations/postgres");
    migrator.dangerous_set_table_name("fencegate.migration");
    migrator.create_schema("fencegate");
    migrator
}

/// How many connections at most, and how long a caller waits for one.
#[derive(Debug, Clone)]
pub struct PoolSize {
    /// Connections at most. Defaults to 16.
    pub connections: u32,
    /// How long a caller waits for a connection. Defaults to 5 s.
    pub acquire_timeout: Duration,
}

impl Default for PoolSize {
    fn default() -> Self {
        Self {
            connections: 16,
            acquire_timeout: Duration::from_secs(5),
        }
    }
}

/// A pool on the database that `url` names, which is not asked anything yet.
///
/// # Errors
/// [`DatabaseError::Url`] if the URL cannot be read.
pub fn connect(url: &str, size: &PoolSize) -> Result<PgPool, DatabaseError> {
    let options = PgConnectOptions::from_str(url)?.application_name("fencegate");
    Ok(PgPoolOptions::new()
        .max_connections(size.connections)
        .acquire_timeout(size.acquire_timeout)
        // A round trip for every transaction; `begin` looks for itself.
        .test_before_acquire(false)
        .connect_lazy_with(options))
}

/// Brings the schema up to this version. Safe to run twice at once, and on a live database.
///
/// # Errors
/// [`DatabaseError::Refused`] if the schema belongs to another role. Otherwise as the database says. What was done
/// before stays done.
pub async fn migrate(pool: &PgPool) -> Result<(), DatabaseError> {
    // The owner of a schema can replace what is in it, and so run what it likes with the rights of whoever made the functions.
    let others = optional(pool, || {
        sqlx::query(
            "select pg_get_userbyid(nspowner) as owner, current_user::text as who from pg_namespace
              where nspname = 'fencegate' and nspowner <> (select oid from pg_roles where rolname = current_user)",
        )
    })
    .await?;
    if let Some(row) = others {
        let (owner, who): (String, String) = (row.try_get("owner")?, row.try_get("who")?);
        return Err(DatabaseError::Refused(format!(
            "the schema fencegate belongs to the role {owner}, and this is {who}: migrate as {owner}, or have the schema and what \
             is in it belong to {who}"
        )));
    }
    Ok(migrations().run(pool).await?)
}

/// Whether the schema is there and as new as this program.
///
/// # Errors
/// [`DatabaseError::NotMigrated`] if not.
pub async fn check_migrated(pool: &PgPool) -> Result<(), DatabaseError> {
    let wanted = migrations()
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or(0);
    let row = one(pool, || {
        sqlx::query("select max(version) from fencegate.migration where success")
    })
    .await?;
    let found: Option<i64> = row.try_get(0)?;
    match found {
        Some(version) if version >= wanted => Ok(()),
        found => Err(DatabaseError::NotMigrated(format!(
            "the schema is at version {}, this program needs {wanted}",
            found.unwrap_or(0)
        ))),
    }
}

/// Begins a read committed transaction. Connections that died while idle are replaced, since nothing has been
/// asked of them yet.
///
/// # Errors
/// [`DatabaseError::Unavailable`] if there is no living connection to be had.
pub async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, DatabaseError> {
    begin_with(pool, "begin isolation level read committed").await
}

/// As [`begin`], with other words, which must have nothing in them that a stranger wrote.
pub(crate) async fn begin_with(
    pool: &PgPool,
    statement: &str,
) -> Result<Transaction<'static, Postgres>, DatabaseError> {
    // Each failure takes a dead connection out of the pool, so beyond its size something else is wrong.
    let mut tries = pool.options().get_max_connections();
    loop {
        let connection = pool.acquire().await?;
        let statement = AssertSqlSafe(statement).into_sql_str();
        match Begin(Some(Transaction::begin(connection, Some(statement)))).await {
            Err(error) if tries > 0 && is_dead_connection(&error) => tries -= 1,
            begun => return Ok(begun?),
        }
    }
}

/// Commits a transaction that answers with what another one did, once that is as durable as if this one had done it.
///
/// # Errors
/// [`DatabaseError::OutcomeUnknown`] if the connection broke at the commit.
pub(crate) async fn commit_after_what_was_seen(
    mut transaction: Transaction<'static, Postgres>,
) -> Result<(), DatabaseError> {
    // Something to commit, or the commit waits for nobody.
    sqlx::query("select fencegate.make_durable(), pg_logical_emit_message(true, 'fencegate', ''::text)")
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await.map_err(DatabaseError::at_commit)
}

/// A statement with what it is about.
pub(crate) type Statement<'q> = sqlx::query::Query<'q, Postgres, PgArguments>;

/// Asks something of the pool that may as well be asked twice: connections that died while idle are replaced, since nobody
/// who reads is to notice that the server was started again.
pub(crate) async fn rows<'q>(
    pool: &PgPool,
    statement: impl Fn() -> Statement<'q> + Send,
) -> Result<Vec<PgRow>, sqlx::Error> {
    // As in `begin_with`.
    let mut tries = pool.options().get_max_connections();
    loop {
        let mut connection = pool.acquire().await?;
        match statement().fetch_all(&mut *connection).await {
            Err(error) if tries > 0 && is_dead_connection(&error) => tries -= 1,
            answer => return answer,
        }
    }
}

/// As [`rows`], where there is one row at most.
pub(crate) async fn optional<'q>(
    pool: &PgPool,
    statement: impl Fn() -> Statement<'q> + Send,
) -> Result<Option<PgRow>, sqlx::Error> {
    Ok(rows(pool, statement).await?.into_iter().next())
}

/// As [`rows`], where there is one row.
pub(crate) async fn one<'q>(
    pool: &PgPool,
    statement: impl Fn() -> Statement<'q> + Send,
) -> Result<PgRow, sqlx::Error> {
    optional(pool, statement).await?.ok_or(sqlx::Error::RowNotFound)
}

/// Runs a statement that is a read committed transaction of its own, in one round trip. As with [`rows`] it may be asked
/// twice, so it has to be one that changes nothing the second time.
///
/// # Cancel safety
/// The statement may or may not be committed.
pub(crate) async fn by_itself<'q>(
    pool: &PgPool,
    statement: impl Fn() -> Statement<'q> + Send + Sync,
) -> Result<PgRow, DatabaseError> {
    match one(pool, &statement).await {
        Err(sqlx::Error::Database(said)) if said.code().as_deref() == Some(INVALID_TRANSACTION_STATE) => {}
        answer => return Ok(answer?),
    }
    // Transactions have another isolation level here unless they say which.
    let mut transaction = begin(pool).await?;
    let row = statement().fetch_one(&mut *transaction).await?;
    transaction.commit().await.map_err(DatabaseError::at_commit)?;
    Ok(row)
}

/// A `begin` that comes to its end, and is then rolled back, also when nobody waits for it any more.
///
/// sqlx forgets one that is dropped while it is under way: the connection goes back to the pool inside a transaction
/// that nobody knows of, and what is next asked of it without a transaction of its own, such as a batch of writes, is
/// acknowledged and never committed.
struct Begin(Option<BoxFuture<'static, Begun>>);

type Begun = Result<Transaction<'static, Postgres>, sqlx::Error>;

impl Future for Begin {
    type Output = Begun;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Begun> {
        let Some(begin) = &mut self.0 else {
            return Poll::Pending;
        };
        let begun = std::task::ready!(begin.as_mut().poll(context));
        self.0 = None;
        Poll::Ready(begun)
    }
}

impl Drop for Begin {
    fn drop(&mut self) {
        if let Some(begin) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            // Dropped when it is there, which rolls it back before the pool lends the connection again.
            runtime.spawn(async move { drop(begin.await) });
        }
    }
}

/// Whether nothing but the connection is at fault, so that another one may do.
pub(crate) fn is_dead_connection(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => true,
        // Ended by the administrator, or by a crash of another backend, while it was idle.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code.starts_with("57P0")),
        _ => false,
    }
}
