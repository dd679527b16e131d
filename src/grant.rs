//! Grants: a lock service and a store together hand out sealed leases.
//!
//! The order of a grant is what makes it safe: read the epoch, acquire, look whose history the sequence is from,
//! seal, look whether the lease still lives, and only then hand the token out. An epoch that was read
//! after acquiring could be newer than the history that the sequence is from.

mod force_release;
mod foreign;
mod regress;

use std::{sync::Arc, time::Duration};

use tracing::Instrument;

use crate::{
    SPANS,
    clock::Moment,
    database::DatabaseError,
    guard::Refusal,
    lease::Lease,
    lock::{Claim, Held, Identity, Kind, LockError, LockService, Request, Term, give_back, until_done},
    name::{FenceName, NameError},
    rejections::{Rejections, Source},
    store::{EpochState, SealOutcome, Store, StoreError},
    token::{Holder, Mark, Token},
};

/// The times to live that may be asked for.
pub const TTL: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(24 * 3600);

/// How long a renewal waits for the store to name the epoch.
const EPOCH_PATIENCE: Duration = Duration::from_millis(250);

/// The most bytes that a label has.
pub const LONGEST_LABEL: usize = 200;

/// Hands out sealed leases. Clones share the lock service and the store.
#[derive(Debug, Clone)]
pub struct Locks {
    service: Arc<dyn LockService>,
    store: Arc<dyn Store>,
    rejections: Rejections,
    /// Who raises the epoch without being asked, if anybody does.
    auto_rebase: Option<Arc<str>>,
}

/// What a grant may be asked for, beyond the fence and the time to live.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long the lease outlives its last renewal. Defaults to 10 s.
    pub ttl: Duration,
    /// How long to wait while others hold the fence. Defaults to zero: try once.
    pub wait: Duration,
    /// A text for people who ask who holds the fence. Defaults to an empty one.
    pub label: String,
    /// Who is to hold it, if the caller chooses: a grant whose answer was lost can then be asked for again.
    /// Defaults to a random one.
    pub holder: Option<Holder>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(10),
            wait: Duration::ZERO,
            label: String::new(),
            holder: None,
        }
    }
}

/// A sealed grant that nobody renews: for those who keep leases themselves, as the gateway's clients do. Most
/// programs want a [`Lease`].
#[derive(Debug, Clone)]
pub struct Grant {
    /// The fence.
    pub name: FenceName,
    /// The token, sealed.
    pub token: Token,
    /// How long it lasts.
    pub term: Term,
}

impl Locks {
    /// Puts a lock service and a store together.
    pub fn new(service: Arc<dyn LockService>, store: Arc<dyn Store>) -> Self {
        let rejections = Rejections::new(store.clone(), Source::Guard);
        Self {
            service,
            store,
            rejections,
            auto_rebase: None,
        }
    }

    /// Where the transactions that its leases begin note their refusals.
    pub fn rejections(&self) -> &Rejections {
        &self.rejections
    }

