//! What the log and the metrics say of connections that were not accepted.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::gateway::metrics::{Metrics, NotServed};

/// Not even a spare place was left, or nothing was sent on it.
#[derive(Debug, thiserror::Error)]
#[error("there are too many connections")]
pub(super) struct TooMany;

/// Says which connections were not accepted, in a line a second at most.
pub(in crate::gateway) struct NotAccepted {
    metrics: Arc<Metrics>,
    /// When there last was a line, and how many have had none since.
    said: Mutex<(Option<Instant>, u64)>,
}

impl NotAccepted {
    pub(in crate::gateway) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            said: Mutex::default(),
        }
    }

    pub(in crate::gateway) fn note(&self, error: &io::Error) {
        let too_many = error.get_ref().is_some_and(|inner| inner.is::<TooMany>());
        self.metrics.not_served(match too_many {
            true => NotServed::Closed,
            false => NotServed::Failed,
        });
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, others) = &mut *said;
        if last.is_some_and(|last| last.elapsed() < Duration::from_secs(1)) {
            *others += 1;
            return;
        }
        tracing::warn!(%error, others, "a connection could not be accepted");
        *said = (Some(Instant::now()), 0);
    }
}
