//! Who holds a lock, as a majority sees it.

use super::{
    Redlock,
    instances::LONGEST,
    members::{unavailable, unexpected},
};
use crate::{
    lock::{HolderState, LockError, LockState, redis::scripts::Seen},
    name::FenceName,
    token::Sequence,
};

impl Redlock {
    /// Asks all instances.
    pub(super) async fn look_at(&self, name: &FenceName) -> Result<LockState, LockError> {
        let (majority, count) = (self.instances.majority(), self.instances.count());
        let round = self.instances.ask::<Seen>(LONGEST, || self.keys.inspect(name));
        let seen: Vec<_> = round.all(count).await.into_iter().flatten().flatten().collect();
        if seen.len() < majority {
            let detail = format!(
                "{} of {count} instances answer, and {majority} are needed",
                seen.len()
            );
            return Err(unavailable(&self.instances, &detail));
        }
        Ok(LockState {
            holder: self.holder(seen)?,
            waiting: None,
        })
    }

    /// Who holds the lock on a majority, under one ballot.
    fn holder(&self, seen: Vec<Seen>) -> Result<Option<HolderState>, LockError> {
        let majority = self.instances.majority();
        let mut states: Vec<HolderState> = Vec::new();
        for seen in seen {
            let (sequence, label, expires_in, holder) = match seen {
                Seen::Held {
                    holder,
                    sequence,
                    label,
                    expires_in,
                } if sequence != 0 => (Sequence::new(sequence), label, expires_in, Some(holder)),
                Seen::Foreign { expires_in } => (Some(Sequence::FIRST), String::new(), expires_in, None),
                _ => continue,
            };
            let sequence = sequence.ok_or_else(|| unexpected(&self.instances, "a ballot below 1"))?;
            states.push(HolderState {
                sequence,
                label,
                expires_in,
                holder,
            });
        }
        states.sort_by_key(|state| std::cmp::Reverse(state.expires_in));
        let same = |one: &HolderState, other: &HolderState| {
            (one.holder, one.sequence) == (other.holder, other.sequence)
        };
        // It lasts until the majority ends.
        let last = states.iter().enumerate().find(|(index, state)| {
            states[..=*index]
                .iter()
                .filter(|other| same(state, other))
                .count()
                >= majority
        });
        Ok(last.map(|(_, state)| state.clone()))
    }
}