    /// The lock service.
    pub fn service(&self) -> &Arc<dyn LockService> {
        &self.service
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Acquires a lease that renews itself, waiting for as long as it takes.
    ///
    /// ```no_run
    /// # async fn example(locks: fencegate::Locks) -> Result<(), fencegate::GrantError> {
    /// let lease = locks.acquire("invoices:2026-11", std::time::Duration::from_secs(10)).await?;
    /// println!("holding {}", lease.token());
    /// lease.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`GrantError::Name`] for a name that cannot be, [`GrantError::Lock`] and [`GrantError::Store`] when one
    /// of the two cannot be asked, [`GrantError::Regressed`] and [`GrantError::OtherHistory`] when the lock
    /// service's numbers cannot be trusted.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the queue, or gives the lock back.
    pub async fn acquire<N>(&self, name: N, ttl: Duration) -> Result<Lease, GrantError>
    where
        N: TryInto<FenceName>,
        N::Error: Into<NameError>,
    {
        let wait = Duration::from_secs(365 * 24 * 3600);
        self.acquire_with(
            name,
            Options {
                ttl,
                wait,
                ..Options::default()
            },
        )
        .await
    }

    /// Acquires a lease that renews itself, if nobody holds the fence now.
    ///
    /// # Errors
    /// As [`Locks::acquire`]; [`LockError::Busy`] if somebody does.
    ///
    /// # Cancel safety
    /// As [`Locks::acquire`].
    pub async fn try_acquire<N>(&self, name: N, ttl: Duration) -> Result<Lease, GrantError>
    where
        N: TryInto<FenceName>,
        N::Error: Into<NameError>,
    {
        self.acquire_with(
            name,
            Options {
                ttl,
                ..Options::default()
            },
        )
        .await
    }

    /// Acquires a lease that renews itself.
    ///
    /// # Errors
    /// As [`Locks::acquire`]; [`LockError::Busy`] when the wait ran out.
    ///
    /// # Cancel safety
    /// As [`Locks::acquire`].
    pub async fn acquire_with<N>(&self, name: N, options: Options) -> Result<Lease, GrantError>
    where
        N: TryInto<FenceName>,
        N::Error: Into<NameError>,
    {
        let name = name.try_into().map_err(Into::into)?;
        Ok(Lease::start(self.clone(), self.grant(&name, options).await?))
    }

    async fn grant_once(&self, name: &FenceName, options: Options) -> Result<Grant, GrantError> {
        if !TTL.contains(&options.ttl) {
            return Err(GrantError::Ttl(options.ttl));
        }
        if options.label.len() > LONGEST_LABEL || options.label.chars().any(char::is_control) {
            return Err(GrantError::Label);
        }
        let (before, fence) = futures::future::try_join(self.store.epoch(), self.store.fence(name)).await?;
        let mark = fence.map(|fence| fence.mark);
        let floor = mark
            .filter(|mark| mark.epoch == before.epoch)
            .map(|mark| mark.sequence.get())
            // Somebody who may seal made that up. No counter is to go on from there, where it soon ends: what it grants is
            // refused, with what to do.
            .filter(|sequence| *sequence < i64::MAX / 2);
        let granted = mark.map(|mark| (mark.sequence, mark.holder));
        let chosen = options.holder.is_some();
        let holder = options.holder.unwrap_or_else(Holder::random);
        let request = Request {
            name: name.clone(),
            holder: holder.clone(),
            label: options.label,
            ttl: options.ttl,
            wait: options.wait,
            floor: floor.unwrap_or(0),
        };
        let acquire = self.service.acquire(&request);
        let held = acquire
            .instrument(tracing::debug_span!(target: SPANS, "acquire"))
            .await?;
        let claim = held.claim.clone();
        let mut unsealed = GiveBack {
            service: &self.service,
            claim: &claim,
            ttl: held.term.ttl,
            armed: !chosen,
        };
        let sealed = async {
            self.check_history(before.clone(), &held.identity).await?;
            let seal = self.seal(before, held, holder);
            seal.instrument(tracing::debug_span!(target: SPANS, "seal")).await
        }
        .await;
        // What is refused is given back before the caller hears of it; what fails of that goes on in the background.
        // Who asked again for what was granted before keeps it.
        let given_back = sealed.is_err()
            && granted != Some((claim.sequence, claim.holder))
            && self.service.release(&claim).await.is_ok();
        unsealed.armed = !chosen && sealed.is_err() && !given_back;
        sealed
    }

    /// Refuses sequences of another history than the one that the epoch is bound to.
    async fn check_history(&self, before: EpochState, found: &Identity) -> Result<(), GrantError> {
        let bound = match before.bound {
            Some(bound) => bound,
            None => {
                let now = self.store.bind(found).await?;
                now.bound
                    .ok_or_else(|| StoreError::Corrupt("an epoch that cannot be bound".into()))?
            }
        };
        if bound == *found {
            return Ok(());
        }
        let (bound, found) = (Box::new(bound), Box::new(found.clone()));
        Err(GrantError::OtherHistory {
            epoch: before.epoch.get(),
            bound,
            found,
        })
    }

    async fn seal(&self, before: EpochState, held: Held, holder: Holder) -> Result<Grant, GrantError> {
        let claim = held.claim;
        let (name, sequence) = (claim.name.clone(), claim.sequence);
        let token = Token {
            epoch: before.epoch,
            sequence,
            holder,
        };
        match self.store.seal(&name, &token.mark()).await? {
            SealOutcome::Sealed if held.term.deadline.has_passed() => Err(LockError::Lost.into()),
            SealOutcome::Sealed => Ok(Grant {
                name,
                token,
                term: held.term,
            }),
            SealOutcome::EpochChanged(_) => Err(GrantError::EpochChanged),
            // Somebody ended it by force between lock and seal, and its number is used up.
            SealOutcome::NotHigher(mark)
                if mark.number() == token.mark().number() && self.is_over(&claim).await =>
            {
                Err(LockError::Lost.into())
            }
            SealOutcome::NotHigher(mark) => Err(GrantError::Regressed {
                fence: name,
                granted: token.mark(),
                mark,
            }),
        }
    }

    /// Whether the lock service knows nothing of an acquisition any more.
    async fn is_over(&self, claim: &Claim) -> bool {
        matches!(self.service.renew(claim).await, Err(LockError::Lost))
    }

    /// Makes what the store and the lock service need in their databases: the tables of this version.
    ///
    /// # Errors
    /// As the databases say. What was done before stays done.
    pub async fn migrate(&self) -> Result<(), GrantError> {
        self.store.migrate().await?;
        Ok(self.service.migrate().await?)
    }

    /// Makes a grant last another TTL, counted from now.
    ///
    /// # Errors
    /// [`LockError::Lost`] when it is over, or its epoch is. It is never taken back: acquire again.
    ///
    /// # Cancel safety
    /// The renewal may or may not happen.
    pub async fn renew(&self, name: &FenceName, token: &Token) -> Result<Term, GrantError> {
        let claim = claim(name, token);
        // A store that is slow, or out of reach, is no reason to lose the lock.
        let epoch = tokio::time::timeout(EPOCH_PATIENCE, self.store.epoch());
        match futures::future::join(self.service.renew(&claim), epoch).await {
            (Ok(_), Ok(Ok(now))) if now.epoch != token.epoch => Err(LockError::Lost.into()),
            (renewed, _) => Ok(renewed?),
        }
    }

    /// Ends a grant: first its token is dead for the store, then the lock is free for others. Nothing happens
    /// where either has happened before. Answers whether the token was good until then.
    ///
    /// # Errors
    /// When the store or the lock service cannot be asked. Release again: until then the lock may last
    /// for as long as its TTL.
    ///
    /// # Cancel safety
    /// The release may or may not happen, or half of it; release again.
    pub async fn release(&self, name: &FenceName, token: &Token) -> Result<bool, GrantError> {
        let live = self.store.retire(name, &token.mark()).await?;
        self.service.release(&claim(name, token)).await?;
        Ok(live)
    }
}

fn claim(name: &FenceName, token: &Token) -> Claim {
    Claim {
        name: name.clone(),
        sequence: token.sequence,
        holder: token.holder.hash(),
    }
}

/// Gives a lock back, in the background, when the caller goes away before it has become a grant. A caller that chose its holder
/// comes back for this very lock, and by then it may be a grant.
struct GiveBack<'a> {
    service: &'a Arc<dyn LockService>,
    claim: &'a Claim,
    ttl: Duration,
    armed: bool,
}

