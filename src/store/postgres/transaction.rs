//! Transactions of one client, which commit by themselves.
//!
//! All fences are entered in their order, then all rows are locked in theirs, which is that of the batches of group
//! commit. A batch with conditions leaves that order where a record is made meanwhile, so nothing here waits for
//! as long as Postgres takes to find a deadlock: the transaction gives everything up and begins again, and no
//! batch ever pays for it.

use std::{collections::BTreeMap, time::Duration};

use sqlx::{PgConnection, PgPool, Row};
use tokio::{sync::Semaphore, time::Instant};

use super::once;
use crate::{
    database::{DatabaseError, postgres as database},
    guard::postgres as guard,
    store::{
        Done, Once, StoreError, Transaction, Value, Version,
        transaction::{Place, State},
    },
};

/// How long one lock is waited for, in milliseconds: less than the second after which Postgres looks for deadlocks.
const LOCK_TIMEOUT: &str = "300";
/// How long a transaction is begun again, behind seals and other writers.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest pause between two beginnings.
const PAUSE_MS: u64 = 20;

/// How many wait for their turn before more are turned away.
const QUEUE: usize = 1024;

/// Runs transactions on half of a pool's connections: however many there are, and wait for each other's records, reads,
/// grants and renewals have the other half.
pub(super) struct Transactions {
    pool: PgPool,
    turns: Semaphore,
    room: Semaphore,
}

impl Transactions {
    pub(super) fn new(pool: PgPool) -> Self {
        let turns = (pool.options().get_max_connections() as usize / 2).max(1);
        Self {
            pool,
            turns: Semaphore::new(turns),
            room: Semaphore::new(turns + QUEUE),
        }
    }

    /// Does all of it, or nothing.
    ///
    /// # Errors
    /// [`DatabaseError::Overloaded`] where too many wait, or for too long.
    pub(super) async fn run(
        &self,
        transaction: &Transaction,
        once: Option<&Once>,
    ) -> Result<Done, StoreError> {
        let overloaded = || StoreError::from(DatabaseError::Overloaded);
        let _room = self.room.try_acquire().map_err(|_| overloaded())?;
        let turn = tokio::time::timeout(PATIENCE, self.turns.acquire()).await;
        let _turn = turn.map_err(|_| overloaded())?;
        run(&self.pool, transaction, once).await
    }
}

async fn run(pool: &PgPool, transaction: &Transaction, once: Option<&Once>) -> Result<Done, StoreError> {
    if let Some(fence) = transaction.without_token().first() {
        return Err(StoreError::TokenMissing((*fence).clone()));
    }
    let give_up = Instant::now() + PATIENCE;
    loop {
        match attempt(pool, transaction, once).await {
            Err(StoreError::Database(DatabaseError::Conflict(_))) if Instant::now() < give_up => {
                // Two that met do not meet again.
                let pause = u64::from(uuid::Uuid::new_v4().as_bytes()[0]) % PAUSE_MS + 1;
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            done => return done,
        }
    }
}

async fn attempt(pool: &PgPool, transaction: &Transaction, once: Option<&Once>) -> Result<Done, StoreError> {
    let mut connection = database::begin(pool).await?;
    // The rows are found by their key, whatever the planner believes of a table that has just grown.
    sqlx::query(
        "select set_config('lock_timeout', $1, true), set_config('enable_seqscan', 'off', true),
                set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)",
    )
    .bind(LOCK_TIMEOUT)
    .execute(&mut *connection)
    .await?;
    // Before the guard: what has happened has, also under a token that is stale by now.
    if let Some(once) = once
        && let Some(done) = once::begin(&mut connection, transaction, once).await?
    {
        // What was found is perhaps not on the standbys yet, since whoever did it was ended while it waited for them.
        database::commit_after_what_was_seen(connection).await?;
        return Ok(done);
    }
    for (fence, token) in &transaction.tokens {
        guard::enter(&mut connection, fence, token).await?;
    }
    let mut records = lock(&mut connection, transaction).await?;
    let versions = draw(&mut connection, transaction.versions()).await?;
    let written = transaction.apply(&mut records, versions.into_iter())?;
    write(&mut connection, transaction, &records).await?;
    if let Some(once) = once {
        once::end(&mut connection, once, &written).await?;
    }
    connection.commit().await.map_err(DatabaseError::at_commit)?;
    Ok(Done {
        written,
        replayed: false,
    })
}

