//! Records: what clients read, and what holders wrote over.

use std::collections::{BTreeSet, HashMap};

use super::{
    Check, Promise,
    linear::{self, Act, Op},
};
use crate::record::{Answer, Call, Place};

impl Check<'_> {
    fn places(&self) -> BTreeSet<&Place> {
        self.history.rows.iter().map(|row| &row.place).collect()
    }

    /// Linearizable, as clients see it.
    pub(super) fn records(&mut self) {
        let mut places: BTreeSet<&Place> = BTreeSet::new();
        for operation in &self.operations {
            match operation.call {
                Call::Read(place) => drop(places.insert(place)),
                Call::Write { cells, .. } => places.extend(cells.iter().map(|cell| &cell.place)),
                _ => {}
            }
        }
        for place in places {
            let mut numbers: HashMap<&str, u32> = HashMap::new();
            let mut number = |op| {
                let next = numbers.len() as u32 + 1;
                *numbers.entry(op).or_insert(next)
            };
            let (mut ops, mut names) = (Vec::new(), Vec::new());
            for operation in &self.operations {
                let act = match (operation.call, operation.answer) {
                    (Call::Read(of), Some((Answer::Read(seen), _))) if of == place => {
                        Act::Read(seen.as_deref().map_or(0, &mut number))
                    }
                    (Call::Write { cells, .. }, _) if !operation.is_refused() => {
                        match cells.iter().find(|cell| cell.place == *place) {
                            Some(cell) => Act::Write(number(&cell.value.op)),
                            None => continue,
                        }
                    }
                    _ => continue,
                };
                ops.push(Op {
                    asked: operation.asked,
                    answered: operation.done(),
                    act,
                });
                names.push(operation.name());
            }
            let last = self.history.last.get(place);
            let last = last.map_or(0, |last| number(&last.op));
            names.push("the last look".into());
            ops.push(Op {
                asked: self.history.ended,
                answered: Some(self.history.ended),
                act: Act::Read(last),
            });
            let left = linear::unexplained(&ops);
            if !left.is_empty() {
                let left: Vec<&str> = left.iter().map(|i| names[*i].as_str()).collect();
                self.broken(
                    Promise::Linearizable,
                    format!(
                        "{place:?}: no order of its operations explains {}",
                        left.join(", ")
                    ),
                );
            }
        }
    }

    /// What a holder computed was still what was there when it was written.
    pub(super) fn holders(&mut self) {
        for place in self.places().into_iter().cloned().collect::<Vec<_>>() {
            let mut before = None;
            let rows = self.history.rows.iter().filter(|row| row.place == place);
            for row in rows {
                if place.is_computed() && row.was.as_deref() != before {
                    self.broken(
                        Promise::Atomic,
                        format!(
                            "{place:?}: {} was computed from {:?}, and written over {before:?}",
                            row.op, row.was
                        ),
                    );
                }
                before = Some(row.op.as_str());
            }
        }
    }
}
