//! Postgres tells every process, and one in each asks.

use fencegate::{
    database::postgres::{PoolSize, connect, migrate},
    lock::postgres::PostgresLocks,
};
use sqlx::{Connection, PgConnection};

use super::*;
use crate::support::{Postgres, eventually};

const PROCESSES: usize = 10;

/// How often somebody has asked for the lock's row, as the server counts it.
async fn asked(connection: &mut PgConnection) -> i64 {
    sqlx::query_scalar(
        "select coalesce(sum(calls), 0)::bigint from pg_stat_user_functions where funcname = 'make_durable'",
    )
    .fetch_one(connection)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_wakes_a_few_of_500() {
    // Sessions report what they did when they next have nothing to do, and at most once a second.
    let server = Postgres::builder().set("track_functions", "all").start().await;
    let size = PoolSize {
        connections: 4,
        acquire_timeout: SOON,
    };
    let pool = || connect(&server.url(), &size).unwrap();
    migrate(&pool()).await.unwrap();
    let processes: Vec<_> = (0..PROCESSES).map(|_| PostgresLocks::new(pool())).collect();
    let first = PostgresLocks::new(pool());
    let held = first.acquire(&request(Duration::ZERO)).await.unwrap();
    let mut acquired = crowd(&processes);
    let mut beside = PgConnection::connect(&server.url()).await.unwrap();
    eventually(SOON, async || asked(&mut beside).await >= WAITERS as i64).await;

    // While nothing happens, one in each process asks now and then.
    let (before, started) = (asked(&mut beside).await, std::time::Instant::now());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let idle = asked(&mut beside).await - before;
    let most = 3 * PROCESSES as u64 * (started.elapsed().as_secs() + 2);
    assert!(
        idle <= most as i64,
        "{idle} questions in 5 s while nothing happened"
    );

    let (before, started) = (asked(&mut beside).await, std::time::Instant::now());
    hand_over((&first, held), &mut acquired).await;
    // Until all have reported.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let asked = asked(&mut beside).await - before;
    let by_themselves = 3 * PROCESSES as u64 * (started.elapsed().as_secs() + 2);
    let called = (PROCESSES * 3 * RELEASES) as u64;
    assert!(
        asked <= (called + by_themselves) as i64,
        "{asked} questions for {RELEASES} releases, in {:?}",
        started.elapsed()
    );
}
