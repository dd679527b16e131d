//! The line of those in this process who wait for the same fence.
//!
//! Only the first in a line has a key in etcd's queue, so a lock costs etcd the same whether one or a thousand wait
//! for it here, and other processes, which have a key each too, are not starved. A release in this process
//! sees, in the transaction that deletes its key, who is first in the queue then; if that is the first in line, it is
//! told at once.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

use super::queue::Queue;
use crate::name::FenceName;

/// The lines of all fences that somebody here waits for. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Lines(Arc<Mutex<HashMap<FenceName, Arc<Line>>>>);

/// The line of one fence.
#[derive(Debug)]
pub(super) struct Line {
    /// Held by the first in line until it has the lock; the others queue for it in order.
    pub(super) first: tokio::sync::Mutex<()>,
    /// The last release in this process.
    released: watch::Sender<Option<Release>>,
    waiting: AtomicU64,
}

/// A release in this process, and the queue as it left it.
#[derive(Debug, Clone)]
pub(super) struct Release {
    /// The create revision of the key that was deleted.
    pub(super) deleted: i64,
    /// The queue behind it: the owner and the identity.
    pub(super) queue: Queue,
}

/// A place in a line. A line goes when nobody is in it any more.
pub(super) struct Place {
    lines: Lines,
    name: FenceName,
    line: Arc<Line>,
}

impl Lines {
    /// Joins the line of this fence.
    pub(super) fn join(&self, name: &FenceName) -> Place {
        let mut lines = self.lines();
        let line = lines.entry(name.clone()).or_insert_with(|| {
            let first = tokio::sync::Mutex::new(());
            Arc::new(Line {
                first,
                released: watch::Sender::new(None),
                waiting: AtomicU64::new(0),
            })
        });
        line.waiting.fetch_add(1, Ordering::Relaxed);
        Place {
            lines: self.clone(),
            name: name.clone(),
            line: line.clone(),
        }
    }

    /// The line of this fence, if anybody is in it.
    pub(super) fn get(&self, name: &FenceName) -> Option<Arc<Line>> {
        self.lines().get(name).cloned()
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<FenceName, Arc<Line>>> {
        self.0.lock().expect("nothing panics while it holds the lines")
    }
}

impl Line {
    /// Tells the first in line of a release.
    pub(super) fn tell(&self, release: Release) {
        self.released.send_replace(Some(release));
    }

    /// What is told from now on.
    pub(super) fn listen(&self) -> watch::Receiver<Option<Release>> {
        self.released.subscribe()
    }

    /// How many are in it behind the first one, who has a key in etcd.
    pub(super) fn behind_the_first(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed).saturating_sub(1)
    }
}

impl std::ops::Deref for Place {
    type Target = Line;

    fn deref(&self) -> &Line {
        &self.line
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lines = self.lines.lines();
        if self.line.waiting.fetch_sub(1, Ordering::Relaxed) == 1 {
            lines.remove(&self.name);
        }
    }
}
