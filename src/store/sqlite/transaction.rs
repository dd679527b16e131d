//! Writes in the file: alone or several, in one transaction that has the file for itself.

use std::collections::BTreeMap;

use sqlx::{Row, SqliteConnection};

use super::{now, once};
use crate::{
    database::sqlite::SqliteFile,
    guard::sqlite as guard,
    store::{
        Done, Once, StoreError, Transaction, Value, Version,
        transaction::{Place, State},
    },
    token::Mark,
};

/// Does all of it, or nothing.
pub(super) async fn run(
    file: &SqliteFile,
    transaction: &Transaction,
    once: Option<&Once>,
) -> Result<Done, StoreError> {
    if let Some(fence) = transaction.without_token().first() {
        return Err(StoreError::TokenMissing((*fence).clone()));
    }
    let mut connection = file.begin().await?;
    // Before the guard: what has happened has, also under a token that is stale by now.
    if let Some(once) = once
        && let Some(done) = once::begin(&mut connection, transaction, once).await?
    {
        return Ok(done);
    }
    for (fence, token) in &transaction.tokens {
        guard::enter(&mut connection, fence, token).await?;
    }
    let mut records = BTreeMap::new();
    for (place, reads) in transaction.reads() {
        let state = read(&mut connection, &place, reads).await?;
        records.insert(place, state);
    }
    let last: i64 = sqlx::query_scalar("update record_version set last = last + $1 returning last")
        .bind(i64::try_from(transaction.versions()).unwrap_or(i64::MAX))
        .fetch_one(&mut *connection)
        .await?;
    let first = last - i64::try_from(transaction.versions()).unwrap_or(i64::MAX) + 1;
    let written = transaction.apply(&mut records, (first..=last).map(Version))?;
    for (place, state) in &records {
        match (state, transaction.tokens.get(&place.0)) {
            (
                State {
                    version: Some(version),
                    value: Some(value),
                },
                Some(token),
            ) => {
                put(&mut connection, place, value, *version, token).await?;
            }
            _ => delete(&mut connection, place).await?,
        }
    }
    if let Some(once) = once {
        once::end(&mut connection, once, &written).await?;
    }
    connection.commit().await?;
    Ok(Done {
        written,
        replayed: false,
    })
}

async fn read(connection: &mut SqliteConnection, place: &Place, value: bool) -> Result<State, StoreError> {
    let row = sqlx::query(
        "select version, case when $3 then value end as value, content_type from record
          where fence = $1 and key = $2",
    )
    .bind(place.0.as_str())
    .bind(place.1.as_str())
    .bind(value)
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else {
        return Ok(State::default());
    };
    let bytes: Option<Vec<u8>> = row.try_get("value")?;
    let content_type = row.try_get("content_type")?;
    Ok(State {
        version: Some(Version(row.try_get("version")?)),
        value: bytes.map(|bytes| Value { bytes, content_type }),
    })
}

async fn put(
    connection: &mut SqliteConnection,
    place: &Place,
    value: &Value,
    version: Version,
    token: &Mark,
) -> Result<(), StoreError> {
    sqlx::query(
        "insert into record (fence, key, value, content_type, version, epoch, sequence, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)
         on conflict (fence, key) do update set value = excluded.value, content_type = excluded.content_type,
            version = excluded.version, epoch = excluded.epoch, sequence = excluded.sequence,
            updated_at = excluded.updated_at",
    )
    .bind(place.0.as_str())
    .bind(place.1.as_str())
    .bind(&value.bytes)
    .bind(&value.content_type)
    .bind(version.0)
    .bind(token.epoch.get())
    .bind(token.sequence.get())
    .bind(now())
    .execute(connection)
    .await?;
    Ok(())
}

async fn delete(connection: &mut SqliteConnection, place: &Place) -> Result<(), StoreError> {
    sqlx::query("delete from record where fence = $1 and key = $2")
        .bind(place.0.as_str())
        .bind(place.1.as_str())
        .execute(connection)
        .await?;
    Ok(())
}
