//! Whether a record's history is linearizable: whether its operations can be put into one order that none of their
//! times contradicts, and in which every read finds what was written last. The search is Wing and Gong's, with Lowe's
//! memory of what was tried.

use std::collections::HashSet;

/// An operation on one record. Values are numbers, each of which is written once; 0 is that there is no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Op {
    pub asked: i64,
    /// None: it may take effect at any later time, or never.
    pub answered: Option<i64>,
    pub act: Act,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Write(u32),
    Read(u32),
}

/// The places of the operations that no order explains: those that are left when as many as possible are explained.
/// Empty where all are.
pub fn unexplained(ops: &[Op]) -> Vec<usize> {
    // A read without an answer says nothing.
    let looked_at = |op: &&Op| op.answered.is_some() || matches!(op.act, Act::Write(_));
    let places: Vec<usize> = (0..ops.len()).filter(|i| looked_at(&&ops[*i])).collect();
    let ops: Vec<Op> = places.iter().map(|i| ops[*i]).collect();
    let mut search = Search {
        done: vec![false; ops.len()],
        tried: HashSet::new(),
        best: (0..ops.len()).filter(|i| ops[*i].answered.is_some()).collect(),
        ops,
    };
    if search.explains(0) {
        return Vec::new();
    }
    search.best.into_iter().map(|i| places[i]).collect()
}

struct Search {
    ops: Vec<Op>,
    done: Vec<bool>,
    tried: HashSet<(Vec<bool>, u32)>,
    best: Vec<usize>,
}

impl Search {
    fn explains(&mut self, value: u32) -> bool {
        let left = || (0..self.ops.len()).filter(|i| !self.done[*i]);
        let answered: Vec<usize> = left().filter(|i| self.ops[*i].answered.is_some()).collect();
        // Nothing that was asked after this can be next.
        let Some(end) = answered.iter().filter_map(|i| self.ops[*i].answered).min() else {
            return true;
        };
        let mut next: Vec<usize> = left().filter(|i| self.ops[*i].asked <= end).collect();
        if answered.len() < self.best.len() {
            self.best = answered;
        }
        // What was answered first is most likely to have been first.
        next.sort_by_key(|i| self.ops[*i].answered.unwrap_or(i64::MAX));
        for i in next {
            let after = match self.ops[i].act {
                Act::Write(written) => written,
                Act::Read(seen) if seen == value => value,
                Act::Read(_) => continue,
            };
            self.done[i] = true;
            if self.tried.insert((self.done.clone(), after)) && self.explains(after) {
                return true;
            }
            self.done[i] = false;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stateright::semantics::{ConsistencyTester, LinearizabilityTester, register::*};

    use super::*;

    fn op(asked: i64, answered: impl Into<Option<i64>>, act: Act) -> Op {
        Op {
            asked,
            answered: answered.into(),
            act,
        }
    }
    use Act::{Read, Write};

    #[test]
    fn good_ones_are_explained() {
        for good in [
            vec![],
            vec![op(0, 1, Read(0)), op(2, 3, Write(1)), op(4, 5, Read(1))],
            // At the same time, either order.
            vec![op(0, 9, Write(1)), op(1, 2, Read(1)), op(3, 4, Read(1))],
            vec![op(0, 9, Write(1)), op(1, 2, Read(0)), op(3, 4, Read(1))],
            // One without an answer happened late, early, or never.
            vec![op(0, None, Write(1)), op(1, 2, Read(0)), op(90, 91, Read(1))],
            vec![op(0, None, Write(1)), op(1, 2, Read(1))],
            vec![op(0, None, Write(1)), op(1, 2, Write(2)), op(3, 4, Read(2))],
            vec![op(0, None, Write(1)), op(1, 2, Write(2)), op(3, 4, Read(1))],
            vec![op(0, None, Read(7))],
        ] {
            assert_eq!(unexplained(&good), Vec::<usize>::new(), "{good:?}");
        }
    }

    #[test]
    fn bad_ones_are_not() {
        for bad in [
            // Nobody wrote it.
            vec![op(0, 1, Read(1))],
            // Lost.
            vec![op(0, 1, Write(1)), op(2, 3, Read(0))],
            // Back in time.
            vec![op(0, 9, Write(1)), op(1, 2, Read(1)), op(3, 4, Read(0))],
            vec![
                op(0, 1, Write(1)),
                op(2, 3, Write(2)),
                op(4, 5, Read(2)),
                op(6, 7, Read(1)),
            ],
            // It happened once, late or early, not both.
            vec![
                op(0, None, Write(1)),
                op(1, 2, Read(1)),
                op(3, 4, Write(2)),
                op(5, 6, Read(2)),
                op(7, 8, Read(1)),
            ],
            // Before it was asked for.
            vec![op(0, 1, Read(1)), op(2, 3, Write(1))],
        ] {
            assert_ne!(unexplained(&bad), Vec::<usize>::new(), "{bad:?}");
        }
    }

    /// Histories of a few clients, each of which asks once it was answered, or never was.
    fn histories() -> impl Strategy<Value = Vec<(usize, Op)>> {
        let act = (any::<bool>(), 0..4_u32, any::<bool>(), 0..40_i64, 1..12_i64);
        prop::collection::vec((0..3_usize, act), 1..8).prop_map(|steps| {
            let (mut busy, mut gone, mut ops) = ([0; 3], [false; 3], Vec::new());
            let mut written = 0;
            for (client, (is_write, value, is_open, pause, length)) in steps {
                if gone[client] {
                    continue;
                }
                let asked = busy[client] + 1 + pause % 8;
                let act = match is_write {
                    true => {
                        written += 1;
                        Write(written)
                    }
                    false => Read(value),
                };
                let is_open = is_open && length > 8;
                gone[client] = is_open;
                busy[client] = asked + length;
                let answered = (!is_open).then_some(asked + length);
                ops.push((client, op(asked, answered, act)));
            }
            ops
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Against another implementation.
        #[test]
        fn agrees_with_stateright(history in histories()) {
            let mut ends = Vec::new();
            for (client, op) in &history {
                // At one moment, what is asked is asked before what is answered: they overlap.
                ends.push((op.asked, 0, *client, op.act));
                if let Some(answered) = op.answered {
                    ends.push((answered, 1, *client, op.act));
                }
            }
            ends.sort_by_key(|end| (end.0, end.1));
            let mut tester = LinearizabilityTester::new(Register(0_u32));
            for (_, end, client, act) in ends {
                let _ = match (end, act) {
                    (0, Write(value)) => tester.on_invoke(client, RegisterOp::Write(value)),
                    (0, Read(_)) => tester.on_invoke(client, RegisterOp::Read),
                    (_, Write(_)) => tester.on_return(client, RegisterRet::WriteOk),
                    (_, Read(value)) => tester.on_return(client, RegisterRet::ReadOk(value)),
                }.unwrap();
            }
            let ops: Vec<Op> = history.iter().map(|(_, op)| *op).collect();
            prop_assert_eq!(unexplained(&ops).is_empty(), tester.is_consistent());
        }
    }
}
