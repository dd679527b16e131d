//! Locks over several Redis instances that know nothing of each other: Redlock, with tokens that rise.
//!
//! Redlock as published takes a lock on a majority of instances, and has no number to fence with. Here an
//! acquisition has a second round:
//!
//! 1. on each instance, in one script, take the lock if it is free and tell how far the instance has counted;
//! 2. with a majority, inside the time for which the lock is valid (its TTL, less the time that has passed, less
//!    1 % and 2 ms for clocks that drift), the ballot is the greatest count that was told, plus one;
//! 3. write the ballot to the majority: each instance takes it only while it still has *this* lock, and only upward;
//! 4. with a majority again, still inside that time, the lock is held. Otherwise everything is given back.
//!
//! Ballots are unique and rise without any trust in clocks, with any minority of the instances down, as long as a
//! majority keeps its data.
//!
//! # The instances
//!
//! An odd number, three or more, and each with a disk of its own and `appendfsync always`. When they are used
//! for the first time all must be up: each gets a UUID, and all the list of these, whose hash is the
//! redlock's identity. From then on any minority may be down, also when a process starts.
//!
//! An instance that comes back without its data may break the majority: it has forgotten a lock that was held
//! there, and a ballot. It has also lost its UUID, so it counts as down until an operator has all agree anew:
//! stop those that use the redlock, wait for the longest TTL, delete `<prefix>//members` and
//! `<prefix>//instance` on every instance, and start again. The redlock then has another identity, and the epoch must
//! be raised. If all have lost their data at once, they agree anew by themselves, and leases are refused until
//! the epoch is raised.
//!
//! An instance that loses its last writes in a crash but keeps older ones has its UUID and is not noticed. If
//! it made a difference to a majority, two holders may have the lock, even with the same ballot. The store
//! catches it: its mark gives the ballot a floor, one of two holders of a number is refused, and the older of
//! two tokens is.

mod first;
mod instances;
mod members;
mod rounds;
mod scripts;

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;

use self::{
    instances::{Instances, LONGEST},
    members::{Members, unavailable, unexpected},
    rounds::{Outcome, validity},
    scripts::Answer,
};
use super::{
    Claim, Held, HolderState, Identity, Kind, LockError, LockService, LockState, Request, Term,
    redis::{
        AddressError,
        address::{Address, Servers},
        line::{Line, Lines},
        scripts::{Keys, Seen},
    },
    wait::Backoff,
};
use crate::{clock::Moment, name::FenceName, token::Sequence};

/// How often an attempt that was lost to a fault is made again, however short the caller would wait.
const TRIES: u32 = 3;

/// What other processes get to take their turn.
const TURN: Duration = Duration::from_millis(10);

/// The lock service over several Redis instances. Clones share its connections.
#[derive(Clone)]
pub struct Redlock {
    instances: Instances,
    keys: Arc<Keys>,
    lines: Lines,
    members: Arc<Mutex<Option<Arc<Members>>>>,
}

impl Redlock {
    /// Locks on the instances that `url` names: `redlock://user:password@a:6379,b:6379,c:6379/0?prefix=fencegate/locks`,
    /// or `redlocks://...` over TLS. User, password and the number of the database are the same for all. Nothing
    /// is asked of them yet.
    ///
    /// # Errors
    /// [`AddressError`] if the URL cannot be used, as with an even number of instances.
    pub fn connect(url: &str) -> Result<Self, AddressError> {
        let Address {
            servers: Servers::Many(servers),
            prefix,
        } = Address::parse(url)?
        else {
            return Err(AddressError::Scheme);
        };
        Ok(Self {
            instances: Instances::new(servers)?,
            keys: Arc::new(Keys::new(prefix)),
            lines: Lines::default(),
            members: Arc::default(),
        })
    }

    /// The set that was agreed on, as it was last seen.
    async fn members(&self) -> Result<Arc<Members>, LockError> {
        let known = self.remembered().clone();
        match known {
            Some(members) => Ok(members),
            None => self.find_members().await,
        }
    }

    async fn find_members(&self) -> Result<Arc<Members>, LockError> {
        let members = Arc::new(Members::find(&self.instances, &self.keys).await?);
        *self.remembered() = Some(members.clone());
        Ok(members)
    }

    fn forget_members(&self) {
        *self.remembered() = None;
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, Option<Arc<Members>>> {
        self.members
            .lock()
            .expect("nothing panics while it holds the members")
    }

    /// Attempts until the lock is held, or others hold it.
    async fn settle(&self, request: &Request) -> Result<Result<Held, LockError>, LockError> {
        let mut backoff = Backoff::new(Duration::from_secs(3600));
        for tries in 1.. {
            match self.attempt(request).await? {
                Outcome::Held(held) => return Ok(Ok(held)),
                Outcome::Busy { expires_in } => return Ok(Err(LockError::Busy { expires_in })),
                Outcome::Unsettled(error) if tries == TRIES => return Err(error),
                Outcome::Unsettled(_) => backoff.pause(LockError::Busy { expires_in: None }).await?,
            }
        }
        unreachable!("the last try returns")
    }

    /// Attempts again and again, as the first of those who wait in this process.
    async fn first_in_line(
        &self,
        request: &Request,
        line: &Line,
        give_up: Moment,
    ) -> Result<Held, LockError> {
        let mut backoff = Backoff::new(give_up.remaining());
        loop {
            let busy = match self.settle(request).await? {
                Ok(held) => return Ok(held),
                Err(busy) => busy,
            };
            tokio::select! {
                paused = backoff.pause(busy) => paused?,
                // Others only ask now and then, and nobody knows whether there are any.
                () = line.called.notified() => if line.should_let_others() {
                    tokio::time::sleep(TURN).await;
                }
            }
        }
    }
}

#[async_trait]
impl LockService for Redlock {
    fn kind(&self) -> Kind {
        Kind::Redlock
    }

