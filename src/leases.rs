//! Several fences under one handle: all of them are held, or none.

use std::collections::BTreeSet;

use futures::future::select_all;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Moment,
    grant::{GrantError, Locks, Options},
    guard::{GuardError, Guarded, Isolation, Resource},
    lease::{Lease, begin_under},
    lock::LockError,
    name::{FenceName, NameError},
};

/// Several fences that are held together, each by a [`Lease`] that renews itself. When one of them is lost, all count as
/// lost.
///
/// Dropping it releases them in the background; [`Leases::release`] does so for certain.
#[derive(Debug)]
pub struct Leases {
    /// In the order of their names. Never empty.
    leases: Vec<Lease>,
    lost: CancellationToken,
}

impl Locks {
    /// Acquires several fences: all of them, or none. However many callers ask for the same ones, and in whatever order
    /// each names them, they do not wait for each other in a circle: every one takes them in the order of their names.
    /// A fence that is named twice is taken once.
    ///
    /// `options` is for each of them, and its wait is for all together. A holder that is chosen is the same for all.
    ///
    /// ```no_run
    /// # async fn example(locks: fencegate::Locks, pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// let options = fencegate::Options { wait: Duration::from_secs(30), ..Default::default() };
    /// let leases = locks.acquire_many(["account:7", "account:9"], options).await?;
    /// let mut transaction = leases.begin(&pool).await?; // has passed the guard on both fences
    /// sqlx::query("select transfer(7, 9, 100)").execute(&mut *transaction).await?;
    /// transaction.commit().await?; // refused if one of the leases is lost
    /// leases.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Locks::acquire`], for the first fence that is not to be had; [`LockError::Busy`] when the wait ran out;
    /// [`GrantError::NoFence`] if none is named. What had been taken is given back.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the queue, and gives back what was taken.
    pub async fn acquire_many<N>(
        &self,
        names: impl IntoIterator<Item = N>,
        options: Options,
    ) -> Result<Leases, GrantError>
    where
        N: TryInto<FenceName>,
        N::Error: Into<NameError>,
    {
        let names = names.into_iter().map(|name| name.try_into().map_err(Into::into));
        let names: BTreeSet<FenceName> = names.collect::<Result<_, NameError>>()?;
        if names.is_empty() {
            return Err(GrantError::NoFence);
        }
        let mut taken = Vec::with_capacity(names.len());
        match self.take_in_order(names, options, &mut taken).await {
            Ok(()) => Ok(Leases::new(taken)),
            Err(error) => {
                // Before the caller hears of it, so that they are free for whoever it tells.
                let _ = release_all(taken).await;
                Err(error)
            }
        }
    }

    async fn take_in_order(
        &self,
        names: BTreeSet<FenceName>,
        options: Options,
        taken: &mut Vec<Lease>,
    ) -> Result<(), GrantError> {
        let give_up = Moment::now() + options.wait;
        for name in names {
            let options = Options {
                wait: give_up.remaining(),
                ..options.clone()
            };
            let lease = tokio::select! {
                biased;
                () = any_lost(taken) => return Err(LockError::Lost.into()),
                lease = self.acquire_with(name, options) => lease?,
            };
            taken.push(lease);
        }
        match taken.iter().any(Lease::is_lost) {
            true => Err(LockError::Lost.into()),
            false => Ok(()),
        }
    }
}

impl Leases {
    fn new(leases: Vec<Lease>) -> Self {
        let lost = CancellationToken::new();
        let ends: Vec<_> = leases
            .iter()
            .map(|lease| Box::pin(lease.cancelled().cancelled_owned()))
            .collect();
        tokio::spawn({
            let lost = lost.clone();
            async move {
                select_all(ends).await;
                lost.cancel();
            }
        });
        Self { leases, lost }
    }

    /// Each of them, in the order of the fences' names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Lease> {
        self.leases.iter()
    }

    /// The lease of a fence, if it is among them.
    pub fn get(&self, name: &str) -> Option<&Lease> {
        self.leases.iter().find(|lease| lease.name().as_str() == name)
    }

    /// Whether one of them is lost.
    pub fn is_lost(&self) -> bool {
        self.leases.iter().any(Lease::is_lost)
    }

    /// Ends when one of them is lost.
    ///
    /// # Cancel safety
    /// Yes.
    pub async fn lost(&self) {
        any_lost(&self.leases).await;
    }

    /// Is cancelled when one of them is lost or they are released: to be handed to whatever works under them.
    pub fn cancelled(&self) -> CancellationToken {
        self.lost.child_token()
    }

    /// Runs a future until it ends or one of the leases is lost, in which case it is dropped.
    ///
    /// # Errors
    /// [`LockError::Lost`] if a lease was lost first.
    ///
    /// # Cancel safety
    /// As the future's own.
    pub async fn run<F: Future>(&self, future: F) -> Result<F::Output, GrantError> {
        tokio::select! {
            biased;
            () = self.lost() => Err(LockError::Lost.into()),
            output = future => Ok(output),
        }
    }

    /// Begins a read committed transaction that has passed the guard on all of the fences, as [`Lease::begin`] does on
    /// one.
    ///
    /// # Errors
    /// As [`Lease::begin`], for any of them.
    ///
    /// # Cancel safety
    /// Yes: the transaction is rolled back.
    pub async fn begin<R: Resource>(&self, resource: &R) -> Result<Guarded<R::Transaction>, GuardError> {
        self.begin_with(resource, Isolation::ReadCommitted).await
    }

    /// As [`Leases::begin`], at another isolation level.
    ///
    /// # Errors
    /// As [`Lease::begin_with`], for any of them.
    ///
    /// # Cancel safety
    /// Yes: the transaction is rolled back.
    pub async fn begin_with<R: Resource>(
        &self,
        resource: &R,
        isolation: Isolation,
    ) -> Result<Guarded<R::Transaction>, GuardError> {
        begin_under(&self.leases, resource, isolation).await
    }

    /// Releases all of them.
    ///
    /// # Errors
    /// The first one, when the store or the lock service cannot be asked. It is then tried again in the background,
    /// until it is done or the lock has ended with its TTL.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the rest of the release to the background.
    pub async fn release(self) -> Result<(), GrantError> {
        self.lost.cancel();
        release_all(self.leases).await
    }
}

/// Ends when one is lost; never if there is none.
async fn any_lost(leases: &[Lease]) {
    if leases.is_empty() {
        return std::future::pending().await;
    }
    select_all(leases.iter().map(|lease| Box::pin(lease.lost()))).await;
}

/// The last one first.
async fn release_all(mut leases: Vec<Lease>) -> Result<(), GrantError> {
    let mut released = Ok(());
    while let Some(lease) = leases.pop() {
        released = released.and(lease.release().await);
    }
    released
}
