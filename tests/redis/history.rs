//! Counters that go on, and histories that end.

use std::time::Duration;

use fencegate::{
    GrantError, connect,
    lock::{LockError, LockService, Request},
};
use redis::AsyncCommands;

use super::{beside, is_free, locks, request};
use crate::support::{self, Redis, eventually};

#[tokio::test]
async fn the_counter_stays_when_locks_end() {
    let server = Redis::start().await;
    let (locks, mut beside) = (locks(&server.url()), beside(&server).await);
    let held = locks.acquire(&request("a")).await.unwrap();
    let counter = "fencegate/locks//sequence/a";
    locks.release(&held.claim).await.unwrap();
    assert_eq!(
        beside.ttl::<_, i64>(counter).await.unwrap(),
        -1,
        "it would expire"
    );
    let brief = Request {
        ttl: Duration::from_millis(100),
        ..request("a")
    };
    let second = locks.acquire(&brief).await.unwrap();
    eventually(Duration::from_secs(10), async || is_free(&locks, "a").await).await;
    assert!(matches!(locks.renew(&second.claim).await, Err(LockError::Lost)));
    assert!(
        !beside.exists::<_, bool>("fencegate/locks/a").await.unwrap(),
        "taken back"
    );
    assert_eq!(
        locks.acquire(&request("a")).await.unwrap().claim.sequence.get(),
        3
    );
}

#[tokio::test]
async fn numbers_that_a_double_cannot_hold_are_counted_exactly() {
    let server = Redis::start().await;
    let locks = locks(&server.url());
    for floor in [(1 << 53) + 1, i64::MAX - 4] {
        let high = Request {
            floor,
            ..request("a")
        };
        let held = locks.acquire(&high).await.unwrap();
        assert_eq!(held.claim.sequence.get(), floor + 1);
        locks.renew(&held.claim).await.unwrap();
        locks.release(&held.claim).await.unwrap();
        // The counter goes on alone, and then from a floor that is just above it.
        for (next, expected) in [(9, floor + 2), (floor + 3, floor + 4)] {
            let request = Request {
                floor: next,
                ..request("a")
            };
            let held = locks.acquire(&request).await.unwrap();
            assert_eq!(held.claim.sequence.get(), expected);
            locks.release(&held.claim).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_counter_that_is_used_up_is_an_error_and_takes_no_lock() {
    let server = Redis::start().await;
    let (locks, mut beside) = (locks(&server.url()), beside(&server).await);
    for floor in [i64::MAX, 0] {
        let error = locks
            .acquire(&Request {
                floor,
                ..request("a")
            })
            .await
            .unwrap_err();
        assert!(matches!(error, LockError::Unexpected { .. }), "{error}");
        assert!(is_free(&locks, "a").await);
    }
    for nonsense in ["x", "-5"] {
        let () = beside.set("fencegate/locks//sequence/b", nonsense).await.unwrap();
        let error = locks.acquire(&request("b")).await.unwrap_err();
        assert!(matches!(error, LockError::Unexpected { .. }), "{error}");
        eventually(Duration::from_secs(10), async || is_free(&locks, "b").await).await;
    }
}

#[tokio::test]
async fn a_durable_server_goes_on_after_kill_9() {
    let mut server = Redis::builder().durable().start().await;
    let locks = locks(&server.url());
    let held = locks.acquire(&request("a")).await.unwrap();
    server.kill9();
    server.restart().await;
    eventually(Duration::from_secs(10), async || {
        locks.renew(&held.claim).await.is_ok()
    })
    .await;
    locks.release(&held.claim).await.unwrap();
    let next = locks.acquire(&request("a")).await.unwrap();
    assert_eq!((next.claim.sequence.get(), next.identity), (2, held.identity));
}

#[tokio::test]
async fn a_server_that_was_emptied_has_another_identity() {
    let mut server = Redis::start().await;
    let (locks, mut other) = (locks(&server.url()), beside(&server).await);
    let first = locks.identity().await.unwrap();
    let held = locks.acquire(&request("a")).await.unwrap();
    assert_eq!(held.identity, first);

    let () = redis::cmd("FLUSHALL").query_async(&mut other).await.unwrap();
    assert!(matches!(locks.renew(&held.claim).await, Err(LockError::Lost)));
    let flushed = locks.acquire(&request("a")).await.unwrap();
    assert_ne!(flushed.identity, first);
    assert_eq!(locks.identity().await.unwrap(), flushed.identity);

    server.restart().await;
    let mut again = None;
    eventually(Duration::from_secs(10), async || {
        again = locks.acquire(&request("a")).await.ok();
        again.is_some()
    })
    .await;
    assert_ne!(again.unwrap().identity, flushed.identity);
}

#[tokio::test]
async fn an_emptied_server_grants_no_lease() {
    let server = Redis::start().await;
    let folder = support::folder("store");
    let store = format!("sqlite:{}", folder.path().join("store.db").display());
    let locks = connect(&store, Some(&format!("{}/0?prefix=p", server.url())))
        .await
        .unwrap();
    locks.store().migrate().await.unwrap();
    let ttl = Duration::from_secs(10);
    let lease = locks.acquire("a", ttl).await.unwrap();
    let first = lease.token().sequence;
    lease.release().await.unwrap();

    let mut beside = beside(&server).await;
    // A counter alone that is lost stops nobody: the mark is its floor.
    let () = beside.del("p//sequence/a").await.unwrap();
    let lease = locks.acquire("a", ttl).await.unwrap();
    assert!(lease.token().sequence > first);
    lease.release().await.unwrap();

    let () = redis::cmd("FLUSHALL").query_async(&mut beside).await.unwrap();
    let error = locks.acquire("a", ttl).await.unwrap_err();
    assert!(matches!(error, GrantError::OtherHistory { .. }), "{error}");
}

#[tokio::test]
async fn holders_are_kept_as_their_hash() {
    let server = Redis::start().await;
    let (locks, mut beside) = (locks(&server.url()), beside(&server).await);
    let request = request("a");
    let held = locks.acquire(&request).await.unwrap();
    let value: String = beside.get("fencegate/locks/a").await.unwrap();
    assert!(!value.contains(&request.holder.expose()), "{value}");
    let hash: String = held
        .claim
        .holder
        .as_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert!(value.starts_with(&format!("fencegate:{hash}:1:")), "{value}");
}
