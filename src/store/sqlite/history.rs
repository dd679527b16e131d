//! Raising the epoch. A file that was put back from a copy cannot be told from the one that it was.

use sqlx::Row;

use super::{moment, now};
use crate::{
    database::{DatabaseError, sqlite::SqliteFile},
    store::{
        StoreError,
        history::{Audited, Rebase, Rebased},
    },
    token::{Epoch, HolderHash},
};

pub(super) async fn rebase(file: &SqliteFile, rebase: &Rebase) -> Result<Rebased, StoreError> {
    if rebase.reason.trim().is_empty() {
        return Err(DatabaseError::Refused("a rebase needs a reason".into()).into());
    }
    let corrupt = || StoreError::Corrupt("the epoch".into());
    let mut transaction = file.begin().await?;
    let row = sqlx::query("select number, lock_kind, lock_cluster, lock_instance from epoch")
        .fetch_one(&mut *transaction)
        .await?;
    let before = super::epoch_of(&row)?;
    let from = before.epoch;
    if rebase.expected.is_some_and(|expected| expected != from) {
        return Ok(Rebased {
            from,
            to: from,
            fences: 0,
        });
    }
    // Never a number that a history which was lost may have had.
    let to = Epoch::new(now().max(from.get() + 1)).ok_or_else(corrupt)?;
    sqlx::query("update epoch set number = $1, lock_kind = null, lock_cluster = null, lock_instance = null")
        .bind(to.get())
        .execute(&mut *transaction)
        .await?;
    let marked = sqlx::query("update fence set epoch = $1, sequence = 1, holder = $2, sealed_at = $3")
        .bind(to.get())
        .bind(HolderHash::of_nobody().as_bytes().as_slice())
        .bind(now())
        .execute(&mut *transaction)
        .await?;
    sqlx::query(
        "insert into audit (at, who, action, reason, from_epoch, to_epoch, was, became)
         values ($1, $2, 'rebase', $3, $4, $5, $6, $7)",
    )
    .bind(now())
    .bind(&rebase.who)
    .bind(&rebase.reason)
    .bind(from.get())
    .bind(to.get())
    .bind(
        before
            .bound
            .map_or_else(|| "no lock service".to_owned(), |bound| bound.to_string()),
    )
    .bind("whichever lock service grants next")
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(Rebased {
        from,
        to,
        fences: marked.rows_affected(),
    })
}

pub(super) async fn audit(file: &SqliteFile, limit: u32) -> Result<Vec<Audited>, StoreError> {
    let rows = sqlx::query(
        "select at, who, action, reason, from_epoch, to_epoch, was, became from audit order by id desc limit $1",
    )
    .bind(limit)
    .fetch_all(file.pool())
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Audited {
                at: moment(row.try_get("at")?)?,
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
