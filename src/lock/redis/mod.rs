//! Locks in Redis.
//!
//! A lock is a plain key with a time to live, `<prefix>/<fence>`, as redis-py's `Lock` and many others make it, so
//! they exclude each other. The sequence is a counter in a key of its own, which never expires; one script takes
//! the lock and counts. The clock of the server decides when a lock is over.
//!
//! | key | is |
//! | --- | --- |
//! | `<prefix>/<fence>` | the lock, while it is held |
//! | `<prefix>//sequence/<fence>` | the last sequence |
//! | `<prefix>//identity` | a UUID, made when it is first asked for: which history the counters belong to |
//! | `<prefix>//released/<fence>` | no key, but the channel on which a release is told |
//!
//! # What a failure can do
//!
//! Redis answers before its replicas, and by default before its disk, have what it wrote. A crash or a fail-over can
//! lose the last locks and counts, and then two holders may have the lock, even with the same sequence. The store
//! catches it: its mark gives the counter a floor, one of two holders of a number is refused, and the older of
//! two tokens is. A server that was emptied has another identity, and no lease is granted until the epoch is raised.
//! A server that drops keys when its memory is full must not drop ours: use `maxmemory-policy noeviction`, or a
//! `volatile-*` one, which can only drop locks.
//!
//! A prefix with a hash tag, as `{fencegate}/locks`, has all keys in one slot of a Redis Cluster; the URL must
//! then lead to the node that serves it.

pub(in crate::lock) mod address;
mod attempt;
mod contend;
pub(in crate::lock) mod link;
mod news;
pub(in crate::lock) mod scripts;
mod server;
pub(in crate::lock) mod servers;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use uuid::Uuid;

pub use self::address::AddressError;
use self::{
    address::{Address, Servers},
    link::Link,
    news::News,
    scripts::Keys,
};
use super::{
    Claim, Held, HolderState, Identity, Kind, LockError, LockService, LockState, Request, Server, Term,
    line::Lines,
};
use crate::{clock::Moment, name::FenceName, token::Sequence};

/// How long the server may take for an answer.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The lock service in a Redis server. Clones share its connections.
#[derive(Clone)]
pub struct RedisLocks {
    link: Link,
    keys: Arc<Keys>,
    lines: Lines,
    news: News,
}

impl RedisLocks {
    /// Locks in the server that `url` names. Nothing is asked of it yet.
    ///
    /// - `redis://user:password@host:6379/0?prefix=fencegate/locks`; the path is the number of the database, and
    ///   the prefix defaults to [`LOCK_PREFIX`](crate::lock::LOCK_PREFIX);
    /// - `rediss://...`, the same over TLS;
    /// - `redis+sentinel://user:password@host:26379,host:26379/master-name/0`, to ask sentinels for the master; and
    ///   `rediss+sentinel://...`. User and password are the master's; those of the sentinels are the parameters
    ///   `sentinel_user` and `sentinel_password`.
    ///
    /// # Errors
    /// [`AddressError`] if the URL cannot be used.
    pub fn connect(url: &str) -> Result<Self, AddressError> {
        let Address { servers, prefix } = Address::parse(url)?;
        if matches!(servers, Servers::Many(_)) {
            return Err(AddressError::Scheme);
        }
        let link = Link::new(servers, "redis", TIMEOUT, &scripts::ALL).map_err(|_| AddressError::Host)?;
        Ok(Self {
            news: News::new(link.clone()),
            link,
            keys: Arc::new(Keys::new(prefix)),
            lines: Lines::default(),
        })
    }

    fn identity_of(&self, text: &str) -> Result<Identity, LockError> {
        let instance =
            Uuid::try_parse(text).map_err(|_| self.unexpected("an identity that is not a UUID"))?;
        Ok(Identity {
            kind: Kind::Redis,
            cluster: String::new(),
            instance,
        })
    }

    fn unexpected(&self, detail: &str) -> LockError {
        LockError::Unexpected {
            service: self.link.service().into(),
            detail: detail.into(),
        }
    }
}

#[async_trait]
impl LockService for RedisLocks {
    fn kind(&self) -> Kind {
        Kind::Redis
    }

    async fn identity(&self) -> Result<Identity, LockError> {
        let text: String = self.link.ask(&self.keys.identity()).await?;
        self.identity_of(&text)
    }

    async fn servers(&self) -> Vec<Server> {
        let service = self.link.service();
        let address = service.strip_prefix("redis at ").unwrap_or(service);
        vec![servers::ask(address, &self.link).await]
    }

    async fn acquire(&self, request: &Request) -> Result<Held, LockError> {
        let held = self.contend(request).await?;
        self.lines
            .acquired(&request.name, request.holder.hash(), &held.term);
        Ok(held)
    }

    async fn renew(&self, claim: &Claim) -> Result<Term, LockError> {
        let sent = Moment::now();
        let ttl: u64 = self.link.ask(&self.keys.renew(claim)).await?;
        if ttl == 0 {
            return Err(LockError::Lost);
        }
        Ok(Term::new(sent, Duration::from_millis(ttl)))
    }

    async fn release(&self, claim: &Claim) -> Result<(), LockError> {
        let holder = claim.holder;
        let script = self.keys.release(claim);
        let mut asking = std::pin::pin!(self.link.ask::<i64>(&script));
        // Once it is on its way, who comes next can ask behind it.
        let answer = match futures::poll!(&mut asking) {
            std::task::Poll::Ready(answer) => answer,
            std::task::Poll::Pending => {
                self.lines.released(&claim.name, &holder);
                asking.await
            }
        };
        self.lines.told(&claim.name, answer?);
        Ok(())
    }

    async fn inspect(&self, name: &FenceName) -> Result<LockState, LockError> {
        let holder = match self.link.ask(&self.keys.inspect(name)).await? {
            scripts::Seen::Free => None,
            scripts::Seen::Held {
                holder,
                sequence,
                label,
                expires_in,
            } => Some(HolderState {
                sequence: Sequence::new(sequence).ok_or_else(|| self.unexpected("a sequence below 1"))?,
                label,
                expires_in,
                holder: Some(holder),
            }),
            scripts::Seen::Foreign { expires_in } => Some(HolderState {
                sequence: Sequence::FIRST,
                label: String::new(),
                expires_in,
                holder: None,
            }),
        };
        Ok(LockState {
            holder,
            waiting: None,
        })
    }
}

impl fmt::Debug for RedisLocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisLocks({})", self.link.service())
    }
}
