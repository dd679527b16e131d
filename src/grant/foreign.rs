//! Foreign tokens: the bare sequence of a program that took its lock directly on the lock service.
//!
//! A number can be guessed, so it is worth only what stands behind it: the lock service names it as that of the live
//! holder, now; and the client that shows it is the one that showed it first, which the mark remembers.

use super::{GrantError, Locks};
use crate::{
    guard::Refusal,
    name::FenceName,
    rule::{self, Reason, Verdict},
    store::{EpochState, SealOutcome},
    token::{HolderHash, Mark, Sequence},
};

impl Locks {
    /// Confirms a bare sequence for a client, and gives the mark under which it writes. To be asked before every
    /// write: it holds as long as the other program's lock, of whose end nobody is told.
    ///
    /// The first time, the fence is sealed to it as by a grant, so that from then on no older holder writes.
    ///
    /// `client` is who shows it, as they have proven. Where nobody has to prove anything all are one client, and the
    /// number is bound to none of them.
    ///
    /// # Errors
    /// [`GrantError::Unconfirmed`] when the lock service does not name it, as it never does a lock that fencegate
    /// granted; [`GrantError::Refused`] when the mark is higher, or another client's; and as [`Locks::acquire`] when the
    /// store or the lock service cannot be asked, or its history is not the epoch's.
    ///
    /// # Cancel safety
    /// The seal may or may not happen.
    pub async fn confirm(
        &self,
        name: &FenceName,
        sequence: Sequence,
        client: &str,
    ) -> Result<Mark, GrantError> {
        // In the order of a grant: an epoch that was read after confirming could be newer than the history that the
        // sequence is from.
        let before = self.store.epoch().await?;
        let token = Mark {
            epoch: before.epoch,
            sequence,
            holder: HolderHash::of_client(client),
        };
        let mark = self.store.fence(name).await?.map(|fence| fence.mark);
        admissible(name, mark, token)?;
        self.confirm_now(name, mark, token, &before).await?;
        if mark == Some(token) {
            return Ok(token);
        }
        match self.store.seal(name, &token).await? {
            SealOutcome::Sealed => {}
            SealOutcome::NotHigher(mark) => {
                admissible(name, Some(mark), token)?;
            }
            SealOutcome::EpochChanged(_) => return Err(GrantError::EpochChanged),
        }
        // Sealing may have taken a while, and its lock may have ended meanwhile.
        self.confirm_now(name, Some(token), token, &before).await?;
        Ok(token)
    }

    async fn confirm_now(
        &self,
        name: &FenceName,
        mark: Option<Mark>,
        token: Mark,
        before: &EpochState,
    ) -> Result<(), GrantError> {
        match self.service.confirm(name, token.sequence).await? {
            Some(identity) => self.check_history(before.clone(), &identity).await,
            None => Err(GrantError::Unconfirmed {
                refusal: refusal(Reason::Unsealed, name, mark, token),
                service: self.service.kind(),
            }),
        }
    }
}

/// What the mark alone refuses.
fn admissible(fence: &FenceName, mark: Option<Mark>, token: Mark) -> Result<(), GrantError> {
    match rule::admit(mark.as_ref(), &token, true) {
        Verdict::Admit | Verdict::Seal => Ok(()),
        Verdict::Refuse(reason) => Err(GrantError::Refused(refusal(reason, fence, mark, token))),
    }
}

fn refusal(reason: Reason, fence: &FenceName, mark: Option<Mark>, token: Mark) -> Box<Refusal> {
    Box::new(Refusal {
        reason,
        fence: fence.clone(),
        presented: token,
        mark,
    })
}
