//! Renewals on a majority.

use std::{collections::HashSet, time::Duration};

use super::{
    Redlock,
    instances::LONGEST,
    members::{Members, unavailable},
    rounds::validity,
    scripts::{self, Answer},
};
use crate::{
    clock::Moment,
    lock::{Claim, LockError, Term},
};

/// What a renewal came to.
pub(super) enum Renewed {
    Until(Term),
    /// The lock is over on so many instances that no majority is left.
    Lost,
    /// So many instances are none of the set that it may be another by now.
    OtherMembers,
}

impl Redlock {
    /// Renews on a majority of these members.
    ///
    /// # Cancel safety
    /// The renewal may or may not happen.
    pub(super) async fn renew_as(&self, claim: &Claim, members: &Members) -> Result<Renewed, LockError> {
        let (majority, count) = (self.instances.majority(), self.instances.count());
        let sent = Moment::now();
        let script = || scripts::renew(&self.keys, &members.list, claim);
        // The TTL is not known before an instance has told it.
        let mut round = self.instances.ask::<Answer>(LONGEST, script);
        let (mut renewed, mut shortest) = (HashSet::new(), u64::MAX);
        let (mut lost, mut no_members) = (0, 0);
        while renewed.len() < majority
            && lost + no_members <= count - majority
            && let Some((_, answer)) = round.next().await
        {
            match answer {
                Ok(Answer::Yes { instance, ttl_ms }) => {
                    renewed.insert(instance);
                    shortest = shortest.min(ttl_ms);
                }
                Ok(Answer::No) => lost += 1,
                Ok(Answer::NoMember) => no_members += 1,
                Err(_) => {}
            }
        }
        if lost + no_members > count - majority {
            return Ok(if no_members > 0 {
                Renewed::OtherMembers
            } else {
                Renewed::Lost
            });
        }
        let ttl = Duration::from_millis(shortest);
        let deadline = sent + validity(ttl);
        if renewed.len() < majority || deadline.has_passed() {
            let detail = format!("only {} of {count} instances renewed in time", renewed.len());
            return Err(unavailable(&self.instances, &detail));
        }
        Ok(Renewed::Until(Term { ttl, deadline }))
    }
}
