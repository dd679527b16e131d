//! Keys of idempotent requests, in the transaction of their write. None is ever in flight: writers take turns.

use sqlx::{Row, SqliteConnection};

use super::now;
use crate::{
    database::sqlite::SqliteFile,
    store::{Done, Once, StoreError, Transaction, Version, Written, once::replay},
};

/// Records the key, or answers with what was recorded under it.
pub(super) async fn begin(
    connection: &mut SqliteConnection,
    transaction: &Transaction,
    once: &Once,
) -> Result<Option<Done>, StoreError> {
    let fingerprint = transaction.fingerprint();
    let keep = i64::try_from(once.keep.as_millis()).unwrap_or(i64::MAX);
    let recorded = sqlx::query(
        "insert into idempotency as i (scope, fingerprint, expires_at) values ($1, $2, $3)
         on conflict (scope) do update
            set fingerprint = excluded.fingerprint, written = null, expires_at = excluded.expires_at
          where i.expires_at <= $4
         returning 1",
    )
    .bind(once.scope())
    .bind(&fingerprint[..])
    .bind(now().saturating_add(keep))
    .bind(now())
    .fetch_optional(&mut *connection)
    .await?;
    if recorded.is_some() {
        return Ok(None);
    }
    let row = sqlx::query("select fingerprint, written from idempotency where scope = $1")
        .bind(once.scope())
        .fetch_one(connection)
        .await?;
    let written: String = row.try_get("written")?;
    let written: Vec<(Option<i64>, bool)> =
        serde_json::from_str(&written).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    let written = written.into_iter().map(|(version, existed)| Written {
        version: version.map(Version),
        existed,
    });
    let fingerprint: &[u8] = row.try_get("fingerprint")?;
    replay(transaction, fingerprint, written.collect()).map(Some)
}

/// Records the answer beside the key.
pub(super) async fn end(
    connection: &mut SqliteConnection,
    once: &Once,
    written: &[Written],
) -> Result<(), StoreError> {
    let written = written
        .iter()
        .map(|written| (written.version.map(|version| version.0), written.existed));
    let written = serde_json::to_string(&written.collect::<Vec<_>>());
    sqlx::query("update idempotency set written = $2 where scope = $1")
        .bind(once.scope())
        .bind(written.map_err(|error| StoreError::Corrupt(error.to_string()))?)
        .execute(connection)
        .await?;
    Ok(())
}

/// Forgets the keys whose time is over.
pub(super) async fn forget(file: &SqliteFile) -> Result<u64, StoreError> {
    let mut connection = file.begin().await?;
    let done = sqlx::query("delete from idempotency where expires_at <= $1")
        .bind(now())
        .execute(&mut *connection)
        .await?;
    connection.commit().await?;
    Ok(done.rows_affected())
}
