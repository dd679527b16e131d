//! Tokens: their order, and when they are over.

use super::{Check, Mark, Promise, Row};
use crate::record::{Answer, Call};

impl Check<'_> {
    /// Tokens never go down.
    pub(super) fn commits(&mut self) {
        let mut rows: Vec<&Row> = self.history.rows.iter().collect();
        rows.sort_by_key(|row| (&row.place.fence, row.committed, row.n));
        for pair in rows.windows(2) {
            let [first, then] = [pair[0], pair[1]];
            if first.place.fence == then.place.fence && first.under > then.under {
                self.broken(
                    Promise::Monotone,
                    format!(
                        "{} wrote under {:?} after {} under {:?}",
                        then.op, then.under, first.op, first.under
                    ),
                );
            }
        }
        let mut marks: Vec<&Mark> = self.history.marks.iter().collect();
        marks.sort_by_key(|mark| (&mark.fence, mark.n));
        for pair in marks.windows(2) {
            let [first, then] = [pair[0], pair[1]];
            if first.fence == then.fence && first.number > then.number {
                self.broken(
                    Promise::Monotone,
                    format!(
                        "the mark of {} went from {:?} to {:?}",
                        first.fence, first.number, then.number
                    ),
                );
            }
        }
    }

    /// Nothing lands under a token that is over.
    pub(super) fn tokens(&mut self) {
        let mut broken = Vec::new();
        for operation in &self.operations {
            let Some(at) = operation.done() else { continue };
            let over: Vec<_> = match (operation.call, operation.answer) {
                (_, Some((Answer::Granted(granted), _))) => granted
                    .iter()
                    .map(|(fence, number)| (fence, *number, false))
                    .collect(),
                (Call::Release(released), _) => released
                    .iter()
                    .map(|(fence, number)| (fence, *number, true))
                    .collect(),
                _ => continue,
            };
            for (fence, number, itself) in over {
                let late = self.history.rows.iter().filter(|row| {
                    let dead = row.under < number || itself && row.under == number;
                    row.place.fence == *fence && dead && row.committed > at
                });
                for row in late {
                    broken.push(format!(
                        "{} wrote under {:?} at {}, after {} had {number:?} {} at {at}",
                        row.op,
                        row.under,
                        row.committed,
                        operation.name(),
                        if itself { "released" } else { "granted" },
                    ));
                }
            }
        }
        for text in broken {
            self.broken(Promise::Dead, text);
        }
    }

    /// No renewal comes after its end.
    pub(super) fn renewals(&mut self) {
        let mut broken = Vec::new();
        for renewal in &self.operations {
            let (Call::Renew(fence, number), Some(_)) = (renewal.call, renewal.done()) else {
                continue;
            };
            for other in &self.operations {
                let over = match (other.call, other.answer) {
                    (_, Some((Answer::Granted(granted), _))) => {
                        granted.iter().any(|(of, higher)| of == fence && higher > number)
                    }
                    (Call::Release(released), _) => {
                        released.iter().any(|(of, same)| of == fence && same == number)
                    }
                    _ => false,
                };
                if over && other.done().is_some_and(|done| done < renewal.asked) {
                    broken.push(format!(
                        "{fence}: {} renewed {number:?} after {} had returned",
                        renewal.name(),
                        other.name()
                    ));
                }
            }
        }
        for text in broken {
            self.broken(Promise::Renewals, text);
        }
    }

    /// No number twice, and later ones are higher.
    pub(super) fn grants(&mut self) {
        let mut grants = Vec::new();
        for operation in &self.operations {
            if let Some((Answer::Granted(granted), at)) = operation.answer {
                let each = granted.iter();
                grants.extend(each.map(|(fence, number)| (fence, *number, operation, at)));
            }
        }
        let mut broken = Vec::new();
        for (i, (fence, number, first, returned)) in grants.iter().enumerate() {
            for (other_fence, other, then, _) in &grants {
                if fence == other_fence && then.asked > *returned && number >= other {
                    broken.push(format!(
                        "{fence}: {} was granted {other:?} after {} had {number:?}",
                        then.name(),
                        first.name()
                    ));
                }
            }
            let same = grants[i + 1..]
                .iter()
                .filter(|then| (then.0, then.1) == (fence, *number));
            for then in same {
                broken.push(format!(
                    "{fence}: {number:?} was granted to {} and to {}",
                    first.name(),
                    then.2.name()
                ));
            }
        }
        for text in broken {
            self.broken(Promise::Grants, text);
        }
    }
}
