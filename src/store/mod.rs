//! Stores: where marks and records are kept, side by side, so that one transaction sees both.

pub mod history;
pub mod merge;
pub mod once;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod transaction;
pub mod watch;

use std::fmt;

pub use history::{Audited, Rebase, Rebased, Replication};
pub use merge::{MergeError, MergePatch};
pub use once::{Done, Once};
pub use transaction::{Operation, Transaction};
pub use watch::{Batch, BatchWatch, Pressure};

use async_trait::async_trait;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use time::OffsetDateTime;

use crate::{
    database::DatabaseError,
    guard::{GuardError, Refusal},
    lock::Identity,
    name::{FenceName, RecordKey},
    rejections::{Noted, Rejection},
    rule::Reason,
    token::{Epoch, Mark},
};

/// The epoch, and the history of sequences that it is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochState {
    /// The number.
    pub epoch: Epoch,
    /// The lock service that grants in it; `None` until the first one has.
    pub bound: Option<Identity>,
}

/// A fence and its mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FenceState {
    /// The fence.
    pub name: FenceName,
    /// The newest token that it was shown.
    pub mark: Mark,
    /// When it was.
    pub sealed_at: OffsetDateTime,
}

/// What came of a seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealOutcome {
    /// The mark is the token, and every transaction under an older one has ended.
    Sealed,
    /// The mark is at or above the token already.
    NotHigher(Mark),
    /// The epoch is no longer the token's.
    EpochChanged(Epoch),
}

/// A number that differs for every state that a record was ever in, and rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub i64);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// In JSON a string: it may pass 2^53.
impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

/// A stored value: any bytes, with what they are.
#[derive(Clone, PartialEq, Eq)]
pub struct Value {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Their media type.
    pub content_type: String,
}

/// Values may be secret, and are long.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({} bytes of {})", self.bytes.len(), self.content_type)
    }
}

/// A record as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it holds.
    pub value: Value,
    /// Which state this is.
    pub version: Version,
    /// When it was written.
    pub updated_at: OffsetDateTime,
}

/// A record in a list, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: RecordKey,
    /// Which state this is.
    pub version: Version,
    /// The value's media type.
    pub content_type: String,
    /// The value's bytes.
    pub length: u64,
    /// When it was written.
    pub updated_at: OffsetDateTime,
}

/// What is to be done to a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Store this value.
    Put(Value),
    /// Apply this merge patch to the JSON that is stored. The media type stays.
    Merge(MergePatch),
    /// Remove the record, if it is there. The fence's mark stays.
    Delete,
}

/// What must be true of the record for the change to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Always,
    /// It does not exist.
    Absent,
    /// It exists.
    Present,
    /// It exists in this very version.
    Version(Version),
}

impl Condition {
    /// Whether a record in this version, or none, meets it.
    pub fn holds(self, version: Option<Version>) -> bool {
        match self {
            Self::Always => true,
            Self::Absent => version.is_none(),
            Self::Present => version.is_some(),
            Self::Version(wanted) => version == Some(wanted),
        }
    }
}

/// One fenced write.
#[derive(Debug, Clone)]
pub struct Write {
    /// The fence that guards the record.
    pub fence: FenceName,
    /// The token that the writer shows.
    pub token: Mark,
    /// The record.
    pub key: RecordKey,
    /// What is to be done to it.
    pub change: Change,
    /// Under which condition.
    pub condition: Condition,
}

/// A write that happened, and is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The record's version after it; `None` where a delete left nothing.
    pub version: Option<Version>,
    /// Whether there was a record before.
    pub existed: bool,
}

/// What a store can answer instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The guard refused the token. Nothing was changed.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// The record is not as the condition wants it. Nothing was changed.
    #[error("the record is {}, which the condition does not allow: read it again", match current {
        Some(version) => format!("in version {version}"),
        None => "absent".into(),
    })]
    Condition {
        /// The version that it is in; `None` if there is no record.
        current: Option<Version>,
    },
    /// An operation's fence has no token. Nothing was changed.
    #[error("no token is shown for fence {0}, which an operation writes to")]
    TokenMissing(FenceName),
    /// Another request was asked for under the key. Nothing was changed.
    #[error("another request has been made under this key: take a new one")]
    KeyReused,
    /// A request under the key is under way. Nothing was changed by this one.
    #[error("a request under this key is under way: ask again when it has ended")]
    KeyInFlight,
    /// There is no record to patch, or none that can be. Nothing was changed.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// One operation of a transaction failed, so nothing was changed.
    #[error("operation {place}, on record {key} of fence {fence}: {error}")]
    Operation {
        /// Its place among the operations, from 0.
        place: usize,
        /// Its fence.
        fence: FenceName,
        /// Its record.
        key: RecordKey,
        /// What was wrong with it.
        error: Box<StoreError>,
    },
    /// The database had something to say.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// There is no replication to declare: the store is a file.
    #[error(
        "this store is not replicated, so there is nothing to declare: rebase by hand when it was put back from a copy"
    )]
    NotReplicated,
    /// A row that cannot be: somebody else wrote to the tables.
    #[error("the store holds something unexpected: {0}")]
    Corrupt(String),
}

impl StoreError {
    /// Whether the guard refused the token because a newer one is known.
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.reason == Reason::Stale)
    }

    /// Whether the same call may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Database(error) => error.is_retryable(),
            Self::KeyInFlight => true,
            _ => false,
        }
    }
}