/// Locks the rows in their order, and reads them. A record that is not there gets a row that holds its place, which
/// nobody sees: what becomes of it is decided before the commit.
async fn lock(
    connection: &mut PgConnection,
    transaction: &Transaction,
) -> Result<BTreeMap<Place, State>, StoreError> {
    let reads = transaction.reads();
    let (fences, keys): (Vec<_>, Vec<_>) = reads
        .keys()
        .map(|(fence, key)| (fence.as_str(), key.as_str()))
        .unzip();
    sqlx::query(
        "insert into fencegate.record (fence, key, value, content_type, version, epoch, sequence)
         select w.fence, w.key, '', '', 0, 0, 0 from unnest($1::text[], $2::text[]) with ordinality w(fence, key, n)
          order by w.n
         on conflict (fence, key) do update set version = 0 where false",
    )
    .bind(&fences)
    .bind(&keys)
    .execute(&mut *connection)
    .await?;
    let rows = sqlx::query(
        "select r.version, case when w.reads then r.value end as value, r.content_type
           from unnest($1::text[], $2::text[], $3::boolean[]) with ordinality w(fence, key, reads, n)
           join fencegate.record r on r.fence = w.fence and r.key = w.key
          order by w.n",
    )
    .bind(&fences)
    .bind(&keys)
    .bind(reads.values().copied().collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    if rows.len() != reads.len() {
        return Err(StoreError::Corrupt(
            "a record that was locked is not there".into(),
        ));
    }
    let mut records = BTreeMap::new();
    for (place, row) in reads.into_keys().zip(rows) {
        let version: i64 = row.try_get("version")?;
        let bytes: Option<Vec<u8>> = row.try_get("value")?;
        let state = match (version, bytes) {
            (0, _) => State::default(),
            (version, bytes) => State {
                version: Some(Version(version)),
                value: match bytes {
                    Some(bytes) => Some(Value {
                        bytes,
                        content_type: row.try_get("content_type")?,
                    }),
                    None => None,
                },
            },
        };
        records.insert(place, state);
    }
    Ok(records)
}

/// Versions above all that the locked rows have had.
async fn draw(connection: &mut PgConnection, count: usize) -> Result<Vec<Version>, StoreError> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let mut versions: Vec<i64> =
        sqlx::query_scalar("select nextval('fencegate.record_version') from generate_series(1, $1)")
            .bind(i32::try_from(count).unwrap_or(i32::MAX))
            .fetch_all(connection)
            .await?;
    versions.sort_unstable();
    Ok(versions.into_iter().map(Version).collect())
}

/// Writes down how each record ends. Their rows are locked already, so their order does not matter any more.
async fn write(
    connection: &mut PgConnection,
    transaction: &Transaction,
    records: &BTreeMap<Place, State>,
) -> Result<(), StoreError> {
    let (mut gone, mut stay) = ((Vec::new(), Vec::new()), Vec::new());
    for ((fence, key), state) in records {
        match (state, transaction.tokens.get(fence)) {
            (
                State {
                    version: Some(version),
                    value: Some(value),
                },
                Some(token),
            ) => {
                stay.push((fence.as_str(), key.as_str(), value, version.0, token));
            }
            _ => {
                gone.0.push(fence.as_str());
                gone.1.push(key.as_str());
            }
        }
    }
    if !stay.is_empty() {
        sqlx::query(
            "update fencegate.record r
                set value = w.value, content_type = w.content_type, version = w.version, epoch = w.epoch,
                    sequence = w.sequence, updated_at = clock_timestamp()
               from unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[])
                    w(fence, key, value, content_type, version, epoch, sequence)
              where r.fence = w.fence and r.key = w.key",
        )
        .bind(stay.iter().map(|row| row.0).collect::<Vec<_>>())
        .bind(stay.iter().map(|row| row.1).collect::<Vec<_>>())
        .bind(stay.iter().map(|row| &row.2.bytes[..]).collect::<Vec<_>>())
        .bind(stay.iter().map(|row| row.2.content_type.as_str()).collect::<Vec<_>>())
        .bind(stay.iter().map(|row| row.3).collect::<Vec<_>>())
        .bind(stay.iter().map(|row| row.4.epoch.get()).collect::<Vec<_>>())
        .bind(stay.iter().map(|row| row.4.sequence.get()).collect::<Vec<_>>())
        .execute(&mut *connection)
        .await?;
    }
    if !gone.0.is_empty() {
        sqlx::query(
            "delete from fencegate.record r using unnest($1::text[], $2::text[]) w(fence, key)
              where r.fence = w.fence and r.key = w.key",
        )
        .bind(gone.0)
        .bind(gone.1)
        .execute(connection)
        .await?;
    }
    Ok(())
}
