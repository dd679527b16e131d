//! One contract for all lock services, held against real servers. What each case means is the contract in
//! `src/lock/mod.rs`; here it is only tried.

mod cases;
mod services;

use std::{any::Any, sync::Arc, time::Duration};

use fencegate::lock::{Held, LockError, LockService, Request};
use fencegate::{FenceName, Holder};

/// A lock service with its real servers, seen through two clients that share nothing, as two processes would.
pub struct Fixture {
    pub one: Arc<dyn LockService>,
    pub other: Arc<dyn LockService>,
    /// A short time to live that the service really grants.
    pub ttl: Duration,
    /// Whether it counts on from a floor.
    pub counts: bool,
    /// Whether a process may renew what another acquired.
    pub renews_anywhere: bool,
    /// Whether a process lets another have a lock after some hand-overs, and not just by chance.
    pub lets_others: bool,
    /// Ends them when it is dropped.
    pub _servers: Box<dyn Any + Send>,
}

impl Fixture {
    /// Asks for a fence for a fresh holder, trying once.
    pub fn request(&self, name: &str) -> Request {
        Request {
            name: name.parse::<FenceName>().unwrap(),
            holder: Holder::random(),
            label: "worker-7".into(),
            ttl: self.ttl,
            wait: Duration::ZERO,
            floor: 0,
        }
    }

    /// The same, waiting for up to 20 s.
    pub fn waiting(&self, name: &str) -> Request {
        Request {
            wait: Duration::from_secs(20),
            ..self.request(name)
        }
    }
}

/// Takes a lock that must be free.
pub async fn take(service: &Arc<dyn LockService>, request: &Request) -> Held {
    service.acquire(request).await.expect("the lock is free")
}

/// Finds that a lock is taken.
pub async fn assert_busy(service: &Arc<dyn LockService>, request: &Request) {
    match service.acquire(request).await {
        Err(LockError::Busy { .. }) => {}
        other => panic!("expected the lock to be busy, not {other:?}"),
    }
}
