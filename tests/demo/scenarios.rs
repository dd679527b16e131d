//! What else can happen to a holder, on real servers: each time the guard loses nothing, and the control does.

use super::{assert_story, run, told};
use crate::{
    support::{Etcd, Postgres, folder},
    world::etcd_url,
};

const PARTITION: [&str; 11] = [
    "A holds token 1-",
    "A is cut off from the lock service",
    "A's lock is over",
    "B writes [B] with 1-",
    "REFUSED 412 token-stale",
    "A reaches the lock service again",
    "A writes [B, A] with 1-",
    "2 updates acknowledged, 0 lost",
    "WITHOUT THE GUARD",
    "A writes [A] with 1-",
    "2 updates acknowledged, 1 LOST (B)",
];

const CLOCK: [&str; 10] = [
    "A holds token 1-",
    ", for 30 s",
    "L lets A's lock go",
    "B writes [B] with 1-",
    "REFUSED 412 token-stale",
    "A writes [B, A] with 1-",
    "2 updates acknowledged, 0 lost",
    "WITHOUT THE GUARD",
    "A writes [A] with 1-",
    "2 updates acknowledged, 1 LOST (B)",
];

async fn partition_and_clock(store: Option<&str>, locks: &str) {
    let mut arguments = vec!["--locks", locks];
    arguments.extend(store.iter().flat_map(|store| ["--store", store]));
    let partition = told(&[&arguments, &["--scenario", "partition"][..]].concat()).await;
    assert_story(&partition, &PARTITION);
    // Its gateway may find out meanwhile that the lease is over (ZooKeeper's session), or only that nobody answers.
    assert_story(&partition, &["A cannot renew: ", "WITHOUT THE GUARD"]);
    let clock = told(&[&arguments, &["--scenario", "clock"][..]].concat()).await;
    assert_story(&clock, &CLOCK);
}

#[tokio::test]
async fn partition_and_clock_on_etcd() {
    let etcd = Etcd::start().await;
    partition_and_clock(None, &etcd_url(&etcd)).await;
}

#[cfg(feature = "zookeeper")]
#[tokio::test]
async fn partition_and_clock_on_zookeeper() {
    let server = crate::support::ZooKeeper::start().await;
    partition_and_clock(None, &format!("zookeeper://{}", server.endpoint())).await;
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn partition_and_clock_on_redis() {
    let server = crate::support::Redis::start().await;
    partition_and_clock(None, &server.url()).await;
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn partition_and_clock_on_redlock() {
    use crate::support::Redis;
    let (a, b, c) = tokio::join!(Redis::start(), Redis::start(), Redis::start());
    let url = format!("redlock://{},{},{}", a.endpoint(), b.endpoint(), c.endpoint());
    partition_and_clock(None, &url).await;
}

#[tokio::test]
async fn partition_and_clock_on_postgres() {
    let postgres = Postgres::start().await;
    // The locks are the store's own: A's way to them is cut, its way to the records in the same server is not.
    partition_and_clock(Some(&postgres.url()), "postgres").await;
}

#[tokio::test]
async fn the_clock_with_nothing_installed() {
    assert_story(&told(&["--scenario", "clock"]).await, &CLOCK);
}

const CRASH: [&str; 13] = [
    "A sends a transaction, [A] with 1-",
    "A is killed with SIGKILL",
    "A's transaction goes on in the database",
    "the lock is B's",
    "the mark is 1-",
    "B reads []",
    "B writes [B] with 1-",
    "1 update acknowledged, 0 lost",
    "WITHOUT THE GUARD",
    "A is killed with SIGKILL",
    "B writes [B] with 1-",
    "A's transaction commits",
    "1 update acknowledged, 1 LOST (B)",
];

#[tokio::test]
async fn a_crash_on_postgres() {
    let postgres = Postgres::start().await;
    let text = told(&["--scenario", "crash", "--store", &postgres.url()]).await;
    assert_story(&text, &CRASH);
    assert_story(
        &text,
        &["A's session was ENDED: its work is undone", "WITHOUT THE GUARD"],
    );
    let pool = sqlx::PgPool::connect(&postgres.url()).await.unwrap();
    let tables: i64 = sqlx::query_scalar("select count(*) from pg_tables where tablename like 'demo%'")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(tables, 0, "the demo's tables are gone");
}

#[tokio::test]
async fn a_crash_on_postgres_and_etcd() {
    let (postgres, etcd) = tokio::join!(Postgres::start(), Etcd::start());
    let arguments = ["--store", &postgres.url(), "--locks", &etcd_url(&etcd)];
    let text = told(&[&arguments, &["--scenario", "crash"][..]].concat()).await;
    assert_story(&text, &CRASH);
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn one_number_for_two_holders() {
    let server = crate::support::Redis::start().await;
    let text = told(&["--scenario", "duplicate-token", "--locks", &server.url()]).await;
    assert_story(
        &text,
        &[
            "the lock is A's, as number 1",
            "A's grant is held up",
            "B asks for the fence",
            "A holds token 1-1,",
            "Redis forgets",
            "the lock is B's, as number 1",
            "1-1 is not sealed: another holder has it",
            "the lock is B's, as number 2",
            "B writes [B] with 1-2",
            "A writes [A] with 1-1: REFUSED 412 token-stale",
            "A writes [B, A] with 1-3",
            "2 updates acknowledged, 0 lost",
            "WITHOUT THE GUARD",
            "A holds token 1-1,",
            "the lock is B's, as number 1",
            "B holds token 1-1,",
            "B writes [B] with 1-1",
            "A writes [A] with 1-1: accepted",
            "2 updates acknowledged, 1 LOST (B)",
        ],
    );
}

/// No attempt would ever be granted, so none is made.
#[tokio::test]
async fn a_store_that_belongs_to_another_lock_service_is_refused_at_once() {
    let folder = folder("demo");
    let file = |name: &str| format!("sqlite:{}", folder.path().join(name).display());
    let (store, locks) = (file("store.db"), file("locks.db"));
    let clock = ["--scenario", "clock", "--store", &store];
    told(&[&clock[..], &["--locks", &locks]].concat()).await;
    let refused = run(&clock).await;
    let (text, errors) = (
        String::from_utf8_lossy(&refused.stdout),
        String::from_utf8_lossy(&refused.stderr),
    );
    assert_eq!(refused.status.code(), Some(1), "{text}{errors}");
    assert_eq!(text.matches("REFUSED").count(), 0, "{text}");
    assert_eq!(errors.matches("sqlite instance").count(), 2, "{errors}");
    assert!(
        errors.lines().count() == 1
            && errors.contains("Point --locks at the former, or raise the epoch: fencegate rebase"),
        "{errors}"
    );
}
