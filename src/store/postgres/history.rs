//! Raising the epoch, and the history of Postgres that the marks are from.

use sqlx::{PgPool, Row};

use super::epoch_of;
use crate::{
    database::{DatabaseError, postgres as database},
    store::{
        EpochState, StoreError,
        history::{Audited, Rebase, Rebased, Replication},
    },
    token::Epoch,
};

pub(super) async fn epoch_as_stored(pool: &PgPool) -> Result<EpochState, StoreError> {
    let row = database::one(pool, || {
        sqlx::query("select number, lock_kind, lock_cluster, lock_instance from fencegate.epoch")
    })
    .await?;
    epoch_of(&row)
}

pub(super) async fn quarantine(pool: &PgPool) -> Result<Option<String>, StoreError> {
    let asked = database::rows(pool, || sqlx::query("select fencegate.require_history()")).await;
    match asked.map_err(DatabaseError::from) {
        Ok(_) => Ok(None),
        Err(DatabaseError::Quarantined(why)) => Ok(Some(why)),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn rebase(pool: &PgPool, rebase: &Rebase) -> Result<Rebased, StoreError> {
    let mut transaction = database::begin(pool).await?;
    let row = sqlx::query("select from_epoch, to_epoch, fences from fencegate.rebase($1, $2, $3)")
        .bind(&rebase.reason)
        .bind(&rebase.who)
        .bind(rebase.expected.map(Epoch::get))
        .fetch_one(&mut *transaction)
        .await?;
    transaction.commit().await.map_err(DatabaseError::at_commit)?;
    let epoch = |number| Epoch::new(number).ok_or_else(|| StoreError::Corrupt("the epoch".into()));
    Ok(Rebased {
        from: epoch(row.try_get("from_epoch")?)?,
        to: epoch(row.try_get("to_epoch")?)?,
        fences: row.try_get::<i64, _>("fences")?.unsigned_abs(),
    })
}

pub(super) async fn declare(
    pool: &PgPool,
    replication: Replication,
    reason: &str,
    who: &str,
) -> Result<(), StoreError> {
    let mut transaction = database::begin(pool).await?;
    sqlx::query("select fencegate.declare_replication($1, $2, $3)")
        .bind(replication.as_str())
        .bind(reason)
        .bind(who)
        .execute(&mut *transaction)
        .await?;
    Ok(transaction.commit().await.map_err(DatabaseError::at_commit)?)
}

pub(super) async fn replication(pool: &PgPool) -> Result<Replication, StoreError> {
    let found = database::optional(pool, || sqlx::query("select replication from fencegate.history")).await?;
    let found: Option<String> = found.map(|row| row.try_get(0)).transpose()?;
    let found = found.as_deref().unwrap_or("asynchronous");
    found.parse().map_err(StoreError::Corrupt)
}

pub(super) async fn audit(pool: &PgPool, limit: u32) -> Result<Vec<Audited>, StoreError> {
    let rows = database::rows(pool, || {
        sqlx::query(
            "select at, who, action, reason, from_epoch, to_epoch, was, became from fencegate.audit
              order by id desc limit $1",
        )
        .bind(i64::from(limit))
    })
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Audited {
                at: row.try_get("at")?,
                who: row.try_get("who")?,
                action: row.try_get("action")?,
                reason: row.try_get("reason")?,
                from_epoch: row.try_get("from_epoch")?,
                to_epoch: row.try_get("to_epoch")?,
                was: row.try_get("was")?,
                became: row.try_get("became")?,
            })
        })
        .collect()
}
