//! Whether a history keeps the promises.
//!
//! Two accounts are held against each other: what clients say that they asked and were answered, and what the database
//! logged in the same transactions as the writes, with the times of their commits.

mod answers;
pub mod linear;
mod operations;
mod records;
#[cfg(test)]
mod tests;
mod tokens;

use std::collections::BTreeMap;

use operations::Operation;
pub use operations::{count, lost_updates, writes};

use super::record::{Event, Number, Place, Value};

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

/// Every promise that the history breaks.
pub fn violations(history: &History) -> Vec<Violation> {
    let mut check = Check {
        history,
        operations: operations::paired(&history.events),
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
}
