//! redis-py's `Lock` and ours exclude each other.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use fencegate::{
    Holder,
    lock::{LockError, LockService, Request, redis::RedisLocks},
};
use tokio::process::Command;

use super::foreign::Foreign;
use crate::support::{Redis, programs};

const KEY: &str = "fencegate/locks/a";

/// A Python program with a lock of redis-py.
fn redis_py(server: &Redis) -> Foreign {
    programs::require(
        Path::new("/usr/lib/python3/dist-packages/redis/lock.py"),
        "python3-redis",
    );
    // Debian's, which sees Debian's packages.
    let mut command = Command::new("/usr/bin/python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/redis_py.py"));
    command.arg(server.port().to_string());
    Foreign::start(command)
}

fn request(ttl: Duration, wait: Duration) -> Request {
    Request {
        name: crate::world::name("a"),
        holder: Holder::random(),
        label: String::new(),
        ttl,
        wait,
        floor: 0,
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn theirs_excludes_ours() {
    let server = Redis::start().await;
    let (locks, mut python) = (RedisLocks::connect(&server.url()).unwrap(), redis_py(&server));
    assert_eq!(python.ask(&format!("acquire {KEY} 60 0")).await, "acquired");
    let error = locks.acquire(&request(MINUTE, Duration::ZERO)).await.unwrap_err();
    assert!(matches!(error, LockError::Busy { .. }), "{error}");

    let ours = request(MINUTE, MINUTE);
    let waiter = tokio::spawn(async move { locks.acquire(&ours).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiter.is_finished());
    let released = Instant::now();
    assert_eq!(python.ask("release").await, "released");
    waiter.await.unwrap().unwrap();
    assert!(
        released.elapsed() < Duration::from_secs(2),
        "{:?}",
        released.elapsed()
    );
    assert_eq!(python.ask(&format!("acquire {KEY} 60 0")).await, "busy");
}

#[tokio::test]
async fn ours_excludes_theirs() {
    let server = Redis::start().await;
    let (locks, mut python) = (RedisLocks::connect(&server.url()).unwrap(), redis_py(&server));
    let held = locks.acquire(&request(MINUTE, Duration::ZERO)).await.unwrap();
    assert_eq!(python.ask(&format!("acquire {KEY} 60 0")).await, "busy");
    python.tell(&format!("acquire {KEY} 60 30")).await;
    locks.renew(&held.claim).await.unwrap();
    locks.release(&held.claim).await.unwrap();
    assert_eq!(python.answer().await, "acquired");
    assert!(matches!(locks.renew(&held.claim).await, Err(LockError::Lost)));
    // A late release must not free the other's.
    locks.release(&held.claim).await.unwrap();
    assert!(locks.acquire(&request(MINUTE, Duration::ZERO)).await.is_err());
}

#[tokio::test]
async fn a_lock_of_theirs_that_expired_is_not_released_from_under_ours() {
    let server = Redis::start().await;
    let (locks, mut python) = (RedisLocks::connect(&server.url()).unwrap(), redis_py(&server));
    assert_eq!(python.ask(&format!("acquire {KEY} 0.3 0")).await, "acquired");
    let held = locks.acquire(&request(MINUTE, MINUTE)).await.unwrap();
    assert_eq!(python.ask("release").await, "not owned");
    locks.renew(&held.claim).await.unwrap();
}

#[tokio::test]
async fn both_take_turns_under_contention() {
    let server = Redis::start().await;
    let (locks, mut python) = (RedisLocks::connect(&server.url()).unwrap(), redis_py(&server));
    let mut last = 0;
    for _ in 0..20 {
        assert_eq!(python.ask(&format!("acquire {KEY} 60 30")).await, "acquired");
        let ours = request(MINUTE, MINUTE);
        let acquiring = tokio::spawn({
            let locks = locks.clone();
            async move { locks.acquire(&ours).await }
        });
        assert_eq!(python.ask("release").await, "released");
        let held = acquiring.await.unwrap().unwrap();
        assert!(held.claim.sequence.get() > last);
        last = held.claim.sequence.get();
        python.tell(&format!("acquire {KEY} 60 30")).await;
        locks.release(&held.claim).await.unwrap();
        assert_eq!(python.answer().await, "acquired");
        assert_eq!(python.ask("release").await, "released");
    }
}
