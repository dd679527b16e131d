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

mod contend;
mod first;
mod inspect;
mod instances;
mod members;
mod renew;
mod rounds;
mod scripts;

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;

use self::{
    instances::Instances,
    members::{Members, unavailable},
    renew::Renewed,
};
use super::{
    Claim, Held, Identity, Kind, LockError, LockService, LockState, Request, Server, Term,
    line::Lines,
    redis::{
        AddressError,
        address::{Address, Servers},
        scripts::Keys,
    },
};
use crate::name::FenceName;

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
}

#[async_trait]
impl LockService for Redlock {
    fn kind(&self) -> Kind {
        Kind::Redlock
    }

    async fn identity(&self) -> Result<Identity, LockError> {
        Ok(self.find_members().await?.identity())
    }

    async fn servers(&self) -> Vec<Server> {
        self.instances.ask_servers().await
    }

    async fn acquire(&self, request: &Request) -> Result<Held, LockError> {
        let held = self.contend(request).await?;
        self.lines
            .acquired(&request.name, request.holder.hash(), &held.term);
        Ok(held)
    }

    async fn renew(&self, claim: &Claim) -> Result<Term, LockError> {
        let members = self.members().await?;
        match self.renew_as(claim, &members).await? {
            Renewed::Until(term) => Ok(term),
            Renewed::Lost => Err(LockError::Lost),
            Renewed::OtherMembers => match self.find_members().await {
                Ok(now) if now != members => match self.renew_as(claim, &now).await? {
                    Renewed::Until(term) => Ok(term),
                    _ => Err(LockError::Lost),
                },
                // They have lost their data, and the lock with it.
                _ => Err(LockError::Lost),
            },
        }
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
        self.lines.released(&claim.name, &claim.holder);
        if answers < majority {
            let detail = format!("only {answers} of {} instances answered", self.instances.count());
            return Err(unavailable(&self.instances, &detail));
        }
        Ok(())
    }

    async fn inspect(&self, name: &FenceName) -> Result<LockState, LockError> {
        self.look_at(name).await
    }
}

impl fmt::Debug for Redlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redlock({})", self.instances.service())
    }
}
