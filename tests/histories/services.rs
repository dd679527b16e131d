//! Lock services that forget. The store is an SQLite file, which does not.

use std::{path::Path, time::Instant};

use fencegate::{GrantError, LockError, Locks, Token, connect};
use redis::AsyncCommands;
use tempfile::TempDir;

use super::{goes_on, grant, put, rebase};
use crate::{
    support::{Etcd, Redis, ZooKeeper, eventually::PATIENCE, folder},
    world::etcd_url,
};

/// A store in a file.
struct Store(TempDir);

impl Store {
    fn new() -> Self {
        Self(folder("store"))
    }

    async fn with(&self, service: &str) -> Locks {
        let store = format!("sqlite:{}", self.0.path().join("store.db").display());
        connect(&store, Some(service)).await.unwrap()
    }
}

/// Counts on: grants and releases the fence some times, then grants it once more.
async fn go_on(locks: &Locks) -> Token {
    for _ in 0..8 {
        let granted = grant(locks).await.unwrap();
        locks.release(&granted.name, &granted.token).await.unwrap();
    }
    let last = grant(locks).await.unwrap().token;
    put(locks, &last).await.unwrap();
    last
}

/// One who is granted the fence and writes, and then one more time's release.
async fn first(locks: &Locks) -> Token {
    let first = grant(locks).await.unwrap();
    put(locks, &first.token).await.unwrap();
    locks.release(&first.name, &first.token).await.unwrap();
    first.token
}

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status();
    assert!(copied.unwrap().success());
}

fn names_the_way_out(error: &GrantError) {
    assert!(error.to_string().contains("fencegate rebase --reason"), "{error}");
}

/// Its numbers are at or below the mark: it is refused until there is a rebase, and the mark's holder goes on writing.
async fn has_regressed(locks: &Locks, old: &[&Token]) {
    for _ in 0..2 {
        let error = grant(locks).await.unwrap_err();
        assert!(matches!(error, GrantError::Regressed { .. }), "{error}");
        assert!(error.to_string().contains("history went back"), "{error}");
        names_the_way_out(&error);
    }
    put(locks, old[old.len() - 1]).await.unwrap();
    rebase(locks).await;
    goes_on(locks, old).await;
}

/// It is another one than the epoch's.
async fn is_another(locks: &Locks, old: &[&Token]) {
    let error = grant(locks).await.unwrap_err();
    assert!(matches!(error, GrantError::OtherHistory { .. }), "{error}");
    names_the_way_out(&error);
    rebase(locks).await;
    goes_on(locks, old).await;
}

/// etcd, restored as a cluster of this name from a snapshot that lacks the last grant: what it lasts for, the locks
/// there, and the tokens from before.
async fn restored(cluster: &str) -> ((Store, Etcd), Locks, [Token; 2]) {
    let (store, mut etcd) = (Store::new(), Etcd::builder().quick().start().await);
    let locks = store.with(&etcd_url(&etcd)).await;
    let first = first(&locks).await;
    let snapshot = store.0.path().join("snapshot");
    etcd.control(&["snapshot", "save", snapshot.to_str().unwrap()]);
    let last = go_on(&locks).await;
    etcd.restore(&snapshot, cluster).await;
    let locks = store.with(&etcd_url(&etcd)).await;
    ((store, etcd), locks, [first, last])
}

#[tokio::test]
async fn etcd_restored_from_a_snapshot_with_the_same_flags() {
    let (_there, locks, [first, last]) = restored("etcd-cluster").await;
    has_regressed(&locks, &[&first, &last]).await;
}

#[tokio::test]
async fn etcd_restored_from_a_snapshot_with_other_flags() {
    let (_there, locks, [first, last]) = restored("another").await;
    is_another(&locks, &[&first, &last]).await;
}

#[tokio::test]
async fn etcd_with_its_data_folder_copied_back_and_nobody_asked() {
    let (store, mut etcd) = (Store::new(), Etcd::builder().quick().start().await);
    let locks = store.with(&etcd_url(&etcd)).await;
    let first = first(&locks).await;
    etcd.process().terminate().await;
    let kept = store.0.path().join("data");
    copy(&etcd.data(), &kept);
    etcd.restart().await;
    let locks = store.with(&etcd_url(&etcd)).await;
    let last = go_on(&locks).await;
    etcd.process().terminate().await;
    std::fs::remove_dir_all(etcd.data()).unwrap();
    copy(&kept, &etcd.data());
    etcd.restart().await;
    let locks = store.with(&etcd_url(&etcd)).await.with_auto_rebase("a gateway");
    goes_on_after_auto_rebase(&locks, "history went back", &[&first, &last]).await;
}

/// The next grant raises the epoch, once, by itself.
async fn goes_on_after_auto_rebase(locks: &Locks, why: &str, old: &[&Token]) {
    let began = Instant::now();
    let granted = loop {
        match grant(locks).await {
            // It takes a client a while to see that its session is gone with the server's data.
            Err(GrantError::Lock(LockError::Unavailable { .. })) if began.elapsed() < PATIENCE => {}
            granted => break granted.unwrap(),
        }
    };
    for token in old {
        assert!(put(locks, token).await.unwrap_err().is_stale());
    }
    put(locks, &granted.token).await.unwrap();
    locks.release(&granted.name, &granted.token).await.unwrap();
    let log = locks.store().audit(2).await.unwrap();
    assert_eq!((log.len(), &*log[0].who), (1, "a gateway"), "{log:?}");
    assert!(log[0].reason.contains(why), "{log:?}");
}

