//! Keys of idempotent requests, in the transaction of their write.

use sqlx::{PgConnection, PgPool, Row};

use crate::{
    database::{DatabaseError, postgres as database},
    store::{Done, Once, StoreError, Transaction, Version, Written, once::replay},
};

/// Postgres's code for a lock that was waited for too long.
const LOCK_NOT_AVAILABLE: &str = "55P03";
/// How many are forgotten in one statement.
const CHUNK: u64 = 1000;

/// Records the key, or answers with what was recorded under it.
///
/// # Errors
/// [`StoreError::KeyInFlight`] when another transaction has recorded it and not yet ended.
pub(super) async fn begin(
    connection: &mut PgConnection,
    transaction: &Transaction,
    once: &Once,
) -> Result<Option<Done>, StoreError> {
    let fingerprint = transaction.fingerprint();
    let recorded = sqlx::query(
        "insert into fencegate.idempotency as i (scope, fingerprint, expires_at)
         values ($1, $2, clock_timestamp() + $3)
         on conflict (scope) do update
            set fingerprint = excluded.fingerprint, versions = null, existed = null, expires_at = excluded.expires_at
          where i.expires_at <= clock_timestamp()
         returning true",
    )
    .bind(once.scope())
    .bind(&fingerprint[..])
    .bind(once.keep)
    .fetch_optional(&mut *connection)
    .await;
    match recorded {
        Ok(Some(_)) => return Ok(None),
        Ok(None) => {}
        Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code == LOCK_NOT_AVAILABLE) => {
            return Err(StoreError::KeyInFlight);
        }
        Err(error) => return Err(error.into()),
    }
    let row =
        sqlx::query("select fingerprint, versions, existed from fencegate.idempotency where scope = $1")
            .bind(once.scope())
            .fetch_optional(connection)
            .await?;
    // Forgotten between the two statements: then it can be recorded.
    let row = row.ok_or_else(|| DatabaseError::Conflict("a key was forgotten just now".into()))?;
    let versions: Vec<Option<i64>> = row.try_get("versions")?;
    let existed: Vec<bool> = row.try_get("existed")?;
    let written = versions
        .into_iter()
        .zip(existed)
        .map(|(version, existed)| Written {
            version: version.map(Version),
            existed,
        });
    let fingerprint: &[u8] = row.try_get("fingerprint")?;
    replay(transaction, fingerprint, written.collect()).map(Some)
}

/// Records the answer beside the key.
pub(super) async fn end(
    connection: &mut PgConnection,
    once: &Once,
    written: &[Written],
) -> Result<(), StoreError> {
    sqlx::query("update fencegate.idempotency set versions = $2, existed = $3 where scope = $1")
        .bind(once.scope())
        .bind(
            written
                .iter()
                .map(|written| written.version.map(|version| version.0))
                .collect::<Vec<_>>(),
        )
        .bind(written.iter().map(|written| written.existed).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

/// Forgets the keys whose time is over, a few at a time.
pub(super) async fn forget(pool: &PgPool) -> Result<u64, StoreError> {
    let mut forgotten = 0;
    loop {
        let mut transaction = database::begin(pool).await?;
        let done = sqlx::query(
            "delete from fencegate.idempotency where scope in (
                select scope from fencegate.idempotency where expires_at <= clock_timestamp()
                 order by expires_at limit $1 for update skip locked)",
        )
        .bind(i64::try_from(CHUNK).unwrap_or(i64::MAX))
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        transaction.commit().await?;
        forgotten += done;
        if done < CHUNK {
            return Ok(forgotten);
        }
    }
}
