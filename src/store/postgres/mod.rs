//! The store in Postgres.

mod batch;
mod group;
mod history;
mod once;
mod rejections;
mod seen;
mod transaction;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use sqlx::{PgConnection, PgPool, Row, postgres::PgRow};

pub use self::group::Batches;
use self::{group::Group, transaction::Transactions};
use super::{
    Audited, BatchWatch, Change, Done, EpochState, FenceState, Listed, Once, Pressure, Rebase, Rebased,
    Record, Replication, SealOutcome, Store, StoreError, Transaction, Value, Version, Write, Written,
    transaction::{after_all, the_only_one},
};
use crate::{
    database::{DatabaseError, postgres as database},
    guard::read_mark,
    lock::Identity,
    name::{FenceName, RecordKey},
    rejections::{Noted, Rejection},
    token::{Epoch, Mark},
};

/// How long a seal waits for the transactions of older holders before it ends their sessions.
const GRACE: Duration = Duration::from_millis(500);

/// Marks and records in the schema `fencegate` of a Postgres database.
pub struct PostgresStore {
    group: Group,
    transactions: Transactions,
    pool: PgPool,
    grace: Duration,
}

impl PostgresStore {
    /// A store on this pool, which should be the store's own. Nothing is asked of the database yet.
    ///
    /// If the future of a `pool.begin()` is dropped half way, sqlx gives its connection back inside a transaction that
    /// nobody knows of. What the store does on that connection is then answered, and not committed: a mark that was not
    /// raised, a record that was not written. [`connect`](crate::connect()) makes a pool of its own, whose transactions
    /// are begun with care.
    pub fn new(pool: PgPool) -> Self {
        Self::with_batches(pool, Batches::default())
    }

    /// A store on this pool that gathers writes in another way.
    pub fn with_batches(pool: PgPool, batches: Batches) -> Self {
        Self {
            group: Group::new(pool.clone(), batches),
            transactions: Transactions::new(pool.clone()),
            pool,
            grace: GRACE,
        }
    }

