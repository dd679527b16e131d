//! Leases: renewal, loss and release.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use fencegate::{
    FenceName, GrantError, Holder, LockError, LockService, Locks, Options,
    lock::{Claim, Held, Identity, Kind, LockState, Request, Term, given_back},
};
use sqlx::AssertSqlSafe;
use tokio::sync::Semaphore;

use crate::{
    support::{Etcd, Postgres, Proxy, eventually, eventually::PATIENCE},
    world::{World, name},
};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_lease_renews_itself_and_is_released_for_certain() {
    for world in [World::sqlite().await, World::postgres_and_etcd().await] {
        let lease = world.locks.acquire("f", world.ttl).await.unwrap();
        let until = Instant::now() + lease.ttl() * 2;
        while Instant::now() < until {
            tokio::time::sleep(lease.ttl() / 5).await;
            assert!(
                !lease.is_lost() && lease.remaining() > lease.ttl() / 3,
                "{:?}",
                lease.remaining()
            );
            let busy = world.locks.try_acquire("f", world.ttl).await.unwrap_err();
            assert!(matches!(busy, GrantError::Lock(LockError::Busy { .. })), "{busy}");
        }
        let token = lease.token().clone();
        let working = lease.cancelled();
        lease.release().await.unwrap();
        assert!(working.is_cancelled());
        assert!(world.put("f", &token, "a", "late").await.is_err());
        let next = world.locks.try_acquire("f", world.ttl).await.unwrap();
        assert!(next.token().sequence > token.sequence);
    }
}

#[tokio::test]
async fn dropping_a_lease_releases_it_soon() {
    let world = World::sqlite().await;
    let lease = world.locks.acquire("f", Duration::from_secs(3600)).await.unwrap();
    let token = lease.token().clone();
    drop(lease);
    eventually(SOON, async || {
        world.locks.try_acquire("f", world.ttl).await.is_ok()
    })
    .await;
    assert!(world.put("f", &token, "a", "late").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_lost_by_its_deadline_when_the_lock_service_is_silent() {
    let world = World::postgres_and_etcd().await;
    let lease = world.locks.acquire("f", world.ttl).await.unwrap();
    let etcd = world.etcd.as_ref().unwrap();
    etcd.stop();
    let stopped = Instant::now();
    let finished = AtomicBool::new(false);
    let work = async {
        tokio::time::sleep(Duration::from_secs(600)).await;
        finished.store(true, Ordering::Relaxed);
    };
    let lost = tokio::time::timeout(SOON, lease.run(work))
        .await
        .unwrap()
        .unwrap_err();
    assert!(lost.is_lost() && !finished.load(Ordering::Relaxed));
    assert!(
        stopped.elapsed() <= lease.ttl() + Duration::from_millis(500),
        "{:?}",
        stopped.elapsed()
    );
    assert!(lease.is_lost() && lease.cancelled().is_cancelled());
    etcd.cont();
    // It never comes back to life, though etcd does.
    assert!(lease.renew().await.unwrap_err().is_lost());
    let next = world.locks.acquire("f", world.ttl).await.unwrap();
    assert!(next.token().sequence > lease.token().sequence);
}

#[tokio::test]
async fn a_lease_is_lost_when_somebody_else_ends_it() {
    for world in [World::sqlite().await, World::postgres_and_etcd().await] {
        let lease = world.locks.acquire("f", world.ttl).await.unwrap();
        world.locks.release(&name("f"), lease.token()).await.unwrap();
        tokio::time::timeout(world.ttl, lease.lost())
            .await
            .expect("lost at the next renewal");
    }
}

/// etcd is gone while a lease is held: writes go on, acquiring does not, and comes back with etcd.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_do_not_need_the_lock_service() {
    let mut world = World::postgres_and_etcd().await;
    let token = world.grant("f").await;
    world.etcd.as_mut().unwrap().kill9();
    world.put("f", &token, "a", "x").await.unwrap();
    let error = world.locks.try_acquire("g", world.ttl).await.unwrap_err();
    assert!(
        matches!(error, GrantError::Lock(LockError::Unavailable { .. })),
        "{error}"
    );
    assert!(error.to_string().contains("127.0.0.1:"), "{error}");
    world.etcd.as_mut().unwrap().restart().await;
    world.put("f", &token, "a", "y").await.unwrap();
    let next = world.locks.acquire("f", world.ttl).await.unwrap();
    assert!(next.token().sequence > token.sequence);
}

/// The lock service is out of reach when a lease is dropped, or its release fails: it is released as soon as that is
/// possible, long before it would expire.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_released_is_released_later() {
    let (postgres, etcd) = tokio::join!(Postgres::start(), Etcd::start());
    let mut proxy = Proxy::start(etcd.endpoint()).await;
    let locks = fencegate::connect(&postgres.url(), Some(&format!("etcd://{}", proxy.addr())))
        .await
        .unwrap();
    locks.migrate().await.unwrap();
    for dropped in [true, false] {
        let lease = locks.acquire("f", Duration::from_secs(3600)).await.unwrap();
        proxy.refuse(true).await;
        proxy.cut();
        if dropped {
            drop(lease);
            // Its first try fails by then.
            tokio::time::sleep(Duration::from_secs(4)).await;
        } else {
            lease.release().await.unwrap_err();
        }
        proxy.refuse(false).await;
        eventually(PATIENCE, async || {
            locks.try_acquire("f", Duration::from_secs(3600)).await.is_ok()
        })
        .await;
        // That one was dropped at once.
        fencegate::lock::given_back().await;
    }
}

