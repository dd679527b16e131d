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
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

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

/// What those who wait acquire, in the order in which they do.
type Acquired<L> = UnboundedReceiver<(L, Result<Held, LockError>)>;

/// All of them wait, evenly over these processes.
fn crowd<L: LockService + Clone + 'static>(processes: &[L]) -> Acquired<L> {
    let (sender, acquired) = unbounded_channel();
    for locks in processes.iter().cycle().take(WAITERS) {
        wait(locks, &sender);
    }
    acquired
}

/// Waits in the background.
fn wait<L: LockService + Clone + 'static>(
    locks: &L,
    acquired: &UnboundedSender<(L, Result<Held, LockError>)>,
) {
    let (locks, sender) = (locks.clone(), acquired.clone());
    tokio::spawn(async move {
        let held = locks.acquire(&request(Duration::from_secs(600))).await;
        let _ = sender.send((locks, held));
    });
}

/// Passes the lock from hand to hand, as often as it is released here.
async fn hand_over<L: LockService>(first: (&L, Held), acquired: &mut Acquired<L>) {
    first.0.release(&first.1.claim).await.unwrap();
    for release in 1..=RELEASES {
        let next = tokio::time::timeout(SOON, acquired.recv()).await;
        let (locks, held) = next.expect("a release wakes somebody").unwrap();
        if release < RELEASES {
            locks.release(&held.unwrap().claim).await.unwrap();
        }
    }
}
