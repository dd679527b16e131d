//! No thundering herd: with 500 who wait for one lock, a release wakes one of them, or a few. What counts is what the
//! server was asked. ZooKeeper's and Redis's own are with the rest of theirs.

mod etcd;
mod postgres;
#[cfg(feature = "redis")]
mod redlock;

use std::time::Duration;

use fencegate::{
    Holder,
    lock::{Held, LockError, LockService, Request},
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

const WAITERS: usize = 500;
const RELEASES: usize = 10;
/// For all of them to join the queue, in a build without optimisation.
const SOON: Duration = Duration::from_secs(120);

/// A request of a fresh holder, whose lock outlives the test.
fn request(wait: Duration) -> Request {
    Request {
        name: crate::world::name("a"),
        holder: Holder::random(),
        label: String::new(),
        ttl: Duration::from_secs(600),
        wait,
        floor: 0,
    }
}

/// All of them wait, evenly over these processes; what they acquire comes out in the order in which they do.
fn crowd<L: LockService + Clone + 'static>(
    processes: &[L],
) -> UnboundedReceiver<(L, Result<Held, LockError>)> {
    let (sender, acquired) = unbounded_channel();
    for locks in processes.iter().cycle().take(WAITERS) {
        let (locks, sender) = (locks.clone(), sender.clone());
        tokio::spawn(async move {
            let held = locks.acquire(&request(Duration::from_secs(600))).await;
            let _ = sender.send((locks, held));
        });
    }
    acquired
}

/// Passes the lock from hand to hand, as often as it is released here.
async fn hand_over<L: LockService>(
    first: (&L, Held),
    acquired: &mut UnboundedReceiver<(L, Result<Held, LockError>)>,
) {
    first.0.release(&first.1.claim).await.unwrap();
    for release in 1..=RELEASES {
        let next = tokio::time::timeout(SOON, acquired.recv()).await;
        let (locks, held) = next.expect("a release wakes somebody").unwrap();
        if release < RELEASES {
            locks.release(&held.unwrap().claim).await.unwrap();
        }
    }
}