    async fn identity(&self) -> Result<Identity, LockError> {
        Ok(self.find_members().await?.identity())
    }

    async fn acquire(&self, request: &Request) -> Result<Held, LockError> {
        let give_up = Moment::now() + request.wait;
        let holder = request.holder.hash();
        let line = self.lines.at(&request.name);
        let mut busy = LockError::Busy { expires_in: None };
        let mut held = None;
        if request.wait.is_zero() || !line.is_taken_for(&holder) {
            match self.settle(request).await? {
                Ok(first) => held = Some(first),
                Err(error) => busy = error,
            }
        }
        let held = match held {
            Some(held) => held,
            None if give_up.has_passed() => return Err(busy),
            None => match tokio::time::timeout(give_up.remaining(), line.first.lock()).await {
                Ok(_first) => self.first_in_line(request, &line, give_up).await?,
                Err(_) => return Err(busy),
            },
        };
        self.lines.acquired(&request.name, holder, &held.term);
        Ok(held)
    }

    async fn renew(&self, claim: &Claim) -> Result<Term, LockError> {
        let members = self.members().await?;
        let (majority, count) = (self.instances.majority(), self.instances.count());
        let sent = Moment::now();
        let script = || scripts::renew(&self.keys, &members.list, claim);
        // The TTL is not known before an instance has told it.
        let mut round = self.instances.ask::<Answer>(LONGEST, script);
        let (mut renewed, mut lost, mut shortest) = (HashSet::new(), 0, u64::MAX);
        while renewed.len() < majority
            && lost <= count - majority
            && let Some((_, answer)) = round.next().await
        {
            match answer {
                Ok(Answer::Yes { instance, ttl_ms }) => {
                    renewed.insert(instance);
                    shortest = shortest.min(ttl_ms);
                }
                Ok(Answer::No | Answer::NoMember) => lost += 1,
                Err(_) => {}
            }
        }
        if lost > count - majority {
            return Err(LockError::Lost);
        }
        let ttl = Duration::from_millis(shortest);
        let deadline = sent + validity(ttl);
        if renewed.len() < majority || deadline.has_passed() {
            let detail = format!("only {} of {count} instances renewed in time", renewed.len());
            return Err(unavailable(&self.instances, &detail));
        }
        Ok(Term { ttl, deadline })
    }

    async fn release(&self, claim: &Claim) -> Result<(), LockError> {
        let majority = self.instances.majority();
        let mut round = self.instances.tell(|| self.keys.release(claim));
        let mut answers = 0;
        while answers < majority
            && let Some((_, answer)) = round.next().await
        {
            answers += usize::from(answer.is_ok());
        }
        self.lines.told(&claim.name, 1);
        self.lines.released(&claim.name, &claim.holder.hash());
        if answers < majority {
            let detail = format!("only {answers} of {} instances answered", self.instances.count());
            return Err(unavailable(&self.instances, &detail));
        }
        Ok(())
    }

    async fn inspect(&self, name: &FenceName) -> Result<LockState, LockError> {
        let (majority, count) = (self.instances.majority(), self.instances.count());
        let round = self.instances.ask::<Seen>(LONGEST, || self.keys.inspect(name));
        let seen: Vec<_> = round.all(count).await.into_iter().flatten().flatten().collect();
        if seen.len() < majority {
            let detail = format!(
                "{} of {count} instances answer, and {majority} are needed",
                seen.len()
            );
            return Err(unavailable(&self.instances, &detail));
        }
        Ok(LockState {
            holder: self.holder(seen)?,
            waiting: None,
        })
    }
}

impl Redlock {
    /// Who holds the lock on a majority, under one ballot.
    fn holder(&self, seen: Vec<Seen>) -> Result<Option<HolderState>, LockError> {
        let majority = self.instances.majority();
        let mut states: Vec<HolderState> = Vec::new();
        for seen in seen {
            let (sequence, label, expires_in, holder) = match seen {
                Seen::Held {
                    holder,
                    sequence,
                    label,
                    expires_in,
                } if sequence != 0 => (Sequence::new(sequence), label, expires_in, Some(holder)),
                Seen::Foreign { expires_in } => (Some(Sequence::FIRST), String::new(), expires_in, None),
                _ => continue,
            };
            let sequence = sequence.ok_or_else(|| unexpected(&self.instances, "a ballot below 1"))?;
            states.push(HolderState {
                sequence,
                label,
                expires_in,
                holder,
            });
        }
        states.sort_by_key(|state| std::cmp::Reverse(state.expires_in));
        let same = |one: &HolderState, other: &HolderState| {
            (one.holder, one.sequence) == (other.holder, other.sequence)
        };
        // It lasts until the majority ends.
        let last = states.iter().enumerate().find(|(index, state)| {
            states[..=*index]
                .iter()
                .filter(|other| same(state, other))
                .count()
                >= majority
        });
        Ok(last.map(|(_, state)| state.clone()))
    }
}

impl fmt::Debug for Redlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redlock({})", self.instances.service())
    }
}
