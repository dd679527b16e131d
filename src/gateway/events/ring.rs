//! The last events, in a bounded memory.

use std::{collections::VecDeque, sync::Arc};

use super::Event;

/// How many are remembered.
const LENGTH: usize = 1024;

/// Numbers rise, and need not be without gaps.
#[derive(Default)]
pub(super) struct Ring {
    events: VecDeque<Arc<Event>>,
    /// The highest number that may have been forgotten.
    forgotten: u64,
}

impl Ring {
    pub(super) fn push(&mut self, event: Arc<Event>) {
        if self.events.len() == LENGTH
            && let Some(oldest) = self.events.pop_front()
        {
            self.forgotten = oldest.number;
        }
        self.events.push_back(event);
    }

    /// Gives up all that it remembers.
    pub(super) fn forget(&mut self) {
        self.forgotten = self.events.back().map_or(self.forgotten, |last| last.number);
        self.events = VecDeque::new();
    }

    /// Begins anew: of what has this number or a lower one, some is not known.
    pub(super) fn begin_after(&mut self, number: u64) {
        self.events = VecDeque::new();
        self.forgotten = number;
    }

    /// Whether it knows all after this number.
    pub(super) fn reaches(&self, number: u64) -> bool {
        self.forgotten <= number
    }

    pub(super) fn after(&self, number: u64) -> impl Iterator<Item = Arc<Event>> {
        let from = self.events.partition_point(|event| event.number <= number);
        self.events.range(from..).cloned()
    }
}