impl Drop for GiveBack<'_> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let (service, claim, ttl) = (self.service.clone(), self.claim.clone(), self.ttl);
        give_back(async move {
            until_done(&claim.name, Moment::now() + ttl, || service.release(&claim)).await;
        });
    }
}

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrantError {
    /// The name cannot be a fence's.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Several fences were asked for, and none was named.
    #[error("no fence is named: name those that are to be held together")]
    NoFence,
    /// The time to live cannot be asked for.
    #[error("a time to live is from 100ms to 24h, not {}", humantime::format_duration(*.0))]
    Ttl(Duration),
    /// The label is too long, or has control characters.
    #[error("a label has at most {LONGEST_LABEL} bytes and no control characters")]
    Label,
    /// The lock service said no, or nothing.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The store said no, or nothing.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The epoch was raised while the lock was being acquired.
    #[error("the epoch was raised while the lock was being acquired: acquire again")]
    EpochChanged,
    /// The lock service gave a sequence that is not above the mark: its counter went back.
    #[error(
        "the lock service's history went back: it granted {granted} on fence {fence}, whose mark is {mark}. It was \
         restored from a backup, or wiped. No lease is given until the epoch is raised: fencegate rebase --reason TEXT"
    )]
    Regressed {
        /// The fence.
        fence: FenceName,
        /// The number that was granted.
        granted: Mark,
        /// The mark that stands above it.
        mark: Mark,
    },
    /// The epoch is bound to another lock service.
    #[error(
        "epoch {epoch} belongs to the lock service {bound}, and this one is {found}: numbers of the two cannot be \
         compared. Point --locks at the former, or raise the epoch: fencegate rebase --reason TEXT"
    )]
    OtherHistory {
        /// The epoch.
        epoch: i64,
        /// The lock service that the epoch is bound to.
        bound: Box<Identity>,
        /// The lock service that was asked.
        found: Box<Identity>,
    },
    /// The lock is not one of fencegate's, so there is no token of it to kill.
    #[error("the lock of fence {0} was taken by a program that does not go through fencegate: end it there")]
    Foreign(FenceName),
    /// The lock service does not name a bare sequence as the live holder's.
    #[error(
        "fence {}: the lock service {service} does not name {} as that of a program that took the lock directly and has \
         it now: take the lock again, or acquire a lease and send its whole token",
        refusal.fence, refusal.presented.sequence
    )]
    Unconfirmed {
        /// What was shown, and the mark.
        refusal: Box<Refusal>,
        /// Who was asked.
        service: Kind,
    },
    /// The mark is above a bare sequence, or it is another client's.
    #[error(transparent)]
    Refused(Box<Refusal>),
}

impl GrantError {
    /// Whether the same call may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Lock(error) => error.is_retryable(),
            Self::Store(error) => error.is_retryable(),
            Self::EpochChanged => true,
            _ => false,
        }
    }

    /// Whether the lease is over.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lock(LockError::Lost))
    }
}

impl From<DatabaseError> for GrantError {
    fn from(error: DatabaseError) -> Self {
        Self::Store(error.into())
    }
}
