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

use crate::support::{Postgres, Proxy, eventually, eventually::PATIENCE};

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

/// Hands the lock on to somebody who has waited for a while, and until so many listen; how long after the release he had it.
async fn hand_on(
    from: &PostgresLocks,
    held: Held,
    to: &PostgresLocks,
    pool: &sqlx::PgPool,
    listeners: i64,
) -> (Held, Duration) {
    let waiter = tokio::spawn({
        let to = to.clone();
        async move { (to.acquire(&request(PATIENCE)).await.unwrap(), Instant::now()) }
    });
    tokio::time::sleep(Duration::from_millis(150)).await;
    eventually(PATIENCE, async || {
        let found = sqlx::query_scalar::<_, i64>(LISTENERS).fetch_one(pool).await;
        found.unwrap() >= listeners
    })
    .await;
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
        // Each begins to listen with its first wait.
        let (next, after) = hand_on(from, held, to, &pool, (round + 1).min(2)).await;
        held = next;
        if round >= 2 {
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
    let (held, _) = hand_on(&one, held, &other, &pool, 1).await;
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

/// The row of a fence that is locked for the first time is seen by nobody before its commit, and undoing sees nothing
/// either: the acquisition must not come back from the dead behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_acquisition_that_is_dropped_at_its_commit_leaves_nothing() {
    let Pair {
        one,
        other,
        pool,
        server: _server,
    } = pair().await;
    // Commits that take a while.
    for statement in [
        "create function dawdle() returns trigger language plpgsql as
         'begin if new.holder is not null then perform pg_sleep(1); end if; return null; end'",
        "create constraint trigger dawdle after insert or update on fencegate.lock
         deferrable initially deferred for each row execute function dawdle()",
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    let asked = request(Duration::ZERO);
    let acquiring = tokio::spawn({
        let asked = asked.clone();
        async move { one.acquire(&asked).await }
    });
    eventually(PATIENCE, async || {
        let commits =
            "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and query ilike 'commit%'";
        sqlx::query_scalar::<_, i64>(commits)
            .fetch_one(&pool)
            .await
            .unwrap()
            == 1
    })
    .await;
    acquiring.abort();
    acquiring.await.unwrap_err();
    fencegate::lock::given_back().await;
    sqlx::query("drop trigger dawdle on fencegate.lock")
        .execute(&pool)
        .await
        .unwrap();
    other.acquire(&request(Duration::ZERO)).await.unwrap();
}

/// Undoing that comes late must not end what the same holder has asked for again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_came_again_is_not_undone() {
    let Pair {
        one,
        other,
        pool,
        server: _server,
    } = pair().await;
    let asked = request(Duration::ZERO);
    let first = one.acquire(&asked).await.unwrap();
    one.release(&first.claim).await.unwrap();
    for statement in [
        "create function dawdle() returns trigger language plpgsql as
         'begin if old.holder is null then perform pg_sleep(1); end if; return null; end'",
        "create constraint trigger dawdle after update on fencegate.lock
         deferrable initially deferred for each row execute function dawdle()",
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    let acquiring = tokio::spawn({
        let asked = asked.clone();
        async move { one.acquire(&asked).await }
    });
    eventually(PATIENCE, async || {
        let commits =
            "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and query ilike 'commit%'";
        sqlx::query_scalar::<_, i64>(commits)
            .fetch_one(&pool)
            .await
            .unwrap()
            == 1
    })
    .await;
    // It waits for the row, before the undoing does.
    let again = tokio::spawn({
        let asked = asked.clone();
        async move { other.acquire(&asked).await }
    });
    eventually(PATIENCE, async || {
        let waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'";
        sqlx::query_scalar::<_, i64>(waits)
            .fetch_one(&pool)
            .await
            .unwrap()
            == 1
    })
    .await;
    acquiring.abort();
    acquiring.await.unwrap_err();
    let held = again.await.unwrap().unwrap();
    fencegate::lock::given_back().await;
    let live: bool = sqlx::query_scalar("select holder is not null and sequence = $1 from fencegate.lock")
        .bind(held.claim.sequence.get())
        .fetch_one(&pool)
        .await
        .unwrap();
    assert!(live, "the holder that came again lost its lock to an undoing");
}

/// The time is looked at behind the wait for the row: an update that waited goes by the time at which it began to.
#[tokio::test]
async fn a_renewal_that_waited_for_the_row_until_it_expired_is_late() {
    let Pair {
        one,
        pool,
        server: _server,
        ..
    } = pair().await;
    let short = Request {
        ttl: Duration::from_millis(500),
        ..request(Duration::ZERO)
    };
    let mut row = pool.begin().await.unwrap();
    let held = one.acquire(&short).await.unwrap();
    sqlx::query("select from fencegate.lock for update")
        .execute(&mut *row)
        .await
        .unwrap();
    let renewal = tokio::spawn(async move { one.renew(&held.claim).await });
    let now = async |condition: &'static str| {
        let row = sqlx::query_scalar::<_, i64>(condition).fetch_one(&pool);
        row.await.unwrap() == 1
    };
    eventually(PATIENCE, async || {
        now("select count(*) from pg_stat_activity where wait_event_type = 'Lock'").await
    })
    .await;
    eventually(PATIENCE, async || {
        now("select count(*) from fencegate.lock where expires_at < clock_timestamp()").await
    })
    .await;
    row.commit().await.unwrap();
    let renewed = renewal.await.unwrap();
    assert!(matches!(renewed, Err(fencegate::LockError::Lost)), "{renewed:?}");
}

/// Its machine is frozen, or cut off, between two statements: it has the fence's row, and the server knows of nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stops_inside_a_transaction_holds_nobody_up_for_long() {
    let pair = pair().await;
    let proxy = Proxy::start(format!("127.0.0.1:{}", pair.server.port())).await;
    let url = format!("postgres://postgres@{}/postgres", proxy.addr());
    let frozen = PostgresLocks::new(connect(&url, &PoolSize::default()).unwrap());
    let held = frozen.acquire(&request(Duration::ZERO)).await.unwrap();
    frozen.release(&held.claim).await.unwrap();
    proxy.delay(Duration::from_millis(300));
    let asking = tokio::spawn({
        let frozen = frozen.clone();
        async move { frozen.acquire(&request(Duration::ZERO)).await }
    });
    eventually(PATIENCE, async || {
        let holds = "select count(*) from pg_stat_activity where state = 'idle in transaction' and query like '%for update%'";
        sqlx::query_scalar::<_, i64>(holds).fetch_one(&pair.pool).await.unwrap() == 1
    })
    .await;
    proxy.pause();
    let begun = Instant::now();
    let asked: Vec<_> = (0..20)
        .map(|_| {
            let other = pair.other.clone();
            tokio::spawn(async move { other.acquire(&request(Duration::ZERO)).await })
        })
        .collect();
    // Those who wait for it leave connections for other fences.
    let elsewhere = Request {
        name: crate::world::name("b"),
        ..request(Duration::ZERO)
    };
    eventually(Duration::from_secs(10), async || {
        pair.other.acquire(&elsewhere).await.is_ok()
    })
    .await;
    let mut held = 0;
    for asked in asked {
        held += usize::from(asked.await.unwrap().is_ok());
    }
    assert_eq!(held, 1);
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    proxy.resume();
    let _ = asking.await;
}
