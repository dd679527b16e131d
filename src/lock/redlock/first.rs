//! What the instances say to the first round, and what follows from it.

use std::{collections::HashMap, time::Duration};

use super::scripts::Taken;
use crate::token::Sequence;

/// The answers to the first round.
#[derive(Default)]
pub(super) struct First {
    /// By instance: how far it has counted, and the ballot that this holder's lock has there, or 0.
    taken: HashMap<String, (i64, i64)>,
    /// How long the locks of others last, where that is known.
    busy: Vec<Option<Duration>>,
    no_members: usize,
    /// How many have not answered yet.
    outstanding: usize,
}

impl First {
    /// Of so many instances.
    pub(super) fn new(count: usize) -> Self {
        Self {
            outstanding: count,
            ..Self::default()
        }
    }

    /// Another answer; `None` for a failure.
    pub(super) fn add(&mut self, answer: Option<Taken>) {
        self.outstanding -= 1;
        match answer {
            Some(Taken::Mine {
                instance,
                counter,
                sequence,
            }) => {
                self.taken.insert(instance, (counter, sequence));
            }
            Some(Taken::Busy { left }) => self
                .busy
                .push(u64::try_from(left).ok().map(Duration::from_millis)),
            Some(Taken::NoMember) => self.no_members += 1,
            None => {}
        }
    }

    /// On how many the lock is this holder's.
    pub(super) fn taken(&self) -> usize {
        self.taken.len()
    }

    /// On how many it is another's.
    pub(super) fn busy(&self) -> usize {
        self.busy.len()
    }

    /// How many are none of the set.
    pub(super) fn no_members(&self) -> usize {
        self.no_members
    }

    /// Whether further answers make no difference.
    pub(super) fn is_decided(&self, majority: usize) -> bool {
        if self.taken() >= majority {
            // Part of an acquisition of the same holder: the others tell whether it lasts.
            let part = self.taken.values().any(|(_, ballot)| *ballot > 0);
            return !part || self.lasting(majority).is_some();
        }
        let may_be_taken = self.taken() + self.outstanding >= majority;
        let known = self.taken() + self.busy();
        // Busy, out of reach, or not known yet which of the two.
        !may_be_taken && (known >= majority || known + self.outstanding < majority)
    }

    /// The ballot to write: that of an acquisition that lasts, or the next one.
    pub(super) fn ballot(&self, majority: usize, floor: i64) -> Option<Sequence> {
        if let Some(lasting) = self.lasting(majority).filter(|ballot| *ballot >= floor) {
            return Sequence::new(lasting);
        }
        let counted = self.taken.values().map(|(counter, _)| *counter).max()?;
        Sequence::new(counted.max(floor).checked_add(1)?)
    }

    /// The ballot of an acquisition of this holder that lasts: the lock has it on a majority. On fewer it may have
    /// been released.
    fn lasting(&self, majority: usize) -> Option<i64> {
        let ballots = || self.taken.values().map(|(_, ballot)| *ballot);
        let highest = ballots().max().filter(|ballot| *ballot > 0)?;
        (ballots().filter(|ballot| *ballot == highest).count() >= majority).then_some(highest)
    }

    /// When so many locks of others have ended that a majority is free.
    pub(super) fn expires_in(&self, majority: usize) -> Option<Duration> {
        let mut busy = self.busy.clone();
        busy.sort_by_key(|left| left.unwrap_or(Duration::MAX));
        *busy.get(majority.saturating_sub(self.taken() + 1))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(answers: &[Option<Taken>]) -> First {
        let mut first = First::new(3);
        for answer in answers {
            first.add(match answer {
                Some(Taken::Mine {
                    instance,
                    counter,
                    sequence,
                }) => Some(Taken::Mine {
                    instance: instance.clone(),
                    counter: *counter,
                    sequence: *sequence,
                }),
                Some(Taken::Busy { left }) => Some(Taken::Busy { left: *left }),
                Some(Taken::NoMember) => Some(Taken::NoMember),
                None => None,
            });
        }
        first
    }

    fn mine(instance: &str, counter: i64, sequence: i64) -> Option<Taken> {
        Some(Taken::Mine {
            instance: instance.into(),
            counter,
            sequence,
        })
    }

    const BUSY: Option<Taken> = Some(Taken::Busy { left: 70 });

    #[test]
    fn a_majority_decides() {
        for (answers, decided) in [
            (vec![], false),
            (vec![mine("a", 1, 0)], false),
            (vec![mine("a", 1, 0), mine("b", 1, 0)], true),
            (vec![mine("a", 1, 0), mine("a", 1, 0)], false),
            (vec![mine("a", 1, 0), BUSY], false),
            (vec![BUSY, BUSY], true),
            (vec![None, BUSY], false),
            (vec![None, None], true),
            (vec![None, Some(Taken::NoMember)], true),
            (vec![mine("a", 5, 5), mine("b", 5, 0)], false),
            (vec![mine("a", 5, 5), mine("b", 5, 5)], true),
        ] {
            let first = first(&answers);
            assert_eq!(
                first.is_decided(2),
                decided,
                "{} taken, {} busy",
                first.taken(),
                first.busy()
            );
        }
    }

    #[test]
    fn ballots_follow_the_highest_count_and_the_floor() {
        let ballot = |answers: &[Option<Taken>], floor| first(answers).ballot(2, floor).map(Sequence::get);
        assert_eq!(ballot(&[mine("a", 3, 0), mine("b", 7, 0)], 0), Some(8));
        assert_eq!(ballot(&[mine("a", 3, 0), mine("b", 7, 0)], 20), Some(21));
        assert_eq!(ballot(&[mine("a", 3, 0), mine("b", i64::MAX, 0)], 0), None);
        // The same acquisition, whatever the third has counted meanwhile.
        assert_eq!(
            ballot(&[mine("a", 5, 5), mine("b", 5, 5), mine("c", 9, 0)], 5),
            Some(5)
        );
        // Not the same: it was released, or another was sealed since.
        assert_eq!(
            ballot(&[mine("a", 5, 5), mine("b", 5, 0), mine("c", 5, 0)], 0),
            Some(6)
        );
        assert_eq!(ballot(&[mine("a", 5, 5), mine("b", 5, 5)], 6), Some(7));
    }

    #[test]
    fn a_busy_lock_is_free_when_a_majority_is() {
        let left = |answers: &[Option<Taken>]| first(answers).expires_in(2);
        let busy = |left| Some(Taken::Busy { left });
        assert_eq!(
            left(&[busy(30), busy(10), busy(20)]),
            Some(Duration::from_millis(20))
        );
        assert_eq!(
            left(&[busy(30), mine("a", 1, 0)]),
            Some(Duration::from_millis(30))
        );
        assert_eq!(left(&[busy(-1), mine("a", 1, 0)]), None);
    }
}
