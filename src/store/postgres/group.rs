//! Group commit: the writes that arrive while a commit is under way are gathered, applied in one statement, and
//! answered each on its own.
//!
//! Postgres commits one row at a time only so often, however many clients wait. There is no timer: a write that
//! finds nothing under way leaves at once. Records are spread over a few lanes, so that the next batch is gathered and
//! applied while one is flushed, and the writes of one record keep their order.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, OnceLock},
    time::Duration,
};

use sqlx::{Connection, PgPool, Postgres, pool::PoolConnection, postgres::PgRow};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tracing::Instrument;

use super::{
    batch::{Batch, Verdicts},
    seen::Seen,
};
use crate::{
    SPANS,
    database::{DatabaseError, postgres::is_dead_connection},
    name::FenceName,
    store::{
        Change, StoreError, Write, Written,
        watch::{self, BatchWatch},
    },
};

/// How writes are gathered.
#[derive(Debug, Clone)]
pub struct Batches {
    /// How many are under way at once, each on a connection of its own. Defaults to 2.
    pub lanes: usize,
    /// The most writes in one. Defaults to 512. With 1, every write has its own transaction.
    pub items: usize,
}

impl Default for Batches {
    fn default() -> Self {
        Self { lanes: 2, items: 512 }
    }
}

/// How many writes wait, in all lanes together, before more are turned away.
const QUEUE: usize = 8192;
/// The most bytes of values in a batch, unless one alone has more.
const BYTES: usize = 4 * 1024 * 1024;
/// The pause before a fence that is being sealed is tried again.
const PAUSE: Duration = Duration::from_millis(2);
/// How long a write goes on being tried. A seal holds writes up for far less.
const PATIENCE: Duration = Duration::from_secs(20);
/// A connection that was idle for longer is asked first whether it lives, so that a write is not sent into the void
/// and its outcome unknown.
const FRESH: Duration = Duration::from_millis(100);

/// A write that waits for its answer.
pub(super) struct Item {
    pub(super) write: Write,
    answer: oneshot::Sender<Result<Written, StoreError>>,
    give_up: Instant,
}

impl Item {
    pub(super) fn bytes(&self) -> usize {
        match &self.write.change {
            Change::Put(value) => value.bytes.len(),
            Change::Delete | Change::Merge(_) => 0,
        }
    }

    pub(super) fn tell(self, result: Result<Written, StoreError>) {
        // Whoever asked may have gone.
        let _ = self.answer.send(result);
    }
}

/// The lanes. They end when this is dropped and what is in them is done.
pub(super) struct Group {
    pool: PgPool,
    batches: Batches,
    lanes: OnceLock<Vec<mpsc::Sender<Item>>>,
    watch: Arc<OnceLock<BatchWatch>>,
    seen: Arc<Seen>,
}

impl Group {
    pub(super) fn new(pool: PgPool, batches: Batches) -> Self {
        Self {
            pool,
            batches,
            lanes: OnceLock::new(),
            watch: Arc::default(),
            seen: Arc::default(),
        }
    }

    /// Has each batch told, if nobody else has asked for it.
    pub(super) fn watch(&self, watch: BatchWatch) {
        // The first one stays.
        let _ = self.watch.set(watch);
    }

    /// How many writes wait for their batch.
    pub(super) fn queued(&self) -> usize {
        let lanes = self.lanes.get().map(Vec::as_slice).unwrap_or_default();
        lanes
            .iter()
            .map(|lane| lane.max_capacity() - lane.capacity())
            .sum()
    }

    /// Writes with the next batch.
    ///
    /// # Cancel safety
    /// The write may or may not happen.
    pub(super) async fn write(&self, write: Write) -> Result<Written, StoreError> {
        if let Some(refusal) = self.seen.refuse(&write.fence, &write.token) {
            return Err(StoreError::Refused(Box::new(refusal)));
        }
        let lanes = self.lanes.get_or_init(|| {
            let lanes = 0..self.batches.lanes.max(1);
            lanes.map(|_| Lane::start(self)).collect()
        });
        let mut hasher = DefaultHasher::new();
        (&write.fence, &write.key).hash(&mut hasher);
        let lane = &lanes[hasher.finish() as usize % lanes.len()];
        let (answer, answered) = oneshot::channel();
        let item = Item {
            write,
            answer,
            give_up: Instant::now() + PATIENCE,
        };
        if lane.try_send(item).is_err() {
            return Err(DatabaseError::Overloaded.into());
        }
        // A lane that is gone took the write with it, at whatever point.
        let lost = || DatabaseError::OutcomeUnknown("the lane of the write ended".into()).into();
        answered.await.unwrap_or_else(|_| Err(lost()))
    }
}

/// A worker with a connection of its own.
struct Lane {
    pool: PgPool,
    /// The most writes in a batch.
    items: usize,
    seen: Arc<Seen>,
    connection: Option<(PoolConnection<Postgres>, Instant)>,
    queue: mpsc::Receiver<Item>,
    /// Next in turn, before the queue.
    ready: VecDeque<Item>,
    /// Behind a fence that is being sealed. One of them is tried with every batch, and they stall nobody else.
    parked: BTreeMap<FenceName, VecDeque<Item>>,
    /// How many may be parked, as many as may be queued.
    most: usize,
    watch: Arc<OnceLock<BatchWatch>>,
}

impl Lane {
    fn start(group: &Group) -> mpsc::Sender<Item> {
        let most = (QUEUE / group.batches.lanes.max(1)).max(1);
        let (sender, queue) = mpsc::channel(most);
        let lane = Self {
            pool: group.pool.clone(),
            items: group.batches.items.max(1),
            seen: group.seen.clone(),
            connection: None,
            queue,
            ready: VecDeque::new(),
            parked: BTreeMap::new(),
            most,
            watch: group.watch.clone(),
        };
        tokio::spawn(lane.run());
        sender
    }

