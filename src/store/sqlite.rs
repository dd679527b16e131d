//! The store in an SQLite file: for one machine, and for trying things out.

mod history;
mod once;
mod transaction;

use std::{fmt, path::PathBuf};

use async_trait::async_trait;
use sqlx::{Row, sqlite::SqliteRow};
use time::OffsetDateTime;

use super::{
    Audited, Done, EpochState, FenceState, Listed, Once, Pressure, Rebase, Rebased, Record, SealOutcome,
    Store, StoreError, Transaction, Value, Version, Write, Written,
    transaction::{after_all, the_only_one},
};
use crate::{
    database::sqlite::SqliteFile,
    guard::sqlite as guard,
    lock::Identity,
    name::{FenceName, RecordKey},
    rejections::{Noted, Rejection},
    rule::{self, Verdict},
    token::{Epoch, HolderHash, Mark},
};

/// Marks and records in an SQLite file.
pub struct SqliteStore {
    file: SqliteFile,
    path: PathBuf,
}

impl SqliteStore {
    /// A store in this file, which is at `path`.
    pub fn new(file: SqliteFile, path: impl Into<PathBuf>) -> Self {
        Self {
            file,
            path: path.into(),
        }
    }

    /// The file.
    pub fn file(&self) -> &SqliteFile {
        &self.file
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn describe(&self) -> String {
        format!("sqlite file {}", self.path.display())
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        Ok(()) // Opening the file did.
    }

    async fn check(&self) -> Result<(), StoreError> {
        sqlx::query("select number from epoch")
            .fetch_one(self.file.pool())
            .await?;
        Ok(())
    }

    async fn epoch(&self) -> Result<EpochState, StoreError> {
        let row = sqlx::query("select number, lock_kind, lock_cluster, lock_instance from epoch")
            .fetch_one(self.file.pool())
            .await?;
        epoch_of(&row)
    }

    async fn bind(&self, identity: &Identity) -> Result<EpochState, StoreError> {
        let mut transaction = self.file.begin().await?;
        sqlx::query(
            "update epoch set lock_kind = $1, lock_cluster = $2, lock_instance = $3 where lock_kind is null",
        )
        .bind(identity.kind.as_str())
        .bind(&identity.cluster)
        .bind(identity.instance.to_string())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        self.epoch().await
    }

    async fn rebase(&self, rebase: &Rebase) -> Result<Rebased, StoreError> {
        history::rebase(&self.file, rebase).await
    }

    async fn audit(&self, limit: u32) -> Result<Vec<Audited>, StoreError> {
        history::audit(&self.file, limit).await
    }

    async fn fence(&self, name: &FenceName) -> Result<Option<FenceState>, StoreError> {
        let row = sqlx::query("select name, epoch, sequence, holder, sealed_at from fence where name = $1")
            .bind(name.as_str())
            .fetch_optional(self.file.pool())
            .await?;
        row.map(|row| fence_of(&row)).transpose()
    }

    async fn fences(&self, prefix: &str, after: &str, limit: u32) -> Result<Vec<FenceState>, StoreError> {
        let rows = sqlx::query(
            "select name, epoch, sequence, holder, sealed_at from fence
              where name >= $1 and substr(name, 1, length($1)) = $1 and name > $2
              order by name limit $3",
        )
        .bind(prefix)
        .bind(after)
        .bind(limit)
        .fetch_all(self.file.pool())
        .await?;
        rows.iter().map(fence_of).collect()
    }

    async fn seal(&self, name: &FenceName, token: &Mark) -> Result<SealOutcome, StoreError> {
        let mut transaction = self.file.begin().await?;
        let current: i64 = sqlx::query("select number from epoch")
            .fetch_one(&mut *transaction)
            .await?
            .try_get(0)?;
        if current != token.epoch.get() {
            let current = Epoch::new(current);
            return Ok(SealOutcome::EpochChanged(
                current.ok_or_else(|| StoreError::Corrupt("the epoch".into()))?,
            ));
        }
        let mark = guard::mark(&mut transaction, name).await?;
        match (rule::admit(mark.as_ref(), token, true), mark) {
            (Verdict::Admit, _) => return Ok(SealOutcome::Sealed),
            (Verdict::Refuse(_), Some(mark)) => return Ok(SealOutcome::NotHigher(mark)),
            (Verdict::Seal | Verdict::Refuse(_), _) => {}
        }
        sqlx::query(
            "insert into fence (name, epoch, sequence, holder, sealed_at) values ($1, $2, $3, $4, $5)
             on conflict (name) do update set epoch = excluded.epoch, sequence = excluded.sequence,
                holder = excluded.holder, sealed_at = excluded.sealed_at",
        )
        .bind(name.as_str())
        .bind(token.epoch.get())
        .bind(token.sequence.get())
        .bind(token.holder.as_bytes().as_slice())
        .bind(now())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(SealOutcome::Sealed)
    }

    async fn retire(&self, name: &FenceName, token: &Mark) -> Result<bool, StoreError> {
        let mut transaction = self.file.begin().await?;
        let retired = sqlx::query(
            "update fence set holder = $1 where name = $2 and epoch = $3 and sequence = $4 and holder = $5",
        )
        .bind(HolderHash::of_nobody().as_bytes().as_slice())
        .bind(name.as_str())
        .bind(token.epoch.get())
        .bind(token.sequence.get())
        .bind(token.holder.as_bytes().as_slice())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(retired.rows_affected() == 1)
    }

    async fn records(
        &self,
        fence: &FenceName,
        prefix: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Listed>, StoreError> {
        let rows = sqlx::query(
            "select key, version, content_type, length(value) as length, updated_at from record
              where fence = $1 and key >= $2 and key < $3 and key > $4
              order by key limit $5",
        )
        .bind(fence.as_str())
        .bind(prefix)
        .bind(after_all(prefix))
        .bind(after)
        .bind(limit)
        .fetch_all(self.file.pool())
        .await?;
        rows.iter().map(listed_of).collect()
    }

    async fn read(&self, fence: &FenceName, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        let row = sqlx::query(
            "select value, content_type, version, updated_at from record where fence = $1 and key = $2",
        )
        .bind(fence.as_str())
        .bind(key.as_str())
        .fetch_optional(self.file.pool())
        .await?;
        row.map(|row| {
            Ok(Record {
                value: Value {
                    bytes: row.try_get("value")?,
                    content_type: row.try_get("content_type")?,
                },
                version: Version(row.try_get("version")?),
                updated_at: moment(row.try_get("updated_at")?)?,
            })
        })
        .transpose()
    }

    async fn write(&self, write: Write) -> Result<Written, StoreError> {
        the_only_one(transaction::run(&self.file, &Transaction::from(write), None).await)
    }

    async fn note_rejections(&self, noted: &[Noted]) -> Result<(), StoreError> {
        let mut transaction = self.file.begin().await?;
        for noted in noted {
            let at = (noted.at.unix_timestamp_nanos() / 1_000_000) as i64;
            sqlx::query(
                "insert into rejection (at, fence, reason, presented, mark, late, source, who, count)
                 values ($1, $2, $3, $4, $5,
                         (select $1 - sealed_at from fence where name = $2 and epoch || '-' || sequence = $5),
                         $6, $7, $8)",
            )
            .bind(at)
            .bind(noted.fence.as_str())
            .bind(noted.reason.as_str())
            .bind(&noted.presented)
            .bind(&noted.mark)
            .bind(noted.source.as_str())
            .bind(&noted.who)
            .bind(i64::try_from(noted.count).unwrap_or(i64::MAX))
            .execute(&mut *transaction)
            .await?;
        }
        sqlx::query("delete from rejection where id <= (select max(id) from rejection) - 10000")
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    async fn rejections(
        &self,
        fence: Option<&FenceName>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Rejection>, StoreError> {
        let rows = sqlx::query(
            "select id, at, fence, reason, presented, mark, late, source, who, count from rejection
              where ($1 is null or fence = $1) and id < $2 order by id desc limit $3",
        )
        .bind(fence.map(FenceName::as_str))
        .bind(before.unwrap_or(i64::MAX))
        .bind(limit)
        .fetch_all(self.file.pool())
        .await?;
        rows.iter().map(rejection_of).collect()
    }

    async fn transact(&self, transaction: &Transaction, once: Option<&Once>) -> Result<Done, StoreError> {
        transaction::run(&self.file, transaction, once).await
    }

    async fn forget_keys(&self) -> Result<u64, StoreError> {
        once::forget(&self.file).await
    }

    fn pressure(&self) -> Pressure {
        let pool = self.file.pool();
        let (all, idle) = (pool.size() as usize, pool.num_idle());
        Pressure {
            queued: 0,
            busy: all.saturating_sub(idle),
            idle,
        }
    }
}

/// Milliseconds since 1970: for people, never compared.
fn now() -> i64 {
    (OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000) as i64
}

fn moment(ms: i64) -> Result<OffsetDateTime, StoreError> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .map_err(|_| StoreError::Corrupt(format!("a time of {ms} ms")))
}

fn epoch_of(row: &SqliteRow) -> Result<EpochState, StoreError> {
    let number: i64 = row.try_get("number")?;
    let kind: Option<String> = row.try_get("lock_kind")?;
    let bound = kind
        .map(|kind| {
            let instance: String = row.try_get("lock_instance")?;
            Ok::<_, StoreError>(Identity {
                kind: kind
                    .parse()
                    .map_err(|()| StoreError::Corrupt(format!("a lock service of kind {kind:?}")))?,
                cluster: row.try_get("lock_cluster")?,
                instance: instance
                    .parse()
                    .map_err(|_| StoreError::Corrupt("a lock service's number".into()))?,
            })
        })
        .transpose()?;
    let epoch = Epoch::new(number).ok_or_else(|| StoreError::Corrupt(format!("an epoch of {number}")))?;
    Ok(EpochState { epoch, bound })
}

fn listed_of(row: &SqliteRow) -> Result<Listed, StoreError> {
    let key: String = row.try_get("key")?;
    Ok(Listed {
        key: key
            .parse()
            .map_err(|_| StoreError::Corrupt(format!("a record under {key:?}")))?,
        version: Version(row.try_get("version")?),
        content_type: row.try_get("content_type")?,
        length: row.try_get::<i64, _>("length")?.unsigned_abs(),
        updated_at: moment(row.try_get("updated_at")?)?,
    })
}

fn fence_of(row: &SqliteRow) -> Result<FenceState, StoreError> {
    let name: String = row.try_get("name")?;
    Ok(FenceState {
        mark: guard::mark_of(row)?,
        name: name
            .parse()
            .map_err(|_| StoreError::Corrupt(format!("a fence named {name:?}")))?,
        sealed_at: moment(row.try_get("sealed_at")?)?,
    })
}

fn rejection_of(row: &SqliteRow) -> Result<Rejection, StoreError> {
    let late: Option<i64> = row.try_get("late")?;
    Ok(Rejection {
        id: row.try_get("id")?,
        at: moment(row.try_get("at")?)?,
        fence: row.try_get("fence")?,
        reason: row.try_get("reason")?,
        presented: row.try_get("presented")?,
        mark: row.try_get("mark")?,
        late: late.map(|ms| std::time::Duration::from_millis(ms.max(0).unsigned_abs())),
        source: row.try_get("source")?,
        who: row.try_get("who")?,
        relation: None,
        count: row.try_get("count")?,
    })
}
