//! What becomes of a grant that did not come to an end: it begins again where nothing was promised yet, it finds out whether
//! the lock service's history went back, and it raises the epoch where it may.

use tracing::Instrument;

use super::{Grant, GrantError, Locks, Options};
use crate::{
    SPANS,
    clock::Moment,
    database::DatabaseError,
    lock::LockError,
    name::FenceName,
    store::{Rebase, StoreError},
    token::Mark,
};

/// How often a grant begins again.
const AGAIN: u32 = 2;

impl Locks {
    /// Has the epoch raised without anybody being asked, when the lock service's history went back or is another one, and
    /// when the store is quarantined. `who` goes to the audit log. That is safe, since every token from before is stale then;
    /// but two programs that name different lock services would end each other's leases over and over.
    pub fn with_auto_rebase(mut self, who: &str) -> Self {
        self.auto_rebase = Some(who.into());
        self
    }

    /// Whether the next grant raises the epoch by itself, where it has to be.
    #[cfg(feature = "gateway")]
    pub(crate) fn rebases_by_itself(&self) -> bool {
        self.auto_rebase.is_some()
    }

    /// Grants a fence without renewing it.
    ///
    /// # Errors
    /// As [`Locks::acquire`]; [`LockError::Busy`] when the wait ran out.
    ///
    /// # Cancel safety
    /// As [`Locks::acquire`].
    pub async fn grant(&self, name: &FenceName, options: Options) -> Result<Grant, GrantError> {
        let span =
            tracing::debug_span!(target: SPANS, "grant", fence = %name, lock_service = %self.service.kind());
        self.grant_and_again(name, options).instrument(span).await
    }

    async fn grant_and_again(&self, name: &FenceName, options: Options) -> Result<Grant, GrantError> {
        let until = Moment::now() + options.wait;
        let mut options = options;
        let mut left = AGAIN;
        loop {
            let error = match self.grant_once(name, options.clone()).await {
                Ok(grant) => return Ok(grant),
                Err(error) => error,
            };
            let begins_again = match &error {
                // Ended by force, or expired, before it was sealed: nothing was promised yet.
                GrantError::Lock(LockError::Lost) => !until.has_passed(),
                // Nor was it in an epoch that was left meanwhile.
                GrantError::EpochChanged => true,
                GrantError::Regressed { mark, .. } => {
                    !self.is_behind(mark).await? || self.rebase(&error).await?
                }
                GrantError::OtherHistory { .. }
                | GrantError::Store(StoreError::Database(DatabaseError::Quarantined(_))) => {
                    self.rebase(&error).await?
                }
                _ => false,
            };
            if left == 0 || !begins_again {
                return Err(error);
            }
            left -= 1;
            options.wait = until.remaining();
        }
    }

    /// Whether the lock service has surely not counted as far as a mark. A number at or below the mark may also be bad
    /// luck: it was drawn before the mark rose, and the next one is above it.
    async fn is_behind(&self, mark: &Mark) -> Result<bool, GrantError> {
        let counted = self.service.count().await?;
        Ok(counted.is_some_and(|counted| counted <= mark.sequence.get()))
    }

    /// Raises the epoch, if that may be done without being asked. Of several who find the same, one does.
    async fn rebase(&self, why: &GrantError) -> Result<bool, GrantError> {
        let Some(who) = &self.auto_rebase else {
            return Ok(false);
        };
        let found = self.store.epoch_as_stored().await?.epoch;
        let asked = match why {
            GrantError::OtherHistory { epoch, .. } => *epoch,
            GrantError::Regressed { mark, .. } => mark.epoch.get(),
            _ => found.get(),
        };
        // Raised already by somebody else.
        if found.get() != asked {
            return Ok(true);
        }
        let rebase = Rebase {
            reason: why.to_string(),
            who: who.to_string(),
            expected: Some(found),
        };
        let done = self.store.rebase(&rebase).await?;
        if done.from == done.to {
            return Ok(true);
        }
        tracing::warn!(reason = %rebase.reason, from = %done.from, to = %done.to, "the epoch was raised");
        Ok(true)
    }
}
