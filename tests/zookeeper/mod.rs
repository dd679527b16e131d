//! What is ZooKeeper's own: its znodes, its sessions, its queue, and a network that fails in between.

mod handover;
mod queue;
mod sessions;
mod together;
mod trouble;
mod znodes;

use std::time::Duration;

use fencegate::{
    FenceName, Holder,
    lock::{Claim, Held, LockError, LockService, Request, Term, zookeeper::ZookeeperLocks},
};
use zookeeper_client::{Acls, Client, CreateMode};

use crate::support::{Proxy, ZooKeeper, eventually};

/// Long enough for anything that a busy machine does.
const SOON: Duration = Duration::from_secs(20);

/// A lock service as one process has it.
fn locks(endpoint: impl std::fmt::Display) -> ZookeeperLocks {
    ZookeeperLocks::new(&format!("zookeeper://{endpoint}")).unwrap()
}

/// Asks for the fence `f` for a fresh holder, trying once.
fn request(ttl: Duration) -> Request {
    Request {
        name: name(),
        holder: Holder::random(),
        label: "worker-7".into(),
        ttl,
        wait: Duration::ZERO,
        floor: 0,
    }
}

/// The same, waiting.
fn waiting(ttl: Duration) -> Request {
    Request {
        wait: SOON,
        ..request(ttl)
    }
}

fn name() -> FenceName {
    "f".parse().unwrap()
}

/// Where the queue of the fence `f` is.
const LOCK: &str = "/fencegate/locks/f";

/// Acquires in the background.
fn acquire(locks: &ZookeeperLocks, request: Request) -> tokio::task::JoinHandle<Result<Held, LockError>> {
    let locks = locks.clone();
    tokio::spawn(async move { locks.acquire(&request).await })
}

/// Renews until the server says something, as a lease does.
async fn renewed(locks: ZookeeperLocks, claim: Claim) -> Result<Term, LockError> {
    loop {
        match locks.renew(&claim).await {
            Err(error) if error.is_retryable() => {}
            result => return result,
        }
    }
}

/// A session of a program that is not fencegate.
async fn stranger(server: &ZooKeeper) -> Client {
    let connector = Client::connector().with_session_timeout(SOON);
    connector.connect(&server.endpoint()).await.unwrap()
}

/// Puts a stranger's znode, named as kazoo does, into the queue of the fence `f`. Gives its path and czxid.
async fn queue_up(stranger: &Client) -> (String, i64) {
    let directory = CreateMode::Persistent.with_acls(Acls::anyone_all());
    stranger.mkdir(LOCK, &directory).await.unwrap();
    let path = format!("{LOCK}/{}__lock__", uuid::Uuid::new_v4().simple());
    let contender = CreateMode::EphemeralSequential.with_acls(Acls::anyone_all());
    let (_, number) = stranger.create(&path, b"", &contender).await.unwrap();
    let path = format!("{path}{number}");
    let czxid = stranger.check_stat(&path).await.unwrap().unwrap().czxid;
    (path, czxid)
}

/// Waits until that many znodes contend for the fence `f`.
async fn contenders(stranger: &Client, count: usize) {
    eventually(SOON, async || {
        stranger
            .list_children(LOCK)
            .await
            .is_ok_and(|children| children.len() == count)
    })
    .await;
}
