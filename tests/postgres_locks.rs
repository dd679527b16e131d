//! The postgres lock service's own: who waits is told of a release, also after the telling broke down.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fencegate::{
    Holder,
    database::postgres::{PoolSize, connect, migrate},
    lock::{Held, LockService, Request, postgres::PostgresLocks},
};

use crate::support::{Postgres, eventually, eventually::PATIENCE};

const LISTENERS: &str = "select count(*) from pg_stat_activity where query ilike 'listen %'";

struct Pair {
    server: Postgres,
    one: PostgresLocks,
    other: PostgresLocks,
    pool: sqlx::PgPool,
}

async fn pair() -> Pair {
    let server = Postgres::start().await;
    let pool = || connect(&server.url(), &PoolSize::default()).unwrap();
    migrate(&pool()).await.unwrap();
    Pair {
        one: PostgresLocks::new(pool()),
        other: PostgresLocks::new(pool()),
        pool: pool(),
        server,
    }
}

fn request(wait: Duration) -> Request {
    Request {
        name: crate::world::name("a"),
        holder: Holder::random(),
        label: String::new(),
        ttl: Duration::from_secs(60),
        wait,
        floor: 0,
    }
}

/// Hands the lock on to somebody who has waited for a while; how long after the release he had it.
async fn hand_on(from: &PostgresLocks, held: Held, to: &PostgresLocks) -> (Held, Duration) {
    let waiter = tokio::spawn({
        let to = to.clone();
        async move { (to.acquire(&request(PATIENCE)).await.unwrap(), Instant::now()) }
    });
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert!(!waiter.is_finished());
    let released = Instant::now();
    from.release(&held.claim).await.unwrap();
    let (held, at) = waiter.await.unwrap();
    (held, at - released)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_is_told() {
    let Pair {
        one,
        other,
        pool,
        server: _server,
    } = pair().await;
    let mut held = one.acquire(&request(Duration::ZERO)).await.unwrap();
    let mut took = Duration::ZERO;
    for round in 0..11 {
        let (from, to) = if round % 2 == 0 {
            (&one, &other)
        } else {
            (&other, &one)
        };
        let (next, after) = hand_on(from, held, to).await;
        held = next;
        if round < 2 {
            // Both have begun to listen with their first wait.
            eventually(PATIENCE, async || {
                sqlx::query_scalar::<_, i64>(LISTENERS)
                    .fetch_one(&pool)
                    .await
                    .unwrap()
                    > round
            })
            .await;
        } else {
            took += after;
        }
    }
    // Without being told they would ask again after half a second to a second.
    assert!(took < Duration::from_millis(9 * 250), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_survives_the_listener() {
    let Pair {
        one,
        other,
        pool,
        server: _server,
    } = pair().await;
    let held = one.acquire(&request(Duration::ZERO)).await.unwrap();
    let waiters: Vec<_> = (0..20)
        .map(|_| {
            let other = Arc::new(other.clone());
            tokio::spawn(async move {
                let held = other.acquire(&request(PATIENCE)).await.unwrap();
                other.release(&held.claim).await.unwrap();
            })
        })
        .collect();
    eventually(PATIENCE, async || {
        sqlx::query_scalar::<_, i64>(LISTENERS)
            .fetch_one(&pool)
            .await
            .unwrap()
            == 1
    })
    .await;
    sqlx::query("select pg_terminate_backend(pid) from pg_stat_activity where query ilike 'listen %'")
        .execute(&pool)
        .await
        .unwrap();
    one.release(&held.claim).await.unwrap();
    for waiter in waiters {
        waiter.await.unwrap();
    }
    // And it listens again.
    let held = one.acquire(&request(Duration::ZERO)).await.unwrap();
    let (held, _) = hand_on(&one, held, &other).await;
    eventually(PATIENCE, async || {
        sqlx::query_scalar::<_, i64>(LISTENERS)
            .fetch_one(&pool)
            .await
            .unwrap()
            == 1
    })
    .await;
    other.release(&held.claim).await.unwrap();
}