#[tokio::test]
async fn zookeeper_wiped() {
    let (store, mut server) = (Store::new(), ZooKeeper::start().await);
    let url = format!("zookeeper://{}", server.endpoint());
    let locks = store.with(&url).await;
    let (first, last) = (first(&locks).await, go_on(&locks).await);
    server.restart_empty().await;
    is_another(&store.with(&url).await, &[&first, &last]).await;
}

#[tokio::test]
async fn zookeeper_wiped_and_nobody_asked() {
    let (store, mut server) = (Store::new(), ZooKeeper::start().await);
    let url = format!("zookeeper://{}", server.endpoint());
    let locks = store.with(&url).await;
    let (first, last) = (first(&locks).await, go_on(&locks).await);
    server.restart_empty().await;
    // One that was there before, whose session is gone with the rest.
    let locks = locks.with_auto_rebase("a gateway");
    goes_on_after_auto_rebase(&locks, "cannot be compared", &[&first, &last]).await;
}

#[tokio::test]
async fn zookeeper_with_its_data_folder_copied_back() {
    let (store, mut server) = (Store::new(), ZooKeeper::start().await);
    let url = format!("zookeeper://{}", server.endpoint());
    let first = first(&store.with(&url).await).await;
    server.process().terminate().await;
    let kept = store.0.path().join("data");
    copy(&server.data(), &kept);
    server.restart().await;
    let last = go_on(&store.with(&url).await).await;
    server.process().terminate().await;
    std::fs::remove_dir_all(server.data()).unwrap();
    copy(&kept, &server.data());
    server.restart().await;
    has_regressed(&store.with(&url).await, &[&first, &last]).await;
}

async fn ask(server: &Redis) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(server.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

async fn flush(server: &Redis) {
    let () = redis::cmd("FLUSHALL")
        .query_async(&mut ask(server).await)
        .await
        .unwrap();
}

#[tokio::test]
async fn redis_flushed() {
    let (store, server) = (Store::new(), Redis::start().await);
    let locks = store.with(&server.url()).await;
    let (first, last) = (first(&locks).await, go_on(&locks).await);
    flush(&server).await;
    is_another(&store.with(&server.url()).await, &[&first, &last]).await;
}

#[tokio::test]
async fn redis_restarted_without_its_last_writes() {
    let (store, mut server) = (Store::new(), Redis::start().await);
    let locks = store.with(&server.url()).await;
    let first = first(&locks).await;
    let () = redis::cmd("SAVE")
        .query_async(&mut ask(&server).await)
        .await
        .unwrap();
    let last = go_on(&locks).await;
    server.kill9();
    server.restart().await;
    let counter: i64 = ask(&server)
        .await
        .get("fencegate/locks//sequence/f")
        .await
        .unwrap();
    assert!(counter < last.sequence.get(), "nothing was lost: {counter}");
    // It counts on from the mark, so nothing need be done.
    goes_on_from_the_mark(&store.with(&server.url()).await, &first, &last).await;
}

async fn goes_on_from_the_mark(locks: &Locks, first: &Token, last: &Token) {
    let granted = grant(locks).await.unwrap();
    assert!(granted.token.sequence > last.sequence);
    put(locks, &granted.token).await.unwrap();
    for token in [first, last] {
        assert!(put(locks, token).await.unwrap_err().is_stale());
    }
    locks.release(&granted.name, &granted.token).await.unwrap();
}

async fn three() -> ([Redis; 3], String) {
    let start = || Redis::builder().durable().start();
    let (a, b, c) = tokio::join!(start(), start(), start());
    let url = format!("redlock://{},{},{}", a.endpoint(), b.endpoint(), c.endpoint());
    ([a, b, c], url)
}

#[tokio::test]
async fn one_redlock_instance_of_three_that_comes_back_empty() {
    let (store, (instances, url)) = (Store::new(), three().await);
    let locks = store.with(&url).await;
    let (first, last) = (first(&locks).await, go_on(&locks).await);
    locks.release(&crate::world::name("f"), &last).await.unwrap();
    flush(&instances[0]).await;
    goes_on_from_the_mark(&store.with(&url).await, &first, &last).await;
}

#[tokio::test]
async fn two_redlock_instances_of_three_that_come_back_empty() {
    let (store, (instances, url)) = (Store::new(), three().await);
    let locks = store.with(&url).await;
    let (first, last) = (first(&locks).await, go_on(&locks).await);
    locks.release(&crate::world::name("f"), &last).await.unwrap();
    for instance in &instances[..2] {
        flush(instance).await;
    }
    let locks = store.with(&url).await;
    let error = grant(&locks).await.unwrap_err();
    assert!(
        matches!(error, GrantError::Lock(LockError::Unavailable { .. })),
        "{error}"
    );
    // As its administrator does who has seen what happened: a new redlock, with another identity.
    flush(&instances[2]).await;
    is_another(&store.with(&url).await, &[&first, &last]).await;
}

#[tokio::test]
async fn another_kind_of_lock_service() {
    let (store, server) = (Store::new(), Redis::start().await);
    let etcd = Etcd::builder().quick().start().await;
    let (first, last) = {
        let locks = store.with(&etcd_url(&etcd)).await;
        (first(&locks).await, go_on(&locks).await)
    };
    let locks = store.with(&server.url()).await;
    is_another(&locks, &[&first, &last]).await;
}

#[tokio::test]
async fn another_kind_of_lock_service_and_nobody_asked() {
    let (store, server) = (Store::new(), Redis::start().await);
    let (first, last) = {
        let locks = store.with(&server.url()).await;
        (first(&locks).await, go_on(&locks).await)
    };
    let etcd = Etcd::builder().quick().start().await;
    let locks = store.with(&etcd_url(&etcd)).await.with_auto_rebase("a gateway");
    goes_on_after_auto_rebase(&locks, "cannot be compared", &[&first, &last]).await;
}
