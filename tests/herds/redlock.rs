//! The instances of a redlock tell nobody: one in each process asks now and then, and a release here calls the next.

use fencegate::lock::redlock::Redlock;
use redis::aio::MultiplexedConnection;

use super::*;
use crate::support::{Redis, eventually};

const PROCESSES: usize = 10;

/// How many scripts one instance has run.
async fn scripts(instance: &mut MultiplexedConnection) -> u64 {
    let mut info = redis::cmd("INFO");
    let text: String = info.arg("commandstats").query_async(instance).await.unwrap();
    let line = text.lines().find(|line| line.starts_with("cmdstat_evalsha:"));
    line.and_then(|line| line.split_once("calls=")?.1.split(',').next()?.parse().ok())
        .unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_wakes_a_few_of_500() {
    let (a, b, c) = tokio::join!(Redis::start(), Redis::start(), Redis::start());
    let url = format!("redlock://{},{},{}", a.endpoint(), b.endpoint(), c.endpoint());
    let processes: Vec<_> = (0..PROCESSES).map(|_| Redlock::connect(&url).unwrap()).collect();
    let first = Redlock::connect(&url).unwrap();
    let held = first.acquire(&request(Duration::ZERO)).await.unwrap();
    let client = redis::Client::open(a.url()).unwrap();
    let patient = redis::AsyncConnectionConfig::new().set_response_timeout(Some(SOON));
    let mut beside = client
        .get_multiplexed_async_connection_with_config(&patient)
        .await
        .unwrap();
    let before = scripts(&mut beside).await;
    let mut acquired = crowd(&processes);
    // Each asks once, and gives back what it got, before it joins the line of its process.
    let least = before + 2 * WAITERS as u64;
    eventually(SOON, async || scripts(&mut beside).await >= least).await;

    let each = async |beside: &mut MultiplexedConnection, time: Duration| {
        let (before, started) = (scripts(beside).await, std::time::Instant::now());
        tokio::time::sleep(time).await;
        let asked = scripts(beside).await - before;
        asked as f64 / PROCESSES as f64 / started.elapsed().as_secs_f64()
    };
    // The last of them may still be asking.
    let mut idle = f64::MAX;
    eventually(SOON, async || {
        idle = each(&mut beside, Duration::from_secs(2)).await;
        // An attempt and its undoing, at least 125 ms after the one before.
        idle <= 16.0
    })
    .await;

    let (before, started) = (scripts(&mut beside).await, std::time::Instant::now());
    hand_over((&first, held), &mut acquired).await;
    let asked = scripts(&mut beside).await - before;
    let by_themselves = PROCESSES as f64 * 16.0 * (started.elapsed().as_secs_f64() + 1.0);
    // Taking, numbering, releasing; and a few who came too late.
    assert!(
        asked as f64 <= (RELEASES * 12) as f64 + by_themselves,
        "{asked} scripts for {RELEASES} releases, in {:?}",
        started.elapsed()
    );
}
