//! What a store tells of its work to those who measure it.

use std::{fmt, sync::Arc, time::Duration};

/// A batch of group commit that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Batch {
    /// How many writes were in it.
    pub writes: usize,
    /// How long its statement and its commit took.
    pub took: Duration,
}

/// How busy a store is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Writes that wait for a batch.
    pub queued: usize,
    /// Connections that are in use.
    pub busy: usize,
    /// Connections that are not.
    pub idle: usize,
}

/// Is told of each batch, between two of them: it must not take long.
#[derive(Clone)]
pub struct BatchWatch(Arc<dyn Fn(&Batch) + Send + Sync>);

impl BatchWatch {
    /// Calls this.
    pub fn new(watch: impl Fn(&Batch) + Send + Sync + 'static) -> Self {
        Self(Arc::new(watch))
    }

    /// Tells of a batch.
    pub fn tell(&self, batch: &Batch) {
        (self.0)(batch);
    }
}

impl fmt::Debug for BatchWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BatchWatch")
    }
}
