//! Ending somebody else's grant.

use super::{GrantError, Locks};
use crate::{
    lock::Claim,
    name::FenceName,
    token::{HolderHash, Mark},
};

impl Locks {
    /// Ends whoever's grant of the fence, without its token: first the token is dead for the store, then the lock
    /// is free for others. Nothing happens where nobody has it. Waiters keep their places, and their numbers stay
    /// good, since the mark does not rise.
    ///
    /// For operators: the holder learns of it when it next writes or renews.
    ///
    /// # Errors
    /// [`GrantError::Foreign`] when a program that does not go through fencegate has the lock; when the store or
    /// the lock service cannot be asked, as [`Locks::release`].
    ///
    /// # Cancel safety
    /// As [`Locks::release`].
    pub async fn force_release(&self, name: &FenceName) -> Result<(), GrantError> {
        // The mark is read first: a holder that comes after both looks is nobody's business here, and neither its
        // mark nor its lock is the one that was seen.
        let epoch = self.store.epoch().await?;
        let before = self.store.fence(name).await?;
        let seen = self.service.inspect(name).await;
        if let Some(fence) = before {
            self.store.retire(name, &fence.mark).await?;
            // Its lock need not be the one that was seen: where another process hands it over, those that it is taken over
            // from stand before it for a moment.
            let marked = Claim {
                name: name.clone(),
                sequence: fence.mark.sequence,
                holder: fence.mark.holder,
            };
            self.service.release(&marked).await?;
        }
        let Some(live) = seen?.holder else {
            return Ok(());
        };
        let holder = live.holder.ok_or_else(|| GrantError::Foreign(name.clone()))?;
        let claim = Claim {
            name: name.clone(),
            sequence: live.sequence,
            holder,
        };
        self.service.release(&claim).await?;
        // A grant that is under way has not sealed its number, and must not when it has lost the lock: the mark takes
        // the number, with a holder that nobody knows. Those who wait behind it have higher ones.
        // Where the epoch is bound to another lock service, that grant will be refused by itself.
        let number = epoch.epoch;
        match self.check_history(epoch, &self.service.identity().await?).await {
            Ok(()) => {
                let dead = Mark {
                    epoch: number,
                    sequence: claim.sequence,
                    holder: HolderHash::of_nobody(),
                };
                self.store.seal(name, &dead).await?;
            }
            Err(GrantError::OtherHistory { .. }) => {}
            Err(error) => return Err(error),
        }
        // Or it was sealed before that.
        if let Some(fence) = self.store.fence(name).await?
            && (fence.mark.sequence, fence.mark.holder) == (claim.sequence, claim.holder)
        {
            self.store.retire(name, &fence.mark).await?;
        }
        Ok(())
    }
}
