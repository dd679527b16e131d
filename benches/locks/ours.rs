//! fencegate's side: workers that acquire and release, through a lock service alone or through the whole of a grant.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use fencegate::{
    FenceName, Holder, Locks, Options,
    lock::{LockService, Request},
};
use tokio::task::JoinSet;

use crate::support::Postgres;

pub type Service = Arc<dyn LockService>;

const TTL: Duration = Duration::from_secs(10);
const WAIT: Duration = Duration::from_secs(60);

/// Who wants what.
#[derive(Clone, Copy)]
pub struct Load {
    pub workers: usize,
    /// Whether all want the same lock, and not one each.
    pub one: bool,
}

impl Load {
    pub fn lock(&self, worker: usize) -> String {
        format!("bench{}", if self.one { 0 } else { worker })
    }

    fn name(&self, worker: usize) -> FenceName {
        self.lock(worker).parse().expect("a fence's name")
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let locks = if self.one { "one lock" } else { "a lock each" };
        write!(f, "{} workers, {locks}", self.workers)
    }
}

/// Cycles a second with the lock alone.
pub async fn cycles(service: &Service, load: Load, time: Duration) -> f64 {
    let service = service.clone();
    work(load, time, move |worker| {
        let (service, name) = (service.clone(), load.name(worker));
        async move {
            let request = Request {
                name,
                holder: Holder::random(),
                label: String::new(),
                ttl: TTL,
                wait: WAIT,
                floor: 0,
            };
            let held = service.acquire(&request).await.expect("acquired");
            service.release(&held.claim).await.expect("released");
        }
    })
    .await
}

/// A server with the store's tables.
pub async fn store() -> Postgres {
    Postgres::builder().durable().start().await
}

/// A lock service over a store: whole grants.
pub struct Sealed(Locks);

impl Sealed {
    /// Each in a database of its own, as a store belongs to one lock service.
    pub async fn new(store: &Postgres, locks: &str) -> Self {
        let url = store.create_database().await;
        let locks = fencegate::connect(&url, Some(locks)).await.expect("usable URLs");
        locks.migrate().await.expect("migrated");
        Self(locks)
    }

    /// Cycles a second.
    pub async fn cycles(&self, load: Load, time: Duration) -> f64 {
        let locks = self.0.clone();
        work(load, time, move |worker| {
            let (locks, name) = (locks.clone(), load.name(worker));
            async move {
                let options = Options {
                    ttl: TTL,
                    wait: WAIT,
                    ..Options::default()
                };
                let lease = locks.acquire_with(name, options).await.expect("acquired");
                lease.release().await.expect("released");
            }
        })
        .await
    }
}

/// How many cycles a second all workers do together.
async fn work<F>(load: Load, time: Duration, cycle: impl Fn(usize) -> F + Clone + Send + 'static) -> f64
where
    F: Future<Output = ()> + Send,
{
    let (mut workers, begun) = (JoinSet::new(), Instant::now());
    for worker in 0..load.workers {
        let cycle = cycle.clone();
        workers.spawn(async move {
            let mut cycles = 0_u32;
            while begun.elapsed() < time {
                cycle(worker).await;
                cycles += 1;
            }
            f64::from(cycles)
        });
    }
    let cycles: f64 = workers.join_all().await.into_iter().sum();
    cycles / begun.elapsed().as_secs_f64()
}