/// Its moments mean something only where the machine is not busy with other tests.
mod heavy {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_grant_that_is_dropped_at_any_moment_leaves_the_fence_free() {
        for world in [
            World::sqlite().await,
            World::postgres().await,
            World::postgres_and_etcd().await,
        ] {
            let world = Arc::new(world);
            for i in 0..40u64 {
                let patience = Duration::from_micros(i * 400);
                let acquire = world.locks.acquire("f", Duration::from_secs(600));
                if let Ok(lease) = tokio::time::timeout(patience, acquire).await {
                    lease.unwrap().release().await.unwrap();
                }
            }
            eventually(SOON, async || {
                match world.locks.try_acquire("f", world.ttl).await {
                    Ok(lease) => lease.release().await.is_ok(),
                    Err(error) => {
                        // Shown if it never comes free.
                        println!("{}: {error}", world.locks.service().kind());
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        false
                    }
                }
            })
            .await;
        }
    }
}

/// Gives the function that seals another name, under which nobody finds it.
async fn rename(world: &World, from: &str, to: &str) {
    let sql =
        format!("alter function fencegate.{from}(text, bigint, bigint, bytea, interval) rename to {to}");
    sqlx::query(AssertSqlSafe(sql))
        .execute(&world.pool())
        .await
        .unwrap();
}

/// A holder that chose its secret, and asks again because an answer was lost.
#[tokio::test]
async fn asking_again_in_vain_does_not_end_what_was_granted_before() {
    let world = World::postgres().await;
    let options = Options {
        ttl: Duration::from_secs(60),
        holder: Some(Holder::random()),
        ..Options::default()
    };
    let granted = world.locks.grant(&name("f"), options.clone()).await.unwrap();
    // The lock service answers, and then the store does not.
    rename(&world, "seal", "seal_away").await;
    world.locks.grant(&name("f"), options.clone()).await.unwrap_err();
    rename(&world, "seal_away", "seal").await;
    world.locks.renew(&name("f"), &granted.token).await.unwrap();
    let again = world.locks.grant(&name("f"), options).await.unwrap();
    assert_eq!(again.token, granted.token);
    // What was never granted is given back all the same.
    rename(&world, "seal", "seal_away").await;
    let other = Options {
        ttl: Duration::from_secs(60),
        holder: Some(Holder::random()),
        ..Options::default()
    };
    world.locks.grant(&name("g"), other).await.unwrap_err();
    rename(&world, "seal_away", "seal").await;
    world.locks.try_acquire("g", world.ttl).await.unwrap();
}

/// A lock service whose first release fails, and whose later ones wait to be let through.
#[derive(Debug)]
struct LateReleases {
    inner: Arc<dyn LockService>,
    asked: AtomicBool,
    let_through: Semaphore,
}

#[async_trait]
impl LockService for LateReleases {
    fn kind(&self) -> Kind {
        self.inner.kind()
    }

    async fn identity(&self) -> Result<Identity, LockError> {
        self.inner.identity().await
    }

    async fn acquire(&self, request: &Request) -> Result<Held, LockError> {
        self.inner.acquire(request).await
    }

    async fn renew(&self, claim: &Claim) -> Result<Term, LockError> {
        self.inner.renew(claim).await
    }

    async fn release(&self, claim: &Claim) -> Result<(), LockError> {
        if !self.asked.swap(true, Ordering::Relaxed) {
            let (service, detail) = ("late".into(), "on purpose".into());
            return Err(LockError::Unavailable { service, detail });
        }
        let _through = self.let_through.acquire().await.unwrap();
        self.inner.release(claim).await
    }

    async fn inspect(&self, name: &FenceName) -> Result<LockState, LockError> {
        self.inner.inspect(name).await
    }
}

/// What could not be given back at once is not given back later, when the holder that asked again may have it.
#[tokio::test]
async fn asking_again_after_a_failure_keeps_what_it_then_gets() {
    let world = World::postgres().await;
    let late = Arc::new(LateReleases {
        inner: world.locks.service().clone(),
        asked: AtomicBool::new(false),
        let_through: Semaphore::new(0),
    });
    let locks = Locks::new(late.clone(), world.locks.store().clone());
    let options = Options {
        ttl: Duration::from_secs(60),
        holder: Some(Holder::random()),
        ..Options::default()
    };
    rename(&world, "seal", "seal_away").await;
    locks.grant(&name("f"), options.clone()).await.unwrap_err();
    rename(&world, "seal_away", "seal").await;
    let granted = locks.grant(&name("f"), options).await.unwrap();
    late.let_through.add_permits(100);
    given_back().await;
    locks.renew(&name("f"), &granted.token).await.unwrap();
}
