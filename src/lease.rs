//! A lease: a sealed grant that renews itself, and knows when it is lost.

use std::{
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::{
    clock::Moment,
    grant::{Grant, GrantError, Locks},
    guard::{GuardError, Guarded, Isolation, Resource},
    lock::{LockError, Term, give_back},
    name::FenceName,
    token::Token,
};

/// How often a lease looks at the clock that counts suspend, which timers do not.
const LOOK: Duration = Duration::from_millis(250);

/// A fence that is held, and kept by renewing it at a third of its TTL.
///
/// It is lost at the latest when its deadline passes: a TTL after the last successful renewal was *sent*, on a
/// clock that counts the time in which the machine was suspended. What was started under it should then stop,
/// and what does not stop is refused by the guard once there is a newer holder.
///
/// Dropping it releases it in the background; [`Lease::release`] does so for certain.
#[derive(Debug)]
pub struct Lease {
    shared: Arc<Shared>,
    released: AtomicBool,
}

/// Tells whether a lease is lost, without keeping it.
#[derive(Debug)]
pub(crate) struct Watch(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    locks: Locks,
    name: FenceName,
    token: Token,
    term: Mutex<Term>,
    lost: CancellationToken,
}

impl Lease {
    pub(crate) fn start(locks: Locks, grant: Grant) -> Self {
        let Grant { name, token, term } = grant;
        let shared = Arc::new(Shared {
            locks,
            name,
            token,
            term: Mutex::new(term),
            lost: CancellationToken::new(),
        });
        tokio::spawn(keep(shared.clone()));
        Self {
            shared,
            released: AtomicBool::new(false),
        }
    }

    /// The fence.
    pub fn name(&self) -> &FenceName {
        &self.shared.name
    }

    /// The token to write with.
    pub fn token(&self) -> &Token {
        &self.shared.token
    }

    /// The time to live that the lock service granted.
    pub fn ttl(&self) -> Duration {
        self.shared.term().ttl
    }

    /// How long the lease lasts if no further renewal succeeds. Zero when it is lost.
    pub fn remaining(&self) -> Duration {
        if self.is_lost() {
            Duration::ZERO
        } else {
            self.shared.term().deadline.remaining()
        }
    }

    /// Whether it is lost: its deadline has passed, or the lock service said so.
    pub fn is_lost(&self) -> bool {
        self.shared.is_lost()
    }

    /// Ends when the lease is lost.
    ///
    /// # Cancel safety
    /// Yes.
    pub async fn lost(&self) {
        self.shared.lost.cancelled().await;
    }

    /// Is cancelled when the lease is lost or released: to be handed to whatever works under it.
    pub fn cancelled(&self) -> CancellationToken {
        self.shared.lost.child_token()
    }

    /// Runs a future until it ends or the lease is lost, in which case it is dropped.
    ///
    /// # Errors
    /// [`LockError::Lost`] if the lease was lost first.
    ///
    /// # Cancel safety
    /// As the future's own.
    pub async fn run<F: Future>(&self, future: F) -> Result<F::Output, GrantError> {
        let future = pin!(future);
        tokio::select! {
            biased;
            () = self.lost() => Err(LockError::Lost.into()),
            output = future => Ok(output),
        }
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
        if self.is_lost() {
            return Err(GuardError::LeaseLost);
        }
        let entered = resource
            .enter(self.name(), self.token(), isolation, Some(self.ttl()))
            .await;
        if let Err(GuardError::Refused(refusal)) = &entered {
            let who = format!("process {}", std::process::id());
            self.shared.locks.rejections().note(refusal, &who);
        }
        Ok(Guarded::new(entered?, Watch(self.shared.clone())))
    }

    /// Renews now, apart from the renewals that happen by themselves.
    ///
    /// # Errors
    /// [`LockError::Lost`] when it is too late: the lease is then lost for good.
    ///
    /// # Cancel safety
    /// The renewal may or may not happen.
    pub async fn renew(&self) -> Result<(), GrantError> {
        self.shared.renew().await
    }

    /// Releases: the token is dead from here on, and the fence is free for others.
    ///
    /// # Errors
    /// When the store or the lock service cannot be asked. The lock then ends with its TTL.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the rest of the release to the background.
    pub async fn release(self) -> Result<(), GrantError> {
        self.shared.lost.cancel();
        let released = self
            .shared
            .locks
            .release(&self.shared.name, &self.shared.token)
            .await;
        self.released.store(true, Ordering::Relaxed);
        released
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shared.lost.cancel();
        if self.released.load(Ordering::Relaxed) {
            return;
        }
        let shared = self.shared.clone();
        give_back(async move {
            if let Err(error) = shared.locks.release(&shared.name, &shared.token).await {
                tracing::warn!(fence = %shared.name, token = %shared.token, %error, "release in the background failed");
            }
        });
    }
}

impl Watch {
    pub(crate) fn is_lost(&self) -> bool {
        self.0.is_lost()
    }
}

impl Shared {
    fn is_lost(&self) -> bool {
        self.lost.is_cancelled() || self.term().deadline.has_passed()
    }

    fn term(&self) -> Term {
        *self.term.lock().expect("nothing panics while it holds the term")
    }

    async fn renew(&self) -> Result<(), GrantError> {
        if self.lost.is_cancelled() || self.term().deadline.has_passed() {
            self.lost.cancel();
            return Err(LockError::Lost.into());
        }
        match self.locks.renew(&self.name, &self.token).await {
            Ok(term) => {
                let mut current = self.term.lock().expect("nothing panics while it holds the term");
                // An answer that comes after the deadline finds a lease that others believe lost.
                if current.deadline.has_passed() {
                    self.lost.cancel();
                    return Err(LockError::Lost.into());
                }
                if term.deadline > current.deadline {
                    *current = term;
                }
                Ok(())
            }
            Err(error) => {
                if error.is_lost() {
                    self.lost.cancel();
                }
                Err(error)
            }
        }
    }
}

/// Renews until the lease is lost or given up. A renewal that fails is tried again while there is time.
async fn keep(shared: Arc<Shared>) {
    let mut next = renewal_after(&shared.term());
    while !shared.lost.is_cancelled() {
        let deadline = shared.term().deadline;
        if deadline.has_passed() {
            tracing::warn!(fence = %shared.name, token = %shared.token, "lease lost: it could not be renewed in time");
            shared.lost.cancel();
            return;
        }
        if !next.has_passed() {
            let pause = next.remaining().min(deadline.remaining()).min(LOOK);
            tokio::select! {
                () = shared.lost.cancelled() => return,
                () = tokio::time::sleep(pause) => continue,
            }
        }
        let renewal = tokio::select! {
            () = shared.lost.cancelled() => return,
            renewal = tokio::time::timeout(deadline.remaining(), shared.renew()) => renewal,
        };
        let term = shared.term();
        next = match renewal {
            Ok(Ok(())) => renewal_after(&term),
            Ok(Err(error)) if error.is_lost() => {
                tracing::warn!(fence = %shared.name, token = %shared.token, "lease lost: the lock service ended it");
                return;
            }
            Ok(Err(error)) => {
                tracing::warn!(fence = %shared.name, token = %shared.token, %error, "renewal failed, trying again");
                Moment::now() + (term.ttl / 20).max(Duration::from_millis(10))
            }
            Err(_) => Moment::now(),
        };
    }
}

/// A third of the TTL after the last renewal was sent.
fn renewal_after(term: &Term) -> Moment {
    Moment::now() + term.deadline.remaining().saturating_sub(term.ttl * 2 / 3)
}
