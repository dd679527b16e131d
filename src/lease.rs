//! A lease: a sealed grant that renews itself, and knows when it is lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::{
    clock::Moment,
    grant::{Grant, GrantError, Locks},
    guard::{GuardError, Guarded, Isolation, Resource},
    keep::{Keeper, Kept},
    lock::{LockError, Term, give_back, until_done},
    name::FenceName,
    token::Token,
};

/// A fence that is held, and kept by renewing it at a third of its TTL.
///
/// It is lost at the latest when its deadline passes: a TTL after the last successful renewal was *sent*, on a
/// clock that counts the time in which the machine was suspended. What was started under it should then stop,
/// and what does not stop is refused by the guard once there is a newer holder.
///
/// Dropping it releases it in the background; [`Lease::release`] does so for certain.
#[derive(Debug)]
pub struct Lease {
    kept: Arc<Kept<Locks>>,
    released: AtomicBool,
}

/// Tells whether a lease is lost, without keeping it.
#[derive(Debug)]
pub(crate) struct Watch(Arc<Kept<Locks>>);

impl Lease {
    pub(crate) fn start(locks: Locks, grant: Grant) -> Self {
        let Grant { name, token, term } = grant;
        Self {
            kept: Kept::start(locks, name, token, term),
            released: AtomicBool::new(false),
        }
    }

    /// The fence.
    pub fn name(&self) -> &FenceName {
        &self.kept.name
    }

    /// The token to write with.
    pub fn token(&self) -> &Token {
        &self.kept.token
    }

    /// The time to live that the lock service granted.
    pub fn ttl(&self) -> Duration {
        self.kept.ttl()
    }

    /// How long the lease lasts if no further renewal succeeds. Zero when it is lost.
    pub fn remaining(&self) -> Duration {
        self.kept.remaining()
    }

    /// Whether it is lost: its deadline has passed, or the lock service said so.
    pub fn is_lost(&self) -> bool {
        self.kept.is_lost()
    }

    /// Ends when the lease is lost.
    ///
    /// # Cancel safety
    /// Yes.
    pub async fn lost(&self) {
        self.kept.lost().await;
    }

    /// Is cancelled when the lease is lost or released: to be handed to whatever works under it.
    pub fn cancelled(&self) -> CancellationToken {
        self.kept.cancelled()
    }

    /// Runs a future until it ends or the lease is lost, in which case it is dropped.
    ///
    /// # Errors
    /// [`LockError::Lost`] if the lease was lost first.
    ///
    /// # Cancel safety
    /// As the future's own.
    pub async fn run<F: Future>(&self, future: F) -> Result<F::Output, GrantError> {
        self.kept.run(future).await
    }

    /// Begins a read committed transaction that has passed the guard: until it ends, the fence's mark cannot change.
    /// On a Postgres pool, or an [`SqliteFile`](crate::database::sqlite::SqliteFile), with the store's tables in it.
    ///
    /// ```no_run
    /// # async fn example(lease: fencegate::Lease, pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut transaction = lease.begin(&pool).await?;
    /// sqlx::query("update invoice set paid = true where id = $1")
    ///     .bind(7)
    ///     .execute(&mut *transaction)
    ///     .await?;
    /// transaction.commit().await?; // refused if the lease is lost
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`GuardError::LeaseLost`], and [`GuardError::Refused`] when the token is no longer the fence's mark.
    ///
    /// # Cancel safety
    /// Yes: the transaction is rolled back.
    pub async fn begin<R: Resource>(&self, resource: &R) -> Result<Guarded<R::Transaction>, GuardError> {
        self.begin_with(resource, Isolation::ReadCommitted).await
    }

    /// As [`Lease::begin`], at another isolation level.
    ///
    /// # Errors
    /// As [`Lease::begin`]; above read committed also conflicts, which are retryable: see [`crate::retry()`].
    ///
    /// # Cancel safety
    /// Yes: the transaction is rolled back.
    pub async fn begin_with<R: Resource>(
        &self,
        resource: &R,
        isolation: Isolation,
    ) -> Result<Guarded<R::Transaction>, GuardError> {
        begin_under(std::slice::from_ref(self), resource, isolation).await
    }

    /// Renews now, apart from the renewals that happen by themselves.
    ///
    /// # Errors
    /// [`LockError::Lost`] when it is too late: the lease is then lost for good.
    ///
    /// # Cancel safety
    /// The renewal may or may not happen.
    pub async fn renew(&self) -> Result<(), GrantError> {
        self.kept.renew().await
    }

    /// Releases: the token is dead from here on, and the fence is free for others.
    ///
    /// # Errors
    /// When the store or the lock service cannot be asked. It is then tried again in the background, until it is done
    /// or the lock has ended with its TTL.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the rest of the release to the background.
    pub async fn release(self) -> Result<(), GrantError> {
        self.kept.give_up();
        let released = self.kept.keeper.release(&self.kept.name, &self.kept.token).await;
        self.released.store(released.is_ok(), Ordering::Relaxed);
        released.map(drop)
    }
}

/// Begins a transaction that has passed the guard under each of these leases, of which there is at least one.
pub(crate) async fn begin_under<R: Resource>(
    leases: &[Lease],
    resource: &R,
    isolation: Isolation,
) -> Result<Guarded<R::Transaction>, GuardError> {
    if leases.iter().any(Lease::is_lost) {
        return Err(GuardError::LeaseLost);
    }
    let fences: Vec<_> = leases.iter().map(|lease| (lease.name(), lease.token())).collect();
    let idle = leases.iter().map(Lease::ttl).min();
    let entered = resource.enter(&fences, isolation, idle).await;
    if let (Err(GuardError::Refused(refusal)), Some(lease)) = (&entered, leases.first()) {
        let who = format!("process {}", std::process::id());
        lease.kept.keeper.rejections().note(refusal, &who);
    }
    let watches = leases.iter().map(|lease| Watch(lease.kept.clone())).collect();
    Ok(Guarded::new(entered?, watches))
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.kept.give_up();
        if self.released.load(Ordering::Relaxed) {
            return;
        }
        let kept = self.kept.clone();
        give_back(async move {
            let release = async || kept.keeper.release(&kept.name, &kept.token).await.map(drop);
            until_done(&kept.name, Moment::now() + kept.ttl(), release).await;
        });
    }
}

impl Watch {
    pub(crate) fn is_lost(&self) -> bool {
        self.0.is_lost()
    }
}

impl Keeper for Locks {
    type Error = GrantError;

    async fn keep(&self, name: &FenceName, token: &Token, _ttl: Duration) -> Result<Term, GrantError> {
        self.renew(name, token).await
    }

    fn is_lost(error: &GrantError) -> bool {
        error.is_lost()
    }

    fn lost() -> GrantError {
        LockError::Lost.into()
    }
}