    async fn run(mut self) {
        while self.wait().await {
            let probed: Vec<_> = self.parked.keys().cloned().collect();
            let (batch, later) = Batch::new(self.gather());
            let again = self.apply(batch).await;
            for item in later.into_iter().rev() {
                self.ready.push_front(item);
            }
            let busy: HashSet<_> = again.iter().map(|item| item.write.fence.clone()).collect();
            for fence in probed.into_iter().filter(|fence| !busy.contains(fence)) {
                for item in self.parked.remove(&fence).unwrap_or_default().into_iter().rev() {
                    self.ready.push_front(item);
                }
            }
            for item in again.into_iter().rev() {
                self.park_first(item);
            }
        }
    }

    /// Waits until there is something to do; `false` when there never will be again.
    async fn wait(&mut self) -> bool {
        if !self.ready.is_empty() || !self.queue.is_empty() {
            return true;
        }
        let next = if self.parked.is_empty() {
            self.queue.recv().await
        } else {
            match tokio::time::timeout(PAUSE, self.queue.recv()).await {
                Ok(next) => next,
                Err(_) => return true,
            }
        };
        self.ready.extend(next);
        !self.ready.is_empty() || !self.parked.is_empty()
    }

    /// The items of the next batch: one of each parked fence, then whoever is next in turn.
    fn gather(&mut self) -> Vec<Item> {
        let mut items: Vec<Item> = Vec::new();
        for parked in self.parked.values_mut() {
            items.extend(parked.pop_front());
        }
        let mut bytes: usize = items.iter().map(Item::bytes).sum();
        let mut parked_items: usize = self.parked.values().map(VecDeque::len).sum();
        while items.len() < self.items && bytes < BYTES {
            let Some(item) = self.ready.pop_front().or_else(|| self.queue.try_recv().ok()) else {
                break;
            };
            if let Some(parked) = self.parked.get_mut(&item.write.fence) {
                // The queue is emptied past a fence that is being sealed, so it bounds nothing there.
                if parked_items < self.most {
                    parked_items += 1;
                    parked.push_back(item);
                } else {
                    item.tell(Err(DatabaseError::Overloaded.into()));
                }
            } else {
                bytes += item.bytes();
                items.push(item);
            }
        }
        items
    }

    fn park_first(&mut self, item: Item) {
        if item.give_up <= Instant::now() {
            let why = "the fence was being sealed all the while, or its records were contended";
            item.tell(Err(DatabaseError::Conflict(why.into()).into()));
        } else {
            self.parked
                .entry(item.write.fence.clone())
                .or_default()
                .push_front(item);
        }
    }

    /// Applies a batch and tells its items; answers with those that are to be tried again.
    async fn apply(&mut self, batch: Batch) -> Vec<Item> {
        let mut again = Vec::new();
        let mut batches = vec![batch];
        while let Some(batch) = batches.pop() {
            if batch.is_empty() {
                continue;
            }
            let (writes, began) = (batch.len(), Instant::now());
            let span = tracing::debug_span!(target: SPANS, "batch", writes);
            let executed = self.execute(&batch).instrument(span).await;
            if let Some(watch) = self.watch.get() {
                let took = began.elapsed();
                watch.tell(&watch::Batch { writes, took });
            }
            match executed {
                Ok(rows) => match Verdicts::read(&rows) {
                    Ok(verdicts) => again.extend(verdicts.tell(batch, &self.seen)),
                    Err(error) => batch.tell_all(|| StoreError::Corrupt(error.to_string())),
                },
                // One of them cannot be stored: find out which, and let the others pass.
                Err(DatabaseError::Refused(_) | DatabaseError::NotPermitted(_)) if batch.len() > 1 => {
                    let (first, second) = batch.split();
                    batches.extend([second, first]);
                }
                Err(DatabaseError::Conflict(_)) => again.extend(batch.into_items()),
                Err(error) => batch.tell_all(|| error.clone().into()),
            }
        }
        again
    }

    async fn execute(&mut self, batch: &Batch) -> Result<Vec<PgRow>, DatabaseError> {
        let mut connection = self.connection().await?;
        match batch.query().fetch_all(&mut *connection).await {
            Ok(rows) => {
                self.connection = Some((connection, Instant::now()));
                Ok(rows)
            }
            Err(error) => {
                // One whose session was ended would fail the next batch, before it is sent.
                if matches!(error, sqlx::Error::Database(_)) && !is_dead_connection(&error) {
                    self.connection = Some((connection, Instant::now()));
                }
                Err(DatabaseError::at_commit(error))
            }
        }
    }

    /// A connection that lives, and whose transactions are read committed unless they say otherwise.
    async fn connection(&mut self) -> Result<PoolConnection<Postgres>, DatabaseError> {
        if let Some((mut connection, used)) = self.connection.take()
            && (used.elapsed() < FRESH || connection.ping().await.is_ok())
        {
            return Ok(connection);
        }
        let mut tries = self.pool.options().get_max_connections();
        loop {
            let mut connection = self.pool.acquire().await?;
            let prepared =
                sqlx::query("set session characteristics as transaction isolation level read committed")
                    .execute(&mut *connection)
                    .await;
            match prepared {
                Ok(_) => return Ok(connection),
                Err(error) if tries > 0 && is_dead_connection(&error) => tries -= 1,
                Err(error) => return Err(error.into()),
            }
        }
    }
}
