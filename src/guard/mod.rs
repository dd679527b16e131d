//! The guard: the check, inside a transaction, that a token may write.
//!
//! Once a transaction has entered a fence, the fence's mark cannot change until it ends: a newer holder's seal
//! waits for it. So whatever it writes is committed before the newer holder may act, or not at all.
//!
//! [`Lease::begin`](crate::Lease::begin) gives a transaction that has passed; [`begin`] does so for a token without
//! a lease; [`enter`] is for a transaction that you have already.

#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod transaction;

#[cfg(feature = "postgres")]
pub use postgres::enter_with as enter;
pub use transaction::{Guarded, Isolation, Resource, begin};

use crate::{
    database::DatabaseError,
    name::FenceName,
    rule::{self, Reason, Verdict},
    token::{Epoch, Mark, Sequence},
};

/// A token that the guard did not let pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("fence {fence}: token {presented} is refused as {}: {}", reason.as_str(), advice(*reason, *mark))]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// The fence.
    pub fence: FenceName,
    /// The token that was shown.
    pub presented: Mark,
    /// The fence's mark; `None` if it was never sealed.
    pub mark: Option<Mark>,
}

fn advice(reason: Reason, mark: Option<Mark>) -> String {
    let Some(mark) = mark else {
        return "the fence was never sealed, so acquire a lease first".into();
    };
    match reason {
        Reason::Stale => format!("the mark is {mark}, so a newer holder has the fence; acquire again"),
        Reason::HolderMismatch => {
            format!(
                "the mark {mark} has another holder, so the token was released or is not yours; acquire again"
            )
        }
        Reason::Unsealed => {
            format!("the mark is {mark} and no grant stands behind the token; acquire a lease")
        }
    }
}

/// What the guard can answer instead of letting a transaction pass.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuardError {
    /// The token may not write.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// The database had something to say.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A row that cannot be: somebody else wrote to the tables.
    #[error("the store holds something unexpected: {0}")]
    Corrupt(String),
    /// The lease was lost before the commit, which was therefore not tried: everything was rolled back.
    #[error("the lease was lost before the commit, so nothing was committed: acquire again")]
    LeaseLost,
    /// A fence cannot be entered outside a transaction: nothing would be held.
    #[error(
        "a fence is entered in a transaction, and this connection is in none: begin one through sqlx first"
    )]
    NotInTransaction,
    /// A savepoint that is rolled back gives up what was entered in it.
    #[error("a fence is not entered inside a savepoint, which could be rolled back: enter before it")]
    InSavepoint,
}

impl GuardError {
    /// Whether the token was refused because a newer one is known.
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.reason == Reason::Stale)
    }

    /// Whether the same call may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Database(error) if error.is_retryable())
    }
}

impl From<sqlx::Error> for GuardError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

/// Applies the rule to a token that nothing but the mark can confirm.
pub(crate) fn check(fence: &FenceName, mark: Option<Mark>, token: &Mark) -> Result<(), GuardError> {
    match rule::admit(mark.as_ref(), token, false) {
        Verdict::Refuse(reason) => {
            let refusal = Refusal {
                reason,
                fence: fence.clone(),
                presented: *token,
                mark,
            };
            Err(GuardError::Refused(Box::new(refusal)))
        }
        Verdict::Admit | Verdict::Seal => Ok(()),
    }
}

/// Reads a mark that a database holds.
pub(crate) fn read_mark(epoch: i64, sequence: i64, holder: &[u8]) -> Result<Mark, GuardError> {
    let corrupt = || GuardError::Corrupt(format!("a mark of {epoch}-{sequence}"));
    Ok(Mark {
        epoch: Epoch::new(epoch).ok_or_else(corrupt)?,
        sequence: Sequence::new(sequence).ok_or_else(corrupt)?,
        holder: holder.try_into().map_err(|_| corrupt())?,
    })
}
