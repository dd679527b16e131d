//! Lock services: what hands out locks and their sequences.
//!
//! A lock service gives [`Held`]: a lock and its number, not yet sealed, so not yet a token. Nobody but
//! [`Locks`](crate::Locks) should hold one: it seals the number in the store and makes a token of it.
//!
//! All of them keep one contract, and one conformance suite (`tests/conformance`) holds them to it:
//!
//! - sequences of one fence rise with every acquisition, also after a release or an expiry;
//! - renewing and releasing act on the very acquisition that is named, never on a later one;
//! - a renewal that comes too late fails, also when nobody else holds the lock;
//! - a caller who drops the future of [`LockService::acquire`] leaves nothing behind in the queue;
//! - asking again with the same [`Holder`] gives the same acquisition while it lasts.

#[cfg(feature = "etcd")]
pub mod etcd;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod giving_back;
#[cfg(any(feature = "etcd", feature = "zookeeper"))]
mod host;
#[cfg(any(feature = "redis", feature = "postgres", feature = "sqlite"))]
#[cfg_attr(
    not(feature = "redis"),
    allow(
        dead_code,
        reason = "only Redis is told who waits, and Postgres takes no turns"
    )
)]
mod line;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "redis")]
pub mod redlock;
mod servers;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg_attr(
    not(any(feature = "redis", feature = "postgres")),
    allow(dead_code, reason = "SQLite pauses by itself")
)]
mod wait;
#[cfg(feature = "zookeeper")]
pub mod zookeeper;

use std::{fmt, str::FromStr, time::Duration};

use async_trait::async_trait;
use uuid::Uuid;

use crate::{
    clock::Moment,
    database::DatabaseError,
    name::FenceName,
    token::{Holder, HolderHash, Sequence},
};

pub use giving_back::given_back;
pub(crate) use giving_back::{give_back, until_done};
pub use servers::{Facts, Server};

/// Prefix of all lock keys, where the URL names none.
pub const LOCK_PREFIX: &str = "fencegate/locks";

/// The kinds of lock services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Sequences are etcd's create revisions.
    Etcd,
    /// Sequences are ZooKeeper's zxids.
    Zookeeper,
    /// Sequences are a counter in Redis.
    Redis,
    /// Sequences are ballots over several Redis instances.
    Redlock,
    /// Sequences are a counter in Postgres.
    Postgres,
    /// Sequences are a counter in an SQLite file.
    Sqlite,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::Etcd,
        Self::Zookeeper,
        Self::Redis,
        Self::Redlock,
        Self::Postgres,
        Self::Sqlite,
    ];

    /// Its name in URLs, answers and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Zookeeper => "zookeeper",
            Self::Redis => "redis",
            Self::Redlock => "redlock",
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(())
    }
}

/// Which history the sequences come from. The store binds its epoch to one, and leases are refused under any
/// other: numbers of different histories cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The kind of the service.
    pub kind: Kind,
    /// The service's own name for its cluster; empty where it has none.
    pub cluster: String,
    /// A random number of ours, kept in the service and created once.
    pub instance: Uuid,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if !self.cluster.is_empty() {
            write!(f, " cluster {}", self.cluster)?;
        }
        write!(f, " instance {}", self.instance)
    }
}

/// What an acquisition asks for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The fence.
    pub name: FenceName,
    /// Who is to hold it. Asking again with the same one gives the same acquisition while it lasts.
    pub holder: Holder,
    /// A text for people, shown to whoever asks who holds the lock.
    pub label: String,
    /// How long the lock outlives its last renewal. The service may grant more.
    pub ttl: Duration,
    /// How long to wait while others hold it; zero to try once.
    pub wait: Duration,
    /// The sequence in the fence's mark, or 0. A service that owns its counter counts on from it.
    pub floor: i64,
}

/// Names one acquisition: enough to renew or release it from any process. Not a secret, so whoever takes one from
/// outside asks for the holder itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The fence.
    pub name: FenceName,
    /// The number of the acquisition.
    pub sequence: Sequence,
    /// The hash of its holder, which only the holder itself knows.
    pub holder: HolderHash,
}

/// How long an acquisition lasts, unless it is renewed.
#[derive(Debug, Clone, Copy)]
pub struct Term {
    /// The time to live that the service granted.
    pub ttl: Duration,
    /// Until when the lock is surely held: counted from before the request was sent.
    pub deadline: Moment,
}

impl Term {
    /// A term of `ttl` that was asked for at `sent`.
    pub fn new(sent: Moment, ttl: Duration) -> Self {
        Self {
            ttl,
            deadline: sent + ttl,
        }
    }
}

/// A lock that is held and not yet sealed.
#[derive(Debug, Clone)]
pub struct Held {
    /// Which acquisition.
    pub claim: Claim,
    /// For how long.
    pub term: Term,
    /// Whose history the sequence belongs to, read while the lock was held.
    pub identity: Identity,
}

/// What [`LockService::inspect`] sees. Already old when it arrives.
#[derive(Debug, Clone, Default)]
pub struct LockState {
    /// The live holder, if there is one.
    pub holder: Option<HolderState>,
    /// How many wait behind it; `None` where the service keeps no queue. Those who wait in another process may count
    /// as one.
    pub waiting: Option<u64>,
}

