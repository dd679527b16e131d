//! The scenario that it plays unless told otherwise: on every lock service, and both stores.

use super::{assert_story, run, told};
use crate::{
    support::{Etcd, Postgres, folder},
    world::etcd_url,
};

const STORY: [&str; 16] = [
    "A holds token 1-",
    "A is stopped with SIGSTOP",
    "B asks for the fence",
    "A's lock is over",
    "the lock is B's",
    "the mark is 1-",
    "B holds token 1-",
    "B writes [B] with 1-",
    "A is woken with SIGCONT",
    "REFUSED 412 token-stale",
    "A writes [B, A] with 1-",
    "2 updates acknowledged, 0 lost",
    "WITHOUT THE GUARD",
    "A is stopped with SIGSTOP",
    "A writes [A] with 1-",
    "2 updates acknowledged, 1 LOST (B)",
];

#[tokio::test]
async fn with_nothing_installed() {
    assert_story(&told(&[]).await, &STORY);
}

#[tokio::test]
async fn on_postgres_alone() {
    let postgres = Postgres::start().await;
    assert_story(&told(&["--store", &postgres.url()]).await, &STORY);
}

#[tokio::test]
async fn on_postgres_and_etcd() {
    let (postgres, etcd) = tokio::join!(Postgres::start(), Etcd::start());
    // Twice, since the store keeps its marks and its binding.
    for _ in 0..2 {
        let arguments = ["--store", &postgres.url(), "--locks", &etcd_url(&etcd)];
        assert_story(&told(&arguments).await, &STORY);
    }
}

/// The store is a file, and the locks are not in it.
async fn on_sqlite_and(locks: &str) {
    let folder = folder("demo");
    let store = format!("sqlite:{}", folder.path().join("store.db").display());
    assert_story(&told(&["--store", &store, "--locks", locks]).await, &STORY);
}

#[cfg(feature = "zookeeper")]
#[tokio::test]
async fn on_sqlite_and_zookeeper() {
    let server = crate::support::ZooKeeper::start().await;
    on_sqlite_and(&format!("zookeeper://{}", server.endpoint())).await;
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn on_sqlite_and_redis() {
    let server = crate::support::Redis::start().await;
    on_sqlite_and(&server.url()).await;
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn on_sqlite_and_redlock() {
    use crate::support::Redis;
    let (a, b, c) = tokio::join!(Redis::start(), Redis::start(), Redis::start());
    on_sqlite_and(&format!(
        "redlock://{},{},{}",
        a.endpoint(),
        b.endpoint(),
        c.endpoint()
    ))
    .await;
}

#[tokio::test]
async fn it_says_what_is_missing() {
    for (arguments, said) in [
        (["--store", "mysql://host/db"], "give postgres://"),
        (["--locks", "consul://host"], "give etcd://"),
        (["--store", "postgres://127.0.0.1:1/db"], "out of reach"),
        (["--ttl", "soon"], "--ttl"),
        (["--ttl", "1ms"], "100ms"),
        (["--scenario", "flood"], "duplicate-token"),
        (["--scenario", "partition"], "--locks"),
        (["--scenario", "crash"], "--store postgres://"),
        (["--scenario", "duplicate-token"], "redis://"),
        (["--svg", "/nowhere/demo.svg"], "/nowhere/demo.svg"),
    ] {
        let output = run(&arguments).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(errors.contains(said), "{arguments:?}: {errors}");
    }
}