impl From<GuardError> for StoreError {
    fn from(error: GuardError) -> Self {
        match error {
            GuardError::Refused(refusal) => Self::Refused(refusal),
            GuardError::Database(error) => Self::Database(error),
            GuardError::Corrupt(what) => Self::Corrupt(what),
            other => Self::Database(DatabaseError::Refused(other.to_string())),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

/// Keeps marks and records.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// `postgres` or `sqlite`, and where, without credentials.
    fn describe(&self) -> String;

    /// Brings the schema up to this version.
    async fn migrate(&self) -> Result<(), StoreError>;

    /// Whether the store answers and has its schema.
    async fn check(&self) -> Result<(), StoreError>;

    /// The epoch.
    ///
    /// # Errors
    /// [`DatabaseError::Quarantined`] while marks may have been lost.
    async fn epoch(&self) -> Result<EpochState, StoreError>;

    /// Binds the epoch to a lock service if it is not bound yet, and answers with what it is bound to then.
    async fn bind(&self, identity: &Identity) -> Result<EpochState, StoreError>;

    /// The epoch, also of a store that is quarantined: for whoever explains it.
    async fn epoch_as_stored(&self) -> Result<EpochState, StoreError> {
        self.epoch().await
    }

    /// Why the store is quarantined, if it is: its marks are of another history than its server, so some may be lost.
    async fn quarantine(&self) -> Result<Option<String>, StoreError> {
        Ok(None)
    }

    /// Raises the epoch: every token from before is stale, and the next grant binds the new epoch to its lock service. It
    /// ends a quarantine.
    ///
    /// # Cancel safety
    /// It may or may not happen.
    async fn rebase(&self, rebase: &Rebase) -> Result<Rebased, StoreError>;

    /// How the store is replicated, as was declared; `None` where it cannot be.
    async fn replication(&self) -> Result<Option<Replication>, StoreError> {
        Ok(None)
    }

    /// Declares how the store is replicated. Synchronous: a later timeline of the same Postgres is accepted.
    ///
    /// # Errors
    /// [`StoreError::NotReplicated`] where there is nothing to declare.
    async fn declare(&self, _replication: Replication, _reason: &str, _who: &str) -> Result<(), StoreError> {
        Err(StoreError::NotReplicated)
    }

    /// The newest lines of the audit log, newest first.
    async fn audit(&self, limit: u32) -> Result<Vec<Audited>, StoreError>;

    /// A fence's mark; `None` if it was never sealed.
    async fn fence(&self, name: &FenceName) -> Result<Option<FenceState>, StoreError>;

    /// Up to `limit` fences whose names begin with `prefix`, in byte order, after the name `after`.
    async fn fences(&self, prefix: &str, after: &str, limit: u32) -> Result<Vec<FenceState>, StoreError>;

    /// Raises a fence's mark to a token that was just granted, once every transaction under an older one has
    /// ended. In a transaction of its own. Sealing the mark itself again changes nothing.
    ///
    /// # Cancel safety
    /// The seal may or may not happen.
    async fn seal(&self, name: &FenceName, token: &Mark) -> Result<SealOutcome, StoreError>;

    /// Kills a token without a successor, once every transaction under it has ended. Answers whether it was
    /// the mark.
    ///
    /// # Cancel safety
    /// It may or may not happen.
    async fn retire(&self, name: &FenceName, token: &Mark) -> Result<bool, StoreError>;

    /// Up to `limit` records of a fence whose keys begin with `prefix`, in byte order, after the key `after`.
    async fn records(
        &self,
        fence: &FenceName,
        prefix: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Listed>, StoreError>;

    /// A record as it stands.
    async fn read(&self, fence: &FenceName, key: &RecordKey) -> Result<Option<Record>, StoreError>;

    /// Changes a record under the guard.
    ///
    /// # Errors
    /// [`StoreError::Refused`] by the guard, [`StoreError::Condition`] by the condition, [`StoreError::Merge`] by
    /// what is stored, and [`DatabaseError::OutcomeUnknown`] when the answer to the commit was lost.
    ///
    /// # Cancel safety
    /// The write may or may not happen.
    async fn write(&self, write: Write) -> Result<Written, StoreError>;

    /// Writes refusals down. The oldest ones go when there are too many.
    ///
    /// # Cancel safety
    /// They may or may not be written.
    async fn note_rejections(&self, _noted: &[Noted]) -> Result<(), StoreError> {
        Ok(())
    }

    /// Up to `limit` rejections, newest first, of one fence or of all; with `before`, only those whose id is lower.
    async fn rejections(
        &self,
        _fence: Option<&FenceName>,
        _before: Option<i64>,
        _limit: u32,
    ) -> Result<Vec<Rejection>, StoreError> {
        Ok(Vec::new())
    }

    /// Changes several records of several fences under the guard: all of them, or none.
    ///
    /// Asked for again with the same `once`, it gives the first answer again, whatever has become of the tokens.
    ///
    /// # Errors
    /// [`StoreError::KeyReused`] and [`StoreError::KeyInFlight`] by `once`, [`StoreError::Refused`] by the guard,
    /// [`StoreError::Operation`] when one of the operations cannot be done,
    /// and [`DatabaseError::OutcomeUnknown`] when the answer to the commit was lost.
    ///
    /// # Cancel safety
    /// The transaction may or may not happen.
    async fn transact(&self, transaction: &Transaction, once: Option<&Once>) -> Result<Done, StoreError>;

    /// Forgets the keys of [`Once`] whose time is over, and answers with how many they were.
    ///
    /// # Cancel safety
    /// Some of them may be forgotten.
    async fn forget_keys(&self) -> Result<u64, StoreError>;

    /// How busy it is.
    fn pressure(&self) -> Pressure {
        Pressure::default()
    }

    /// Has each batch of writes told to `watch`, if the store writes in batches. Only the first one is told.
    fn watch_batches(&self, _watch: BatchWatch) {}
}