/// A live holder, as others may see it.
#[derive(Debug, Clone)]
pub struct HolderState {
    /// The number of its acquisition. 1 for a program that took the lock without fencegate on a service whose own
    /// clients have no sequence.
    pub sequence: Sequence,
    /// Its text for people.
    pub label: String,
    /// How long until the lock expires, if it is not renewed.
    pub expires_in: Duration,
    /// The hash of its holder; `None` for a program that took the lock without fencegate.
    pub holder: Option<HolderHash>,
}

/// A service that hands out locks.
#[async_trait]
pub trait LockService: fmt::Debug + Send + Sync {
    /// Which kind it is.
    fn kind(&self) -> Kind;

    /// Says under which URL the gateway of this process answers, for a lock service whose leases only the process that
    /// granted them can renew: others then answer [`LockError::Elsewhere`] with it. Once; what is said later does not
    /// count.
    fn advertise(&self, gateway: &str) {
        let _ = gateway;
    }

    /// Whose history its sequences belong to. Creates our number in it if there is none.
    async fn identity(&self) -> Result<Identity, LockError>;

    /// What each server behind it says of itself. None of a service that lives in a database.
    ///
    /// # Cancel safety
    /// Yes.
    async fn servers(&self) -> Vec<Server> {
        Vec::new()
    }

    /// Counts one more by a write, where one counter serves all fences, and answers with the number. Reads may be old,
    /// so only this tells how far the service has surely counted. `None` of a service that counts on from the `floor`.
    ///
    /// # Cancel safety
    /// It may or may not count.
    async fn count(&self) -> Result<Option<i64>, LockError> {
        Ok(None)
    }

    /// Makes what the service needs in its database, where it has one: the tables of this version.
    async fn migrate(&self) -> Result<(), LockError> {
        Ok(())
    }

    /// Takes the lock, waiting up to `request.wait` while others hold it.
    ///
    /// # Errors
    /// [`LockError::Busy`] when the wait ran out, [`LockError::Unavailable`] when the service cannot be asked.
    ///
    /// # Cancel safety
    /// Dropping the future gives the place in the queue, or the lock, back.
    async fn acquire(&self, request: &Request) -> Result<Held, LockError>;

    /// Makes the lock last another TTL, counted from now.
    ///
    /// # Errors
    /// [`LockError::Lost`] when the acquisition is over, for whatever reason. It is never taken back.
    ///
    /// # Cancel safety
    /// The renewal may or may not happen.
    async fn renew(&self, claim: &Claim) -> Result<Term, LockError>;

    /// Gives the lock up. Nothing happens if the acquisition is over already.
    ///
    /// # Cancel safety
    /// The release may or may not happen.
    async fn release(&self, claim: &Claim) -> Result<(), LockError>;

    /// Who holds the lock, and how many wait.
    async fn inspect(&self, name: &FenceName) -> Result<LockState, LockError>;

    /// Whether `sequence` is the live holder's now, who took the lock directly, not through fencegate; then also
    /// whose history it belongs to. Locks that fencegate granted are never confirmed: their sequence can be
    /// seen by anybody. Services whose own clients have no sequence confirm nothing.
    async fn confirm(&self, name: &FenceName, sequence: Sequence) -> Result<Option<Identity>, LockError> {
        let _ = (name, sequence);
        Ok(None)
    }
}

/// What a lock service can answer instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Somebody else held the lock for as long as the caller would wait.
    #[error("the lock is held by another: wait longer, or come back when it has ended")]
    Busy {
        /// How long until the present lock expires, if it is not renewed and the service can tell.
        expires_in: Option<Duration>,
    },
    /// The acquisition is over: it expired, was released or was taken away.
    #[error("the lock is lost: acquire again, which gives a new token")]
    Lost,
    /// The service cannot be asked, or did not answer in time.
    #[error("the lock service {service} did not answer: {detail}")]
    Unavailable {
        /// Which service, with its address, without credentials.
        service: String,
        /// What happened.
        detail: String,
    },
    /// Its URL cannot be used. Nothing was asked of it.
    #[error("the URL of the lock service {service} cannot be used: {detail}")]
    Url {
        /// Which kind of service.
        service: &'static str,
        /// What is wrong, and what to write.
        detail: String,
    },
    /// The service answered, and what it said cannot be right.
    #[error("the lock service {service} holds something unexpected: {detail}")]
    Unexpected {
        /// Which service, with its address, without credentials.
        service: String,
        /// What was found.
        detail: String,
    },
    /// Another process has the acquisition, and only that one can make it last.
    #[error("another process granted the lease, and only that one can renew it; {}", match gateway {
        Some(gateway) => format!("ask its gateway, {gateway}"),
        None => "it says of no gateway where it is".into(),
    })]
    Elsewhere {
        /// The URL of that process's gateway, if it advertises one and that is not this process's own.
        gateway: Option<String>,
    },
}

impl LockError {
    /// Whether the same call may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Unavailable { .. })
    }
}

/// Of lock services that live in a database.
impl From<DatabaseError> for LockError {
    fn from(error: DatabaseError) -> Self {
        let service = "in the database".to_owned();
        let detail = error.to_string();
        match error {
            DatabaseError::Url(_) | DatabaseError::Refused(_) => Self::Unexpected { service, detail },
            _ => Self::Unavailable { service, detail },
        }
    }
}

impl From<sqlx::Error> for LockError {
    fn from(error: sqlx::Error) -> Self {
        DatabaseError::from(error).into()
    }
}
