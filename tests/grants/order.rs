//! The order of a grant, with something happening at its worst moment: when the lock is held and not sealed yet.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use fencegate::{
    FenceName, GrantError, LockError, LockService, Locks, Options, Sequence,
    lock::{Claim, Held, Identity, Kind, LockState, Request, Term},
};
use futures::future::BoxFuture;

use crate::world::{World, name};

type Happening = Box<dyn Fn(Held) -> BoxFuture<'static, ()> + Send + Sync>;

/// A real lock service, with what happens between its answer and what is made of it.
struct Then {
    service: Arc<dyn LockService>,
    happening: Happening,
}

impl fmt::Debug for Then {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.service.fmt(f)
    }
}

#[async_trait]
impl LockService for Then {
    fn kind(&self) -> Kind {
        self.service.kind()
    }

    async fn identity(&self) -> Result<Identity, LockError> {
        self.service.identity().await
    }

    async fn acquire(&self, request: &Request) -> Result<Held, LockError> {
        let held = self.service.acquire(request).await?;
        (self.happening)(held.clone()).await;
        Ok(held)
    }

    async fn renew(&self, claim: &Claim) -> Result<Term, LockError> {
        self.service.renew(claim).await
    }

    async fn release(&self, claim: &Claim) -> Result<(), LockError> {
        self.service.release(claim).await
    }

    async fn inspect(&self, name: &FenceName) -> Result<LockState, LockError> {
        self.service.inspect(name).await
    }

    async fn confirm(&self, name: &FenceName, sequence: Sequence) -> Result<Option<Identity>, LockError> {
        self.service.confirm(name, sequence).await
    }
}

fn locks(world: &World, happening: Happening) -> Locks {
    let service = world.locks.service().clone();
    Locks::new(Arc::new(Then { service, happening }), world.locks.store().clone())
}

fn once(world: &World) -> Options {
    Options {
        ttl: world.ttl,
        ..Options::default()
    }
}

async fn raise_the_epoch(pool: &sqlx::PgPool) {
    sqlx::query("update fencegate.epoch set number = number + 1")
        .execute(pool)
        .await
        .unwrap();
}

/// Who acquired before the epoch was raised must not stamp the new one onto its number, which is of a history that
/// has ended.
#[tokio::test]
async fn an_epoch_that_is_raised_once_the_lock_is_held_gives_no_lease() {
    let world = World::postgres().await;
    // Binds the epoch.
    let first = world.grant("f").await;
    world.locks.release(&name("f"), &first).await.unwrap();
    let pool = world.pool();
    let locks = locks(
        &world,
        Box::new(move |_| {
            let pool = pool.clone();
            Box::pin(async move { raise_the_epoch(&pool).await })
        }),
    );
    let error = locks.grant(&name("f"), once(&world)).await.unwrap_err();
    assert!(matches!(error, GrantError::EpochChanged), "{error}");
    let mark = world.locks.store().fence(&name("f")).await.unwrap().unwrap().mark;
    assert_eq!(mark.number(), (first.epoch, first.sequence), "nothing was sealed");
}

/// Sealing ends what older holders have open, so it can take longer than the lease lasts.
#[tokio::test]
async fn a_lease_that_died_before_it_was_sealed_is_not_handed_out() {
    let world = World::sqlite().await;
    let locks = locks(
        &world,
        Box::new(|held| {
            Box::pin(async move {
                while !held.term.deadline.has_passed() {
                    tokio::time::sleep(held.term.deadline.remaining().max(Duration::from_millis(1))).await;
                }
            })
        }),
    );
    let error = locks.grant(&name("f"), once(&world)).await.unwrap_err();
    assert!(error.is_lost(), "{error}");
}

/// A lease from before a rebase is over, though its lock service goes on renewing its lock.
#[tokio::test]
async fn an_epoch_that_is_raised_ends_the_leases_before_it() {
    let world = World::postgres().await;
    let options = Options {
        ttl: Duration::from_secs(60),
        ..Options::default()
    };
    let token = world.locks.grant(&name("f"), options).await.unwrap().token;
    world.locks.renew(&name("f"), &token).await.unwrap();
    raise_the_epoch(&world.pool()).await;
    let error = world.locks.renew(&name("f"), &token).await.unwrap_err();
    assert!(error.is_lost(), "{error}");
}
