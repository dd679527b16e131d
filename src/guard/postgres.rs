//! The guard in a Postgres transaction.

use std::sync::{Arc, Mutex, PoisonError, Weak};

// Only to ask how deep a connection is in savepoints, which sqlx itself does not pass on.
use sqlx::{
    ConnectOptions, PgConnection, Postgres, Row, Transaction,
    postgres::{PgConnectOptions, PgRow},
};
use sqlx_core::transaction::TransactionManager;

use super::{GuardError, Guarded, Isolation, check, read_mark};
use crate::{
    database::{DatabaseError, postgres as database},
    name::FenceName,
    token::{Mark, Token},
};

/// Lets your own transaction pass if `token` is the fence's mark, and holds the mark still until it ends: also at
/// repeatable read and serializable, and also where something was read or written before.
///
/// Several fences can be entered, one after the other. Tables that `fencegate.protect` guards by them accept
/// what the transaction writes then.
///
/// # Errors
/// [`GuardError::Refused`] when the token may not write; then roll back. [`GuardError::NotInTransaction`] and
/// [`GuardError::InSavepoint`] as far as sqlx knows: a `savepoint` that was sent as text is not seen. A
/// retryable [`DatabaseError::Conflict`] when the mark moved after a repeatable read transaction took its snapshot.
///
/// # Cancel safety
/// The transaction has then to be rolled back.
pub async fn enter_with(
    connection: &mut PgConnection,
    fence: &FenceName,
    token: &Token,
) -> Result<(), GuardError> {
    // How many transactions sqlx has nested on this connection, savepoints included.
    match <Postgres as sqlx::Database>::TransactionManager::get_transaction_depth(connection) {
        0 => return Err(GuardError::NotInTransaction),
        1 => {}
        _ => return Err(GuardError::InSavepoint),
    }
    // Behind a pooler such as PgBouncer the next transaction has another session, without the prepared statement.
    enter_as(connection, fence, token, false).await
}

const TRY_ENTER: &str = "select fencegate.try_enter($1, $2, $3, $4)";
const ENTER_AS: &str = "select mark_epoch as epoch, mark_sequence as sequence, mark_holder as holder
    from fencegate.enter_as($1, $2, $3, $4)";

fn query<'q>(
    sql: &'static str,
    fence: &'q FenceName,
    token: &'q Token,
    prepared: bool,
) -> sqlx::query::Query<'q, Postgres, sqlx::postgres::PgArguments> {
    sqlx::query(sql)
        .persistent(prepared)
        .bind(fence.as_str())
        .bind(token.epoch.get())
        .bind(token.sequence.get())
        .bind(token.holder.as_bytes().as_slice())
}

/// `prepared`: with a statement that the connection keeps.
async fn enter_as(
    connection: &mut PgConnection,
    fence: &FenceName,
    token: &Token,
    prepared: bool,
) -> Result<(), GuardError> {
    // One round trip: the function's statements have a snapshot each.
    if query(TRY_ENTER, fence, token, prepared)
        .fetch_one(&mut *connection)
        .await?
        .try_get(0)?
    {
        return Ok(());
    }
    // Why not, while the mark is held still.
    let row = query(ENTER_AS, fence, token, prepared)
        .fetch_one(connection)
        .await?;
    let sealed = row.try_get::<Option<i64>, _>("epoch")?.is_some();
    let mark = if sealed { Some(mark_of(&row)?) } else { None };
    check(fence, mark, &token.mark())?;
    Err(GuardError::Corrupt("a verdict that is not the rule's".into()))
}

/// Whether the pool's connections keep prepared statements. Behind PgBouncer in transaction mode they must not, which is
/// said with `statement-cache-capacity=0` in the URL; sqlx passes it on nowhere else. Remembered for each pool, as
/// making a URL takes longer than the guard itself.
fn keeps_statements(pool: &sqlx::PgPool) -> bool {
    static KNOWN: Mutex<Vec<(Weak<PgConnectOptions>, bool)>> = Mutex::new(Vec::new());
    let options = pool.connect_options();
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    // An address that is still weakly referred to is nobody else's.
    if let Some((_, keeps)) = known.iter().find(|(of, _)| of.as_ptr() == Arc::as_ptr(&options)) {
        return *keeps;
    }
    let keeps = !options
        .to_url_lossy()
        .query_pairs()
        .any(|(name, value)| name == "statement-cache-capacity" && value == "0");
    known.retain(|(of, _)| of.strong_count() > 0);
    known.push((Arc::downgrade(&options), keeps));
    keeps
}

