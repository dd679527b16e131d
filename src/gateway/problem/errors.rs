//! From the library's errors to problems: what the client may see of each, and what the log gets.

use std::time::Duration;

use super::{Problem, SOON, kinds::*};
use crate::{
    database::DatabaseError,
    grant::GrantError,
    lock::LockError,
    name::{FenceName, RecordKey},
    store::{MergeError, StoreError},
};

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(refusal) => Self::refused(&refusal),
            StoreError::Condition { current } => Self::version_mismatch(current),
            StoreError::Merge(error) => error.into(),
            StoreError::Operation {
                place,
                fence,
                key,
                error,
            } => Self::from(*error).of_operation(place, &fence, &key),
            StoreError::KeyReused => Self::new(KEY_REUSED, error.to_string()),
            StoreError::KeyInFlight => Self::new(KEY_IN_FLIGHT, error.to_string()).retry_after(SOON),
            StoreError::TokenMissing(fence) => Self::token_missing(&fence),
            StoreError::Database(error) => error.into(),
            error => Self::internal(error),
        }
    }
}

impl From<MergeError> for Problem {
    fn from(error: MergeError) -> Self {
        let kind = match error {
            MergeError::Patch(_) => BODY_MALFORMED,
            MergeError::Absent => RECORD_NOT_FOUND,
            MergeError::NotJson => RECORD_NOT_JSON,
            MergeError::TooLong { .. } => BODY_TOO_LARGE,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<DatabaseError> for Problem {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Unavailable(_) => Self::new(
                STORE_UNAVAILABLE,
                "the store is out of reach, nothing was changed: come back soon",
            )
            .retry_after(SOON)
            .inside(error),
            DatabaseError::Conflict(_) => Self::new(
                STORE_BUSY,
                "another transaction was in the way, nothing was changed: the same again may pass",
            )
            .retry_after(SOON)
            .inside(error),
            DatabaseError::Overloaded => Self::new(STORE_BUSY, error.to_string()).retry_after(SOON),
            DatabaseError::OutcomeUnknown(_) => Self::new(
                OUTCOME_UNKNOWN,
                "the store's answer to the commit was lost: look whether it has happened, or repeat it with the same \
                 Idempotency-Key, if it had one",
            )
            .inside(error),
            DatabaseError::Quarantined(ref why) => Self::new(
                STORE_QUARANTINED,
                format!("{why}. Nothing was changed: the operator runs fencegate rebase --reason TEXT"),
            )
            .inside(error),
            DatabaseError::NotMigrated(_) => Self::new(
                NOT_READY,
                "the store's tables are missing or too old: run `fencegate migrate --store URL`, or start the \
                 gateway with --migrate",
            )
            .retry_after(SOON)
            .inside(error),
            DatabaseError::NotPermitted(_) => Self::new(
                NOT_READY,
                "the store gives the gateway's database role too few rights: the operator grants it what the gateway's \
                 log names, or has the gateway connect as the owner of the tables",
            )
            .retry_after(SOON)
            .inside(error),
            error => Self::internal(error),
        }
    }
}

impl From<GrantError> for Problem {
    fn from(error: GrantError) -> Self {
        match error {
            GrantError::Name(error) => Self::name_malformed(&error),
            GrantError::Ttl(_) | GrantError::Label | GrantError::NoFence => {
                Self::body_malformed(error.to_string())
            }
            GrantError::Lock(error) => error.into(),
            GrantError::Store(error) => error.into(),
            GrantError::EpochChanged => {
                Self::new(EPOCH_CHANGED, error.to_string()).retry_after(Duration::ZERO)
            }
            GrantError::Foreign(_) => Self::new(LOCK_FOREIGN, error.to_string()),
            GrantError::Unconfirmed { ref refusal, .. } => {
                let mut problem = Self::refused(refusal);
                problem.0.detail = error.to_string();
                problem.0.presented = Some(refusal.presented.sequence.to_string());
                problem
            }
            GrantError::Refused(refusal) => Self::refused(&refusal),
            GrantError::Regressed { .. } | GrantError::OtherHistory { .. } => {
                Self::new(LOCK_SERVICE_REGRESSED, error.to_string()).inside(error)
            }
        }
    }
}

impl From<LockError> for Problem {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Busy { expires_in } => Self::lock_held(expires_in),
            LockError::Lost => Self::lease_lost(),
            LockError::Unavailable { .. } => Self::lock_service_unavailable(
                "the lock service is out of reach: leases wait until it is back, writes under granted tokens go on",
            )
            .inside(error),
            LockError::Elsewhere { .. } => Self::lease_elsewhere(),
            LockError::Unexpected { .. } | LockError::Url { .. } => Self::internal(error),
        }
    }
}

impl Problem {
    /// The fence that it is about, where no path names one.
    pub(in super::super) fn on(mut self, fence: &FenceName) -> Self {
        self.0.fence = Some(fence.to_string());
        self
    }

    /// Says which operation of a transaction it is about.
    fn of_operation(mut self, place: usize, fence: &FenceName, key: &RecordKey) -> Self {
        self.0.detail = format!("operation {place}, on record {key}: {}", self.0.detail);
        self.on(fence)
    }

    /// Says which operation of a transaction cannot be read.
    pub(in super::super) fn in_operation(mut self, place: usize) -> Self {
        self.0.detail = format!("operation {place}: {}", self.0.detail);
        self
    }

    /// A bare sequence that could not be confirmed.
    pub(in super::super) fn not_confirmed(error: GrantError) -> Self {
        match error {
            GrantError::Lock(LockError::Unavailable { .. }) => Self::confirmation_unavailable().inside(error),
            GrantError::Store(StoreError::Database(DatabaseError::OutcomeUnknown(_))) => Self::new(
                STORE_UNAVAILABLE,
                "the store is out of reach, and the bare sequence may be sealed or not: nothing else was changed",
            )
            .retry_after(SOON)
            .inside(error),
            error => error.into(),
        }
    }

    /// The lock service has not said whether a bare sequence is the live holder's.
    pub(in super::super) fn confirmation_unavailable() -> Self {
        Self::lock_service_unavailable(
            "a bare sequence is confirmed with the lock service on every write, and that is out of reach: nothing was \
             changed",
        )
    }

    /// A release that failed. Its token is retired before the lock service is asked.
    pub(in super::super) fn not_released(error: GrantError) -> Self {
        match error {
            GrantError::Lock(LockError::Unavailable { .. }) => Self::lock_service_unavailable(
                "the lock service is out of reach: this token is dead, and writes nothing any more, but the lock may stay \
                 until its ttl is over. Release again, or wait for that",
            )
            .inside(error),
            error => error.into(),
        }
    }

    /// A grant that failed. What was sealed or taken for it is given back, so that all may be asked again.
    pub(in super::super) fn not_granted(error: GrantError) -> Self {
        match error {
            GrantError::Lock(LockError::Lost) => Self::lock_service_unavailable(
                "the lease had ended before it could be handed out: ask again, or for a longer ttl",
            ),
            GrantError::Store(StoreError::Database(DatabaseError::OutcomeUnknown(_))) => Self::new(
                STORE_UNAVAILABLE,
                "the store is out of reach, no lease was given: come back soon",
            )
            .retry_after(SOON)
            .inside(error),
            error => error.into(),
        }
    }
}
