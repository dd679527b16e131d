//! A member of the cluster that hangs, or whose answer is lost.

use std::time::Instant;

use fencegate::lock::{Held, LockError, LockService};
use tokio::task::JoinSet;

use super::*;
use crate::support::{EtcdCluster, Proxy, eventually};

/// Each asks one member of its own choice, so that some ask the one that hangs.
const PROCESSES: usize = 10;
const WORKERS: usize = 64;
const LEASES: usize = 50;
/// Until well after the connection to a member that hangs was given up and made anew.
const LONG: Duration = Duration::from_secs(12);

/// Renews until the time is over. What fails is tried again, until the lease is lost.
async fn keep(locks: EtcdLocks, held: Held, until: Instant) {
    while Instant::now() < until {
        match locks.renew(&held.claim).await {
            Ok(term) => tokio::time::sleep(term.ttl / 4).await,
            Err(LockError::Unavailable { .. }) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(error) => panic!("{error}"),
        }
    }
    locks.renew(&held.claim).await.unwrap();
}

/// Acquires and releases until the time is over: how often it asked, and had an answer.
async fn work(locks: EtcdLocks, request: Request, until: Instant) -> (u32, u32) {
    let (mut asked, mut done) = (0, 0);
    while Instant::now() < until {
        asked += 1;
        if let Ok(held) = locks.acquire(&request).await {
            done += u32::from(locks.release(&held.claim).await.is_ok());
        }
    }
    (asked, done)
}

/// It accepts connections, as its kernel does, and says nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_hangs_hinders_nobody() {
    let cluster = EtcdCluster::start(3).await;
    let endpoints = cluster.endpoints().join(",");
    let mut processes = Vec::new();
    for _ in 0..PROCESSES {
        processes.push(locks(&endpoints).await);
    }
    let of = |name: String| Request {
        name: name.parse().unwrap(),
        ttl: Duration::from_secs(8),
        ..request()
    };
    let mut held = Vec::new();
    for number in 0..LEASES {
        let locks = &processes[number % PROCESSES];
        held.push(locks.acquire(&of(format!("kept{number}"))).await.unwrap());
    }

    let leader = cluster.leader().await.unwrap();
    cluster.members[(leader + 1) % 3].stop();
    let (until, mut keepers, mut workers) = (Instant::now() + LONG, JoinSet::new(), JoinSet::new());
    for (number, held) in held.into_iter().enumerate() {
        keepers.spawn(keep(processes[number % PROCESSES].clone(), held, until));
    }
    for number in 0..WORKERS {
        let locks = processes[number % PROCESSES].clone();
        workers.spawn(work(locks, of(format!("f{number}")), until));
    }
    keepers.join_all().await;
    for (asked, done) in workers.join_all().await {
        assert!(done * 100 >= asked * 95, "{done} of {asked}");
    }
}

/// How many etcd leases there are.
async fn leases(stranger: &mut Client) -> usize {
    stranger.leases().await.unwrap().leases().len()
}

/// A put whose answer was lost may be done late. Its lease must not serve another fence by then.
#[tokio::test]
async fn a_lease_whose_put_may_be_on_its_way_is_revoked() {
    let server = Etcd::start().await;
    let proxy = Proxy::start(server.endpoint()).await;
    let (locks, other) = (locks(proxy.addr()).await, locks(server.endpoint()).await);
    let mut stranger = stranger(&server).await;
    let puts = |chunk: &[u8]| chunk.windows(16).any(|window| window == b"fencegate_holder");
    let theirs = other.acquire(&request()).await.unwrap();

    let lost = proxy.cut_on_request(puts);
    let refused = locks.acquire(&request()).await;
    lost.await.unwrap();
    assert!(matches!(refused, Err(LockError::Busy { .. })), "{refused:?}");
    eventually(SOON, async || leases(&mut stranger).await == 1).await;

    other.release(&theirs.claim).await.unwrap();
    let lost = proxy.cut_on_request(puts);
    let held = locks.acquire(&request()).await.unwrap();
    lost.await.unwrap();
    locks.release(&held.claim).await.unwrap();
    eventually(SOON, async || leases(&mut stranger).await == 1).await;
    assert!(keys(&mut stranger).await.is_empty());
}
