//! Waiting without a queue: a release calls a few, nobody starves, and nobody who goes away leaves a trace.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fencegate::lock::{Held, LockService, Request, redis::RedisLocks};
use redis::aio::MultiplexedConnection;

use super::{beside, locks, request, scripts, waiting};
use crate::support::{Proxy, Redis, eventually};

const SOON: Duration = Duration::from_secs(30);

/// How many connections listen for releases of `a`.
async fn listeners(beside: &mut MultiplexedConnection) -> u64 {
    let mut ask = redis::cmd("PUBSUB");
    ask.arg("NUMSUB").arg("fencegate/locks//released/a");
    ask.query_async::<(String, u64)>(beside).await.unwrap().1
}

/// Every one of these waits for `a`, and gives it to the next as soon as it has it.
fn relay(waiters: Vec<RedisLocks>) -> tokio::task::JoinSet<Held> {
    let mut relay = tokio::task::JoinSet::new();
    for locks in waiters {
        relay.spawn(async move {
            let held = locks.acquire(&waiting("a")).await.unwrap();
            locks.release(&held.claim).await.unwrap();
            held
        });
    }
    relay
}

#[tokio::test]
async fn one_process_asks_the_same_however_many_wait_in_it() {
    let server = Redis::start().await;
    let (locks, mut beside) = (locks(&server.url()), beside(&server).await);
    let held = locks.acquire(&request("a")).await.unwrap();
    let relay = relay(vec![locks.clone(); 500]);
    eventually(SOON, async || listeners(&mut beside).await == 1).await;
    let (before, started) = (scripts(&mut beside).await, Instant::now());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = scripts(&mut beside).await - before;
    assert!(
        asked <= 5 * started.elapsed().as_secs(),
        "{asked} questions while nothing happened"
    );

    let before = scripts(&mut beside).await;
    locks.release(&held.claim).await.unwrap();
    let mut sequences: Vec<_> = relay
        .join_all()
        .await
        .iter()
        .map(|held| held.claim.sequence.get())
        .collect();
    sequences.sort_unstable();
    assert_eq!(sequences, (2..=501).collect::<Vec<_>>());
    let asked = scripts(&mut beside).await - before;
    assert!(asked < 1500, "{asked} scripts for 500 hand-overs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_calls_a_few_of_many_processes() {
    const PROCESSES: u64 = 100;
    let server = Redis::start().await;
    let (first, mut beside) = (locks(&server.url()), beside(&server).await);
    let held = first.acquire(&request("a")).await.unwrap();
    let processes = (0..PROCESSES).map(|_| locks(&server.url())).collect();
    let relay = relay(processes);
    eventually(SOON, async || listeners(&mut beside).await == PROCESSES).await;

    let (before, started) = (scripts(&mut beside).await, Instant::now());
    first.release(&held.claim).await.unwrap();
    relay.join_all().await;
    let asked = scripts(&mut beside).await - before;
    // An acquisition and a release each, a few that came too late, and what each asks by itself: a herd would
    // be 5,000.
    let by_themselves = PROCESSES * 2 * (started.elapsed().as_secs() + 1);
    assert!(
        asked < PROCESSES * 12 + by_themselves,
        "{asked} scripts in {:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_process_does_not_starve_another() {
    let server = Redis::start().await;
    let (busy, other) = (locks(&server.url()), locks(&server.url()));
    let done = Arc::new(AtomicBool::new(false));
    let cycles = Arc::new(AtomicU64::new(0));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (busy, done, cycles) = (busy.clone(), done.clone(), cycles.clone());
        workers.spawn(async move {
            while !done.load(Ordering::Relaxed) {
                let held = busy.acquire(&waiting("a")).await.unwrap();
                busy.release(&held.claim).await.unwrap();
                cycles.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    eventually(SOON, async || cycles.load(Ordering::Relaxed) > 100).await;
    let before = cycles.load(Ordering::Relaxed);
    for _ in 0..20 {
        let held = other.acquire(&waiting("a")).await.unwrap();
        other.release(&held.claim).await.unwrap();
    }
    let each = (cycles.load(Ordering::Relaxed) - before) / 20;
    done.store(true, Ordering::Relaxed);
    workers.join_all().await;
    assert!(each < 100, "the busy one had {each} turns for each of the other");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiters_that_are_dropped_at_random_leave_nothing() {
    let server = Redis::start().await;
    let (one, other) = (locks(&server.url()), locks(&server.url()));
    let mut waiters = tokio::task::JoinSet::new();
    for i in 0..1000u64 {
        let locks = if i % 2 == 0 { one.clone() } else { other.clone() };
        waiters.spawn(async move {
            let patience = Duration::from_micros(i * 7919 % 500_000);
            let request = waiting("a");
            if let Ok(held) = tokio::time::timeout(patience, locks.acquire(&request)).await {
                let held = held.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
                locks.renew(&held.claim).await.unwrap();
                locks.release(&held.claim).await.unwrap();
            }
        });
    }
    waiters.join_all().await;
    // The locks have a long TTL: a ghost would keep this one waiting for it.
    let brief = Request {
        wait: Duration::from_secs(10),
        ..request("a")
    };
    one.acquire(&brief).await.unwrap();
    let mut beside = beside(&server).await;
    eventually(SOON, async || listeners(&mut beside).await == 0).await;
}

#[tokio::test]
async fn an_expired_lock_is_taken_soon() {
    let server = Redis::start().await;
    let (one, other) = (locks(&server.url()), locks(&server.url()));
    let brief = Request {
        ttl: Duration::from_secs(2),
        ..request("a")
    };
    let held = one.acquire(&brief).await.unwrap();
    other.acquire(&waiting("a")).await.unwrap();
    assert!(held.term.deadline.has_passed());
    assert!(
        held.term.deadline.elapsed() < Duration::from_millis(500),
        "{:?}",
        held.term.deadline.elapsed()
    );
}

/// Waits for `a` in a runtime of its own, which ends when something has come of it.
fn begin(locks: &RedisLocks, something: impl AsyncFnOnce()) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    let request = waiting("a");
    runtime.block_on(async {
        tokio::select! {
            biased;
            ended = locks.acquire(&request) => panic!("{ended:?}"),
            () = something() => {}
        }
    });
}

/// A program may have several runtimes, and one that ends takes neither the connection with it that it was making, nor
/// the news of releases.
#[test]
fn a_runtime_that_ends_takes_nothing_with_it() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(Redis::start());
    let proxy = runtime.block_on(Proxy::start(server.endpoint()));
    let locks = locks(&format!("redis://{}", proxy.addr()));
    proxy.pause();
    begin(&locks, async || {});
    proxy.resume();
    let acquired = runtime.block_on(async {
        let acquired = async || locks.acquire(&waiting("a")).await.ok();
        let mut held = None;
        eventually(SOON, async || {
            held = acquired().await;
            held.is_some()
        })
        .await;
        held.unwrap()
    });

    begin(&locks, async || {
        let mut beside = beside(&server).await;
        eventually(SOON, async || listeners(&mut beside).await == 1).await;
    });
    let mut beside = runtime.block_on(beside(&server));
    runtime.block_on(async {
        eventually(SOON, async || listeners(&mut beside).await == 0).await;
        let (next, other) = (locks.clone(), RedisLocks::connect(&server.url()).unwrap());
        let next = tokio::spawn(async move { next.acquire(&waiting("a")).await.unwrap() });
        eventually(SOON, async || listeners(&mut beside).await == 1).await;
        other.release(&acquired.claim).await.unwrap();
        next.await.unwrap();
    });
}
