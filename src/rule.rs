//! The rule that decides whether a token may write. Pure, and everything else is plumbing.
//!
//! The SQLite store calls it; Postgres has it once more in SQL (`fencegate.verdict`), held equal by a test over
//! every case of a small domain.

use std::cmp::Ordering;

use crate::token::Mark;

/// What the rule says of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The token is the mark: it may write.
    Admit,
    /// The token is newer than the mark and confirmed: raise the mark to it, then it may write.
    Seal,
    /// It may not write.
    Refuse(Reason),
}

/// Why a token may not write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The mark is higher: a newer holder has been granted the fence.
    Stale,
    /// The mark has the same number and another holder: the token was released, or the lock service gave one
    /// number to two holders.
    HolderMismatch,
    /// The token is higher than the mark and nothing confirms it.
    Unsealed,
}

impl Reason {
    /// The reason of this name.
    #[cfg(feature = "postgres")]
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Stale, Self::HolderMismatch, Self::Unsealed];
        all.into_iter().find(|reason| reason.as_str() == name)
    }

    /// The name in answers, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::HolderMismatch => "holder-mismatch",
            Self::Unsealed => "unsealed",
        }
    }
}

/// Decides. `mark` is what the fence remembers, `None` if it was never shown a token; `confirmed` says that the
/// token comes from a grant, or that the lock service names it as the live holder's now.
pub fn admit(mark: Option<&Mark>, token: &Mark, confirmed: bool) -> Verdict {
    let order = mark.map_or(Ordering::Less, |mark| mark.number().cmp(&token.number()));
    match order {
        Ordering::Equal if mark == Some(token) => Verdict::Admit,
        Ordering::Equal => Verdict::Refuse(Reason::HolderMismatch),
        Ordering::Greater => Verdict::Refuse(Reason::Stale),
        Ordering::Less if confirmed => Verdict::Seal,
        Ordering::Less => Verdict::Refuse(Reason::Unsealed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::token::{Epoch, Sequence};

    fn mark(epoch: i64, sequence: i64, holder: u8) -> Mark {
        Mark {
            epoch: Epoch::new(epoch).unwrap(),
            sequence: Sequence::new(sequence).unwrap(),
            holder: [holder; 32].into(),
        }
    }

    #[test]
    fn says_what_the_table_says() {
        let at = mark(2, 10, 1);
        for (token, confirmed, expected) in [
            (mark(2, 10, 1), false, Verdict::Admit),
            (mark(2, 10, 1), true, Verdict::Admit),
            (mark(2, 10, 2), false, Verdict::Refuse(Reason::HolderMismatch)),
            (mark(2, 10, 2), true, Verdict::Refuse(Reason::HolderMismatch)),
            (mark(2, 9, 1), true, Verdict::Refuse(Reason::Stale)),
            (mark(1, 11, 1), true, Verdict::Refuse(Reason::Stale)),
            (mark(1, 10, 1), true, Verdict::Refuse(Reason::Stale)),
            (mark(2, 11, 1), false, Verdict::Refuse(Reason::Unsealed)),
            (mark(2, i64::MAX, 1), false, Verdict::Refuse(Reason::Unsealed)),
            (mark(3, 1, 1), false, Verdict::Refuse(Reason::Unsealed)),
            (mark(2, 11, 1), true, Verdict::Seal),
            (mark(3, 1, 2), true, Verdict::Seal),
        ] {
            assert_eq!(
                admit(Some(&at), &token, confirmed),
                expected,
                "{token} {confirmed}"
            );
        }
        assert_eq!(admit(None, &at, false), Verdict::Refuse(Reason::Unsealed));
        assert_eq!(admit(None, &at, true), Verdict::Seal);
    }

    #[test]
    fn reasons_have_the_names_that_answers_and_sql_have() {
        for (reason, name) in [
            (Reason::Stale, "stale"),
            (Reason::HolderMismatch, "holder-mismatch"),
            (Reason::Unsealed, "unsealed"),
        ] {
            assert_eq!(reason.as_str(), name);
            #[cfg(feature = "postgres")]
            assert_eq!(Reason::from_name(name), Some(reason));
        }
        #[cfg(feature = "postgres")]
        assert_eq!(Reason::from_name("admit"), None);
    }

    fn marks() -> impl Strategy<Value = Mark> {
        (1i64..4, 1i64..4, 0u8..3).prop_map(|(e, s, h)| mark(e, s, h))
    }

    proptest! {
        /// However tokens arrive, the ones that wrote never go down, one number is written by one holder only,
        /// and nothing unconfirmed moves the mark.
        #[test]
        fn accepted_tokens_never_go_down(shown in proptest::collection::vec((marks(), any::<bool>()), 0..40)) {
            let mut at: Option<Mark> = None;
            let mut accepted: Vec<Mark> = Vec::new();
            for (token, confirmed) in shown {
                match admit(at.as_ref(), &token, confirmed) {
                    Verdict::Admit => accepted.push(token),
                    Verdict::Seal => {
                        prop_assert!(confirmed);
                        at = Some(token);
                        accepted.push(token);
                    }
                    Verdict::Refuse(_) => {}
                }
            }
            for pair in accepted.windows(2) {
                prop_assert!(pair[0].number() <= pair[1].number());
                prop_assert!(pair[0].number() != pair[1].number() || pair[0].holder == pair[1].holder);
            }
        }
    }
}
