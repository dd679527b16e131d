//! Marks that refusals told of, so that the next stale write of the same kind costs no database at all.
//!
//! Only refusals come from here: a mark that is remembered may be old by now, but within an epoch marks only rise, so a
//! token below it is stale for ever. Across epochs nothing is concluded, and nothing is ever admitted.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{guard::Refusal, name::FenceName, rule::Reason, token::Mark};

/// How many fences are remembered. Beyond it all are forgotten, to be learnt again from the next refusals.
const FENCES: usize = 10_000;

/// The marks.
#[derive(Default)]
pub(super) struct Seen {
    marks: Mutex<HashMap<FenceName, Mark>>,
    /// Whether there is any, since usually nobody is stale.
    any: AtomicBool,
}

impl Seen {
    /// Refuses the token, if it is below a mark of its own epoch that the fence is known to have had.
    pub(super) fn refuse(&self, fence: &FenceName, token: &Mark) -> Option<Refusal> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let mark = *self.marks().get(fence)?;
        let is_stale = token.epoch == mark.epoch && token.sequence < mark.sequence;
        is_stale.then(|| Refusal {
            reason: Reason::Stale,
            fence: fence.clone(),
            presented: *token,
            mark: Some(mark),
        })
    }

    /// Remembers a mark that the database answered with.
    pub(super) fn learn(&self, fence: &FenceName, mark: &Mark) {
        let mut marks = self.marks();
        match marks.get_mut(fence) {
            // Answers may come in another order than that of the marks.
            Some(known) if known.number() > mark.number() => {}
            Some(known) => *known = *mark,
            None => {
                if marks.len() >= FENCES {
                    marks.clear();
                }
                marks.insert(fence.clone(), *mark);
            }
        }
        self.any.store(true, Ordering::Release);
    }

    fn marks(&self) -> MutexGuard<'_, HashMap<FenceName, Mark>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{Epoch, Holder, Sequence};

    fn mark(epoch: i64, sequence: i64) -> Mark {
        Mark {
            epoch: Epoch::new(epoch).unwrap(),
            sequence: Sequence::new(sequence).unwrap(),
            holder: Holder::random().hash(),
        }
    }

    #[test]
    fn refuses_what_is_below_in_the_same_epoch_and_nothing_else() {
        let (seen, fence) = (Seen::default(), "f".parse().unwrap());
        assert!(seen.refuse(&fence, &mark(2, 1)).is_none());
        seen.learn(&fence, &mark(2, 10));
        // An answer that was overtaken.
        seen.learn(&fence, &mark(2, 8));
        let refused = |token| seen.refuse(&fence, &token).map(|refusal| refusal.reason);
        assert_eq!(refused(mark(2, 9)), Some(Reason::Stale));
        for undecided in [mark(2, 10), mark(2, 11), mark(1, 9), mark(1, 11), mark(3, 1)] {
            assert_eq!(refused(undecided), None, "{undecided}");
        }
        assert!(seen.refuse(&"g".parse().unwrap(), &mark(2, 1)).is_none());
        // A rebase: what was known of the old epoch says nothing of the new one.
        seen.learn(&fence, &mark(3, 2));
        assert_eq!(refused(mark(2, 9)), None);
        assert_eq!(refused(mark(3, 1)), Some(Reason::Stale));
    }

    #[test]
    fn is_bounded() {
        let seen = Seen::default();
        for i in 0..3 * FENCES {
            seen.learn(&format!("f{i}").parse().unwrap(), &mark(1, 2));
            assert!(seen.marks().len() <= FENCES);
        }
        let last = format!("f{}", 3 * FENCES - 1).parse().unwrap();
        assert!(seen.refuse(&last, &mark(1, 1)).is_some());
    }
}
