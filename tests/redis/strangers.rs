//! Locks that other programs make: a plain key with a value of their own.

use std::time::{Duration, Instant};

use fencegate::lock::{LockError, LockService};
use redis::AsyncCommands;

use super::{beside, is_free, locks, request, waiting};
use crate::support::Redis;

const KEY: &str = "fencegate/locks/a";

async fn take(beside: &mut redis::aio::MultiplexedConnection) -> bool {
    let mut set = redis::cmd("SET");
    set.arg(KEY)
        .arg("4cfb1ea0d0a911efa2c0")
        .arg("NX")
        .arg("PX")
        .arg(60_000);
    set.query_async::<Option<String>>(beside).await.unwrap().is_some()
}

#[tokio::test]
async fn they_exclude_ours_and_ours_exclude_them() {
    let server = Redis::start().await;
    let (locks, mut beside) = (locks(&server.url()), beside(&server).await);
    assert!(take(&mut beside).await);
    match locks.acquire(&request("a")).await.unwrap_err() {
        LockError::Busy { expires_in } => assert!(expires_in.unwrap() > Duration::from_secs(50)),
        error => panic!("{error}"),
    }
    let name = crate::world::name("a");
    let holder = locks.inspect(&name).await.unwrap().holder.unwrap();
    assert!(holder.holder.is_none() && holder.expires_in > Duration::from_secs(50));

    // Nobody tells of this release.
    let waiter = tokio::spawn({
        let locks = locks.clone();
        async move { locks.acquire(&waiting("a")).await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let released = Instant::now();
    let () = beside.del(KEY).await.unwrap();
    let held = waiter.await.unwrap().unwrap();
    assert!(
        released.elapsed() < Duration::from_secs(2),
        "{:?}",
        released.elapsed()
    );
    assert!(!take(&mut beside).await);
    locks.release(&held.claim).await.unwrap();
    assert!(take(&mut beside).await);
}

#[tokio::test]
async fn their_sequence_confirms_nothing() {
    let server = Redis::start().await;
    let (locks, mut beside) = (locks(&server.url()), beside(&server).await);
    assert!(take(&mut beside).await);
    let name = crate::world::name("a");
    let sequence = fencegate::Sequence::FIRST;
    assert!(locks.confirm(&name, sequence).await.unwrap().is_none());
    let held = locks.acquire(&request("b")).await.unwrap();
    assert!(
        locks
            .confirm(&held.claim.name, held.claim.sequence)
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn a_lock_without_an_end_is_busy_until_it_is_deleted() {
    let server = Redis::start().await;
    let (locks, mut beside) = (locks(&server.url()), beside(&server).await);
    let () = beside.set(KEY, "for ever").await.unwrap();
    let error = locks.acquire(&request("a")).await.unwrap_err();
    assert!(matches!(error, LockError::Busy { expires_in: None }), "{error}");
    assert!(!is_free(&locks, "a").await);
    // Another kind of lock, as Redisson's, is a hash.
    let () = beside.del(KEY).await.unwrap();
    let () = beside.hset(KEY, "holder", 1).await.unwrap();
    let error = locks.acquire(&request("a")).await.unwrap_err();
    assert!(matches!(error, LockError::Unexpected { .. }), "{error}");
}
