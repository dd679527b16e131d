//! Whether a history keeps the promises.
//!
//! Two accounts are held against each other: what clients say that they asked and were answered, and what the database
//! logged in the same transactions as the writes, with the times of their commits.

pub mod linear;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use linear::{Act, Op};

use super::record::{Answer, Call, Event, Number, Place, Value, What};

/// All that is known of a history.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub events: Vec<Event>,
    pub rows: Vec<Row>,
    pub marks: Vec<Mark>,
    /// What the records hold in the end.
    pub last: BTreeMap<Place, Value>,
    /// When that was looked at.
    pub ended: i64,
}

/// A write as the database logged it.
#[derive(Debug, Clone)]
pub struct Row {
    /// In the order in which the rows were locked.
    pub n: i64,
    pub place: Place,
    pub op: String,
    pub was: Option<String>,
    pub under: Number,
    pub transaction: String,
    /// In microseconds since 1970.
    pub committed: i64,
}

/// A mark as the database logged it.
#[derive(Debug, Clone)]
pub struct Mark {
    pub n: i64,
    pub fence: String,
    pub number: Number,
}

#[derive(Debug, Clone)]
pub struct Violation {
    pub promise: Promise,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// Every record's history is linearizable.
    Linearizable,
    /// Nobody writes between a holder's read and its write.
    Atomic,
    /// Accepted tokens and marks never go down, in the order of commits.
    Monotone,
    /// Nothing lands under a token after a higher grant returned, or after its own release did.
    Dead,
    /// What was acknowledged is there, and was before the acknowledgement.
    Durable,
    /// What was refused is not there.
    Refused,
    /// Nothing happens twice.
    Once,
    /// No number is granted twice, and later grants have higher ones.
    Grants,
    /// No renewal succeeds that was asked for after a higher grant had returned, or after the release had.
    Renewals,
    /// A transaction over two fences is done whole, or not at all.
    Whole,
    /// When everything is up again, every fence can be had again.
    Alive,
}

/// An operation with both its ends.
struct Operation<'a> {
    client: &'a str,
    number: u32,
    call: &'a Call,
    asked: i64,
    answer: Option<(&'a Answer, i64)>,
}

impl Operation<'_> {
    fn name(&self) -> String {
        format!("{}-{}", self.client, self.number)
    }

    /// When it was done, if it was said to be.
    fn done(&self) -> Option<i64> {
        match self.answer {
            Some((Answer::Refused(_) | Answer::Unknown(_), _)) | None => None,
            Some((_, at)) => Some(at),
        }
    }

    fn is_refused(&self) -> bool {
        matches!(self.answer, Some((Answer::Refused(_), _)))
    }
}

/// Pairs the ends.
fn operations(events: &[Event]) -> Vec<Operation<'_>> {
    let mut operations: Vec<Operation> = Vec::new();
    let mut places = HashMap::new();
    for event in events {
        let id = (event.client.as_str(), event.number);
        match &event.what {
            What::Asked(call) => {
                places.insert(id, operations.len());
                operations.push(Operation {
                    client: &event.client,
                    number: event.number,
                    call,
                    asked: event.at,
                    answer: None,
                });
            }
            What::Answered(answer) => operations[places[&id]].answer = Some((answer, event.at)),
        }
    }
    operations
}

/// How many operations there are.
pub fn count(events: &[Event]) -> usize {
    let asked = |event: &&Event| matches!(event.what, What::Asked(_));
    events.iter().filter(asked).count()
}

/// Writes that were acknowledged, that were refused, and of which neither is known.
pub fn writes(events: &[Event]) -> (usize, usize, usize) {
    let (mut done, mut refused, mut unknown) = (0, 0, 0);
    for operation in operations(events) {
        if let Call::Write { .. } = operation.call {
            match operation.done() {
                Some(_) => done += 1,
                None if operation.is_refused() => refused += 1,
                None => unknown += 1,
            }
        }
    }
    (done, refused, unknown)
}

/// Updates that were acknowledged and whose effect is gone: what the fence is there to prevent.
pub fn lost_updates(history: &History) -> usize {
    let mut lost = 0;
    for operation in operations(&history.events) {
        if let (Call::Write { cells, .. }, Some(_)) = (operation.call, operation.done()) {
            let gone = |place| {
                let last = history.last.get(place);
                last.is_none_or(|last| !last.list.contains(&operation.name()))
            };
            lost += cells
                .iter()
                .filter(|cell| cell.place.is_computed() && gone(&cell.place))
                .count();
        }
    }
    lost
}

/// Every promise that the history breaks.
pub fn violations(history: &History) -> Vec<Violation> {
    let mut check = Check {
        history,
        operations: operations(&history.events),
        violations: Vec::new(),
    };
    check.records();
    check.holders();
    check.commits();
    check.tokens();
    check.acknowledged();
    check.grants();
    check.renewals();
    check.transfers();
    check.violations
}

struct Check<'a> {
    history: &'a History,
    operations: Vec<Operation<'a>>,
    violations: Vec<Violation>,
}

impl Check<'_> {
    fn broken(&mut self, promise: Promise, text: String) {
        self.violations.push(Violation { promise, text });
    }

    fn places(&self) -> BTreeSet<&Place> {
        self.history.rows.iter().map(|row| &row.place).collect()
    }

    /// Linearizable, as clients see it.
    fn records(&mut self) {
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
    fn holders(&mut self) {
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

    /// Tokens never go down.
    fn commits(&mut self) {
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
    fn tokens(&mut self) {
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

    /// What was said of writes, against what the database logged.
    fn acknowledged(&mut self) {
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

    fn renewals(&mut self) {
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

    fn grants(&mut self) {
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

    /// Both sides of a transfer, in one transaction, and nothing gained by it.
    fn transfers(&mut self) {
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
        let money = |place: &&Place| place.key == super::record::MONEY;
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
