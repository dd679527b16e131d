//! What is done when history cannot be trusted: raising the epoch, and saying how the store is replicated.

use serde::Serialize;
use time::OffsetDateTime;

use crate::token::Epoch;

/// Why the epoch is to be raised.
#[derive(Debug, Clone)]
pub struct Rebase {
    /// For whoever reads the audit log. Not empty.
    pub reason: String,
    /// Who does it.
    pub who: String,
    /// Only if this is still the epoch: several that find the same trouble then raise it once.
    pub expected: Option<Epoch>,
}

/// What came of a rebase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebased {
    /// The epoch that was left.
    pub from: Epoch,
    /// The epoch that is now. The same when it was not the expected one, and nothing was done.
    pub to: Epoch,
    /// How many fences were marked.
    pub fences: u64,
}

/// Whether a standby of the store that is promoted has every commit that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Replication {
    /// It may lack the last ones.
    Asynchronous,
    /// It has them all.
    Synchronous,
}

impl Replication {
    /// As it is written and stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asynchronous => "asynchronous",
            Self::Synchronous => "synchronous",
        }
    }
}

impl std::str::FromStr for Replication {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "asynchronous" => Ok(Self::Asynchronous),
            "synchronous" => Ok(Self::Synchronous),
            other => Err(format!(
                "replication is asynchronous or synchronous, and not {other:?}"
            )),
        }
    }
}

/// A line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Audited {
    /// When it was done.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Who did it.
    pub who: String,
    /// `rebase`, `declare`, or `accept`: a new timeline that the declaration let pass.
    pub action: String,
    /// Why.
    pub reason: String,
    /// The epoch before.
    pub from_epoch: i64,
    /// The epoch after.
    pub to_epoch: i64,
    /// What was left.
    pub was: String,
    /// What is now.
    pub became: String,
}
