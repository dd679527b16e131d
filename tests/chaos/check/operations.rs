//! Operations with both their ends, and how many there are of each kind.

use std::collections::HashMap;

use super::History;
use crate::record::{Answer, Call, Event, What};

/// An operation with both its ends.
pub(super) struct Operation<'a> {
    pub(super) client: &'a str,
    pub(super) number: u32,
    pub(super) call: &'a Call,
    pub(super) asked: i64,
    pub(super) answer: Option<(&'a Answer, i64)>,
}

impl Operation<'_> {
    pub(super) fn name(&self) -> String {
        format!("{}-{}", self.client, self.number)
    }

    /// When it was done, if it was said to be.
    pub(super) fn done(&self) -> Option<i64> {
        match self.answer {
            Some((Answer::Refused(_) | Answer::Unknown(_), _)) | None => None,
            Some((_, at)) => Some(at),
        }
    }

    pub(super) fn is_refused(&self) -> bool {
        matches!(self.answer, Some((Answer::Refused(_), _)))
    }
}

/// Pairs the ends.
pub(super) fn paired(events: &[Event]) -> Vec<Operation<'_>> {
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
    for operation in paired(events) {
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
    for operation in paired(&history.events) {
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
