//! Several fences at once: all of them, or none.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fencegate::{GrantError, LockError, Locks, Options};

use crate::{
    support::{self, eventually, eventually::PATIENCE},
    world::{World, name},
};

const LONG: Duration = Duration::from_secs(3600);

fn waiting(wait: Duration) -> Options {
    Options {
        ttl: LONG,
        wait,
        ..Options::default()
    }
}

async fn are_free(locks: &Locks, names: &[&str]) {
    for name in names {
        eventually(PATIENCE, async || match locks.try_acquire(*name, LONG).await {
            Ok(lease) => lease.release().await.is_ok(),
            Err(_) => false,
        })
        .await;
    }
}

/// Over services of every shape: a queue, and none.
async fn everywhere(case: impl AsyncFn(&Locks)) {
    for world in [
        World::sqlite().await,
        World::postgres().await,
        World::postgres_and_etcd().await,
    ] {
        case(&world.locks).await;
    }
    #[cfg(all(feature = "redis", feature = "zookeeper"))]
    {
        let (redis, zookeeper) = tokio::join!(support::Redis::start(), support::ZooKeeper::start());
        for url in [redis.url(), format!("zookeeper://{}", zookeeper.endpoint())] {
            let folder = support::folder("many");
            let store = format!("sqlite:{}", folder.path().join("store.db").display());
            case(&fencegate::connect(&store, Some(&url)).await.unwrap()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_are_held_until_they_are_released() {
    everywhere(async |locks| {
        let leases = locks
            .acquire_many(["c", "a", "b", "a"], waiting(PATIENCE))
            .await
            .unwrap();
        let names: Vec<_> = leases.iter().map(|lease| lease.name().to_string()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        for lease in leases.iter() {
            let mark = locks.store().fence(lease.name()).await.unwrap().unwrap().mark;
            assert_eq!(mark, lease.token().mark());
            let busy = locks.try_acquire(lease.name().as_str(), LONG).await.unwrap_err();
            assert!(matches!(busy, GrantError::Lock(LockError::Busy { .. })), "{busy}");
        }
        let working = leases.cancelled();
        assert!(!leases.is_lost() && !working.is_cancelled());
        leases.release().await.unwrap();
        assert!(working.is_cancelled());
        are_free(locks, &["a", "b", "c"]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_busy_gives_all_back() {
    everywhere(async |locks| {
        let other = locks.acquire("b", LONG).await.unwrap();
        for wait in [Duration::ZERO, Duration::from_millis(300)] {
            let began = Instant::now();
            let busy = locks
                .acquire_many(["a", "b", "c"], waiting(wait))
                .await
                .unwrap_err();
            assert!(matches!(busy, GrantError::Lock(LockError::Busy { .. })), "{busy}");
            assert!(began.elapsed() >= wait);
            // Given back before the caller was told.
            locks
                .try_acquire("a", LONG)
                .await
                .unwrap()
                .release()
                .await
                .unwrap();
        }
        other.release().await.unwrap();
        are_free(locks, &["a", "b", "c"]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_name_them_in_opposite_orders_do_not_wait_for_each_other() {
    everywhere(async |locks| {
        let inside = Arc::new(tokio::sync::Mutex::new(()));
        let mut callers = tokio::task::JoinSet::new();
        for i in 0..4 {
            let (locks, inside) = (locks.clone(), inside.clone());
            callers.spawn(async move {
                let mut names = ["x", "y", "z"];
                if i % 2 == 0 {
                    names.reverse();
                }
                for _ in 0..5 {
                    let leases = locks.acquire_many(names, waiting(PATIENCE * 4)).await.unwrap();
                    let _alone = inside.try_lock().expect("two hold the same fences");
                    tokio::task::yield_now().await;
                    drop(_alone);
                    leases.release().await.unwrap();
                }
            });
        }
        callers.join_all().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_leaves_nothing() {
    everywhere(async |locks| {
        let other = locks.acquire("b", LONG).await.unwrap();
        for patience in [0, 1, 5, 20, 100, 300] {
            let acquiring = locks.acquire_many(["a", "b"], waiting(PATIENCE));
            let patience = Duration::from_millis(patience);
            assert!(tokio::time::timeout(patience, acquiring).await.is_err());
        }
        are_free(locks, &["a"]).await;
        other.release().await.unwrap();
        are_free(locks, &["a", "b"]).await;
        drop(locks.acquire_many(["a", "b"], waiting(PATIENCE)).await.unwrap());
        are_free(locks, &["a", "b"]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_one_is_lost_all_are() {
    let world = World::postgres().await;
    let options = Options {
        ttl: world.ttl,
        wait: PATIENCE,
        ..Options::default()
    };
    let leases = world.locks.acquire_many(["a", "b"], options).await.unwrap();
    let (pool, working) = (world.pool(), leases.cancelled());
    let open = leases.begin(&pool).await.unwrap();
    world
        .locks
        .release(&name("b"), leases.get("b").unwrap().token())
        .await
        .unwrap_or_default();
    let lost = tokio::time::timeout(PATIENCE, leases.run(std::future::pending::<()>()));
    assert!(lost.await.unwrap().unwrap_err().is_lost());
    assert!(leases.is_lost());
    working.cancelled().await;
    open.commit().await.unwrap_err();
    leases.begin(&pool).await.unwrap_err();
}

/// The transaction passes only if each fence lets it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_under_several_fences_enters_each() {
    let world = World::postgres_and_etcd().await;
    let pool = world.pool();
    let leases = world
        .locks
        .acquire_many(["a", "b"], waiting(PATIENCE))
        .await
        .unwrap();
    sqlx::query("create table t (n int)")
        .execute(&pool)
        .await
        .unwrap();
    let mut transaction = leases.begin(&pool).await.unwrap();
    sqlx::query("insert into t values (1)")
        .execute(&mut *transaction)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    // The last one's token is dead, and its lease has not heard of it.
    let last = leases.get("b").unwrap();
    world
        .locks
        .store()
        .retire(&name("b"), &last.token().mark())
        .await
        .unwrap();
    let refused = leases.begin(&pool).await.unwrap_err();
    assert!(matches!(refused, fencegate::GuardError::Refused(_)), "{refused}");
}

#[tokio::test]
async fn nothing_is_not_several() {
    let world = World::sqlite().await;
    let none: [&str; 0] = [];
    let error = world
        .locks
        .acquire_many(none, waiting(PATIENCE))
        .await
        .unwrap_err();
    assert!(matches!(error, GrantError::NoFence), "{error}");
    let error = world
        .locks
        .acquire_many(["a", "x/y"], waiting(PATIENCE))
        .await
        .unwrap_err();
    assert!(matches!(error, GrantError::Name(_)), "{error}");
    are_free(&world.locks, &["a"]).await;
}