    /// The pool.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Calls what ends the older transactions of a fence: a seal, or a retirement.
    async fn close(&self, sql: &'static str, name: &FenceName, token: &Mark) -> Result<PgRow, StoreError> {
        let row = database::by_itself(&self.pool, || {
            sqlx::query(sql)
                .bind(name.as_str())
                .bind(token.epoch.get())
                .bind(token.sequence.get())
                .bind(token.holder.as_bytes().as_slice())
                .bind(self.grace)
        });
        Ok(row.await?)
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

#[async_trait]
impl Store for PostgresStore {
    fn describe(&self) -> String {
        let options = self.pool.connect_options();
        let database = options.get_database().unwrap_or("the default database");
        format!(
            "postgres {database} at {}:{}",
            options.get_host(),
            options.get_port()
        )
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        Ok(database::migrate(&self.pool).await?)
    }

    async fn check(&self) -> Result<(), StoreError> {
        Ok(database::check_migrated(&self.pool).await?)
    }

    async fn epoch(&self) -> Result<EpochState, StoreError> {
        let row = database::one(&self.pool, || {
            sqlx::query(
                "select number, lock_kind, lock_cluster, lock_instance from fencegate.current_epoch()",
            )
        })
        .await?;
        epoch_of(&row)
    }

    async fn bind(&self, identity: &Identity) -> Result<EpochState, StoreError> {
        let mut transaction = database::begin(&self.pool).await?;
        make_durable(&mut transaction).await?;
        sqlx::query(
            "update fencegate.epoch
                set lock_kind = $1, lock_cluster = $2, lock_instance = $3, bound_at = clock_timestamp()
              where lock_kind is null",
        )
        .bind(identity.kind.as_str())
        .bind(&identity.cluster)
        .bind(identity.instance)
        .execute(&mut *transaction)
        .await?;
        let row = sqlx::query("select number, lock_kind, lock_cluster, lock_instance from fencegate.epoch")
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await.map_err(DatabaseError::at_commit)?;
        epoch_of(&row)
    }

    async fn epoch_as_stored(&self) -> Result<EpochState, StoreError> {
        history::epoch_as_stored(&self.pool).await
    }

    async fn quarantine(&self) -> Result<Option<String>, StoreError> {
        history::quarantine(&self.pool).await
    }

    async fn rebase(&self, rebase: &Rebase) -> Result<Rebased, StoreError> {
        history::rebase(&self.pool, rebase).await
    }

    async fn replication(&self) -> Result<Option<Replication>, StoreError> {
        Ok(Some(history::replication(&self.pool).await?))
    }

    async fn declare(&self, replication: Replication, reason: &str, who: &str) -> Result<(), StoreError> {
        history::declare(&self.pool, replication, reason, who).await
    }

    async fn audit(&self, limit: u32) -> Result<Vec<Audited>, StoreError> {
        history::audit(&self.pool, limit).await
    }

    async fn fence(&self, name: &FenceName) -> Result<Option<FenceState>, StoreError> {
        let row = database::optional(&self.pool, || {
            sqlx::query(
                "select name, epoch, sequence, holder, sealed_at from fencegate.fence where name = $1",
            )
            .bind(name.as_str())
        })
        .await?;
        row.map(|row| fence_of(&row)).transpose()
    }

    async fn fences(&self, prefix: &str, after: &str, limit: u32) -> Result<Vec<FenceState>, StoreError> {
        let rows = database::rows(&self.pool, || {
            sqlx::query(
                "select name, epoch, sequence, holder, sealed_at from fencegate.fence
              where name >= $1 and starts_with(name, $1) and name > $2
              order by name limit $3",
            )
            .bind(prefix)
            .bind(after)
            .bind(i64::from(limit))
        })
        .await?;
        rows.iter().map(fence_of).collect()
    }

    async fn seal(&self, name: &FenceName, token: &Mark) -> Result<SealOutcome, StoreError> {
        let seal = "select sealed, current_epoch from fencegate.seal($1, $2, $3, $4, $5)";
        let row = self.close(seal, name, token).await?;
        let current = row.try_get("current_epoch")?;
        if row.try_get("sealed")? {
            return Ok(SealOutcome::Sealed);
        }
        let corrupt = |what: &str| StoreError::Corrupt(what.into());
        if current != token.epoch.get() {
            let current = Epoch::new(current).ok_or_else(|| corrupt("the epoch"))?;
            return Ok(SealOutcome::EpochChanged(current));
        }
        // Looked at anew: the statement may have begun before whoever sealed it did.
        let against = self
            .fence(name)
            .await?
            .ok_or_else(|| corrupt("a seal that no mark stands against"))?;
        Ok(SealOutcome::NotHigher(against.mark))
    }

    async fn retire(&self, name: &FenceName, token: &Mark) -> Result<bool, StoreError> {
        let retire = "select fencegate.retire($1, $2, $3, $4, $5)";
        let row = self.close(retire, name, token).await?;
        Ok(row.try_get(0)?)
    }

    async fn records(
        &self,
        fence: &FenceName,
        prefix: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Listed>, StoreError> {
        let rows = database::rows(&self.pool, || {
            sqlx::query(
                "select key, version, content_type, octet_length(value) as length, updated_at
                   from fencegate.record where fence = $1 and key >= $2 and key < $3 and key > $4
                  order by key limit $5",
            )
            .bind(fence.as_str())
            .bind(prefix)
            .bind(after_all(prefix))
            .bind(after)
            .bind(i64::from(limit))
        })
        .await?;
        rows.iter().map(listed_of).collect()
    }

    async fn read(&self, fence: &FenceName, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        let row = database::optional(&self.pool, || {
            sqlx::query(
                "select value, content_type, version, updated_at from fencegate.record
                  where fence = $1 and key = $2",
            )
            .bind(fence.as_str())
            .bind(key.as_str())
        })
        .await?;
        row.map(|row| {
            Ok(Record {
                value: Value {
                    bytes: row.try_get("value")?,
                    content_type: row.try_get("content_type")?,
                },
                version: Version(row.try_get("version")?),
                updated_at: row.try_get("updated_at")?,
            })
        })
        .transpose()
    }

    async fn write(&self, write: Write) -> Result<Written, StoreError> {
        match write.change {
            Change::Put(_) | Change::Delete => self.group.write(write).await,
            // It depends on what is stored, so its row is held while it is computed.
            Change::Merge(_) => the_only_one(self.transactions.run(&Transaction::from(write), None).await),
        }
    }

    async fn transact(&self, transaction: &Transaction, once: Option<&Once>) -> Result<Done, StoreError> {
        self.transactions.run(transaction, once).await
    }

    async fn forget_keys(&self) -> Result<u64, StoreError> {
        once::forget(&self.pool).await
    }

    fn pressure(&self) -> Pressure {
        let (all, idle) = (self.pool.size() as usize, self.pool.num_idle());
        Pressure {
            queued: self.group.queued(),
            busy: all.saturating_sub(idle),
            idle,
        }
    }

    fn watch_batches(&self, watch: BatchWatch) {
        self.group.watch(watch);
    }

    async fn note_rejections(&self, noted: &[Noted]) -> Result<(), StoreError> {
        rejections::note(&self.pool, noted).await
    }

    async fn rejections(
        &self,
        fence: Option<&FenceName>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Rejection>, StoreError> {
        rejections::newest(&self.pool, fence, before, limit).await
    }
}

async fn make_durable(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query("select fencegate.make_durable()")
        .execute(connection)
        .await?;
    Ok(())
}

fn epoch_of(row: &PgRow) -> Result<EpochState, StoreError> {
    let number: i64 = row.try_get("number")?;
    let kind: Option<String> = row.try_get("lock_kind")?;
    let bound = kind
        .map(|kind| {
            Ok::<_, StoreError>(Identity {
                kind: kind
                    .parse()
                    .map_err(|()| StoreError::Corrupt(format!("a lock service of kind {kind:?}")))?,
                cluster: row.try_get("lock_cluster")?,
                instance: row.try_get("lock_instance")?,
            })
        })
        .transpose()?;
    let epoch = Epoch::new(number).ok_or_else(|| StoreError::Corrupt(format!("an epoch of {number}")))?;
    Ok(EpochState { epoch, bound })
}

fn listed_of(row: &PgRow) -> Result<Listed, StoreError> {
    let key: String = row.try_get("key")?;
    Ok(Listed {
        key: key
            .parse()
            .map_err(|_| StoreError::Corrupt(format!("a record under {key:?}")))?,
        version: Version(row.try_get("version")?),
        content_type: row.try_get("content_type")?,
        length: u64::from(row.try_get::<i32, _>("length")?.unsigned_abs()),
        updated_at: row.try_get("updated_at")?,
    })
}

fn fence_of(row: &PgRow) -> Result<FenceState, StoreError> {
    let name: String = row.try_get("name")?;
    Ok(FenceState {
        mark: read_mark(
            row.try_get("epoch")?,
            row.try_get("sequence")?,
            row.try_get("holder")?,
        )?,
        name: name
            .parse()
            .map_err(|_| StoreError::Corrupt(format!("a fence named {name:?}")))?,
        sealed_at: row.try_get("sealed_at")?,
    })
}