/// Behind PgBouncer in transaction mode, connect with `statement-cache-capacity=0`.
impl super::Resource for sqlx::PgPool {
    type Transaction = Transaction<'static, Postgres>;

    async fn enter(
        &self,
        fences: &[(&FenceName, &Token)],
        isolation: Isolation,
        idle: Option<std::time::Duration>,
    ) -> Result<Self::Transaction, GuardError> {
        let level = match isolation {
            Isolation::ReadCommitted => "read committed",
            Isolation::RepeatableRead => "repeatable read",
            Isolation::Serializable => "serializable",
        };
        let mut begin = format!("begin isolation level {level}");
        if let Some(idle) = idle {
            // Only where nobody may end the sessions of the dead.
            begin = format!(
                "{begin}; set local fencegate.idle_timeout_ms to {}",
                idle.as_millis()
            );
        }
        let mut transaction = database::begin_with(self, &begin).await?;
        for (fence, token) in fences {
            enter_as(&mut transaction, fence, token, keeps_statements(self)).await?;
        }
        Ok(transaction)
    }
}

impl Guarded<Transaction<'static, Postgres>> {
    /// Commits, unless the lease is lost: then nothing is sent, and everything is rolled back.
    ///
    /// # Errors
    /// [`GuardError::LeaseLost`], and as the database says: a retryable [`DatabaseError::Conflict`] at
    /// serializable, [`DatabaseError::OutcomeUnknown`] when the answer was lost. Unlike sqlx's own commit it also fails
    /// when an earlier statement of the transaction did, in which case Postgres rolls back and calls it a success.
    ///
    /// # Cancel safety
    /// The commit may or may not happen.
    pub async fn commit(self) -> Result<(), GuardError> {
        let mut transaction = self.unless_lost()?;
        // In one round trip. The first, which changes nothing, fails in a transaction that failed before. The last is
        // for sqlx, which cannot be told that the transaction is over, and rolls the new one back when it is dropped.
        sqlx::raw_sql("set local fencegate.committing to on; commit; begin")
            .execute(&mut *transaction)
            .await
            .map_err(|error| match &error {
                sqlx::Error::Database(said) if said.code().as_deref() == Some("25P02") => {
                    DatabaseError::Refused(
                        "an earlier statement of the transaction failed, so nothing was committed".into(),
                    )
                }
                _ => DatabaseError::at_commit(error),
            })?;
        Ok(())
    }

    /// Rolls back. Dropping the transaction does so too, a little later.
    ///
    /// # Errors
    /// When the connection broke, with the same outcome.
    ///
    /// # Cancel safety
    /// It is rolled back in any case.
    pub async fn rollback(self) -> Result<(), GuardError> {
        Ok(self.into_inner().rollback().await?)
    }
}

/// Lets a transaction pass if this is the fence's mark, and holds the mark still until it ends. For stores, which do
/// not know the holder: tables that `fencegate.protect` guards do not accept such a transaction's writes.
///
/// Two statements, since the second must see what was committed while the first waited: the history, and the fence's
/// advisory lock, shared, which a seal takes exclusively; then the mark. At read committed the lock alone holds the mark
/// still. Elsewhere the snapshot may be older than the lock, and the row's lock finds that out: it fails with a
/// serialization failure.
///
/// # Errors
/// [`GuardError::Refused`] when the token may not write; then roll back.
///
/// # Cancel safety
/// The transaction has then to be rolled back.
pub async fn enter(connection: &mut PgConnection, fence: &FenceName, token: &Mark) -> Result<(), GuardError> {
    let isolation: String = sqlx::query(
        "select fencegate.make_durable(), fencegate.require_history(),
                pg_advisory_xact_lock_shared(fencegate.lock_key($1)), current_setting('transaction_isolation')",
    )
    .bind(fence.as_str())
    .fetch_one(&mut *connection)
    .await?
    .try_get(3)?;
    let look = if isolation == "read committed" {
        "select epoch, sequence, holder from fencegate.fence where name = $1"
    } else {
        "select epoch, sequence, holder from fencegate.fence where name = $1 for share"
    };
    let row = sqlx::query(look)
        .bind(fence.as_str())
        .fetch_optional(connection)
        .await?;
    let mark = row.map(|row| mark_of(&row)).transpose()?;
    check(fence, mark, token)
}

/// Reads the columns `epoch`, `sequence` and `holder`.
pub(crate) fn mark_of(row: &PgRow) -> Result<Mark, GuardError> {
    read_mark(
        row.try_get("epoch")?,
        row.try_get("sequence")?,
        row.try_get("holder")?,
    )
}
