//! Answers: what clients were told of their writes, against what the database logged.

use std::collections::{BTreeSet, HashMap};

use super::{Check, Promise};
use crate::record::{Call, MONEY, Place};

impl Check<'_> {
    /// What was said of writes, against what the database logged.
    pub(super) fn acknowledged(&mut self) {
        let mut broken = Vec::new();
        let mut asked = HashMap::new();
        for operation in &self.operations {
            let Call::Write { cells, under } = operation.call else {
                continue;
            };
            for cell in cells {
                let (place, name) = (&cell.place, operation.name());
                let under = under.iter().find(|(fence, _)| *fence == place.fence);
                asked.insert((place, cell.value.op.as_str()), under.map(|under| under.1));
                let mut rows = self.history.rows.iter();
                let row = rows.find(|row| row.place == *place && row.op == cell.value.op);
                let last = self.history.last.get(place);
                match (operation.done(), row) {
                    (Some(_), None) => broken.push((
                        Promise::Durable,
                        format!("{place:?}: {name} was acknowledged and is not there"),
                    )),
                    (Some(at), Some(row)) if row.committed > at => broken.push((
                        Promise::Durable,
                        format!(
                            "{place:?}: {name} was acknowledged at {at} and committed at {}",
                            row.committed
                        ),
                    )),
                    (None, Some(_)) if operation.is_refused() => broken.push((
                        Promise::Refused,
                        format!(
                            "{place:?}: {name} was refused ({:?}) and is there",
                            operation.answer
                        ),
                    )),
                    _ => {}
                }
                let in_last = last.is_some_and(|last| last.list.contains(&cell.value.op));
                if operation.done().is_some() && place.is_computed() && !in_last {
                    broken.push((
                        Promise::Durable,
                        format!("{place:?}: {name} was acknowledged and overwritten unseen"),
                    ));
                }
            }
        }
        let mut seen = BTreeSet::new();
        for row in &self.history.rows {
            if !seen.insert((&row.place, &row.op)) {
                broken.push((
                    Promise::Once,
                    format!("{:?}: {} happened twice", row.place, row.op),
                ));
            }
            let text = match asked.get(&(&row.place, row.op.as_str())) {
                None => "nobody asked for it",
                Some(Some(under)) if *under == row.under => continue,
                Some(_) => "it was to be written under another token",
            };
            broken.push((Promise::Once, format!("{:?}: {}: {text}", row.place, row.op)));
        }
        for (promise, text) in broken {
            self.broken(promise, text);
        }
    }

    /// Both sides of a transfer, in one transaction, and nothing gained by it.
    pub(super) fn transfers(&mut self) {
        let mut broken = Vec::new();
        for operation in &self.operations {
            if let Call::Write { cells, .. } = operation.call
                && cells.len() > 1
            {
                let op = &cells[0].value.op;
                let rows = self.history.rows.iter().filter(|row| row.op == *op);
                let transactions: BTreeSet<_> = rows.clone().map(|row| &row.transaction).collect();
                let there = rows.count();
                if there != 0 && (there != cells.len() || transactions.len() > 1) {
                    broken.push(format!(
                        "{op}: {there} of {} writes are there, in {transactions:?}",
                        cells.len()
                    ));
                }
            }
        }
        let money = |place: &&Place| place.key == MONEY;
        let accounts = self.history.last.keys().filter(money);
        let sum: i64 = accounts.map(|place| self.history.last[place].n).sum();
        if sum != 0 {
            broken.push(format!("the accounts add up to {sum}, not to 0"));
        }
        for text in broken {
            self.broken(Promise::Whole, text);
        }
    }
}
