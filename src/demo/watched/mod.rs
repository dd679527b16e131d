//! The lock service and the store, with somebody who writes down what happens there.

mod lock;
mod store;

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use fencegate::{FenceName, LockService, lock::Claim};
use tokio::sync::watch;

pub(super) use self::{lock::WatchedLocks, store::WatchedStore};
use super::event::{Happening, Reporter, Who};

/// How often the lock service is asked whether it still has a lock.
const LOOK: Duration = Duration::from_millis(20);

/// Who has the lock, as far as is known. Shared by all who watch.
#[derive(Debug, Clone, Default)]
pub(super) struct Holding(Arc<Mutex<Option<(Who, Claim)>>>);

impl Holding {
    fn now(&self) -> MutexGuard<'_, Option<(Who, Claim)>> {
        self.0.lock().expect("nothing panics while it holds this")
    }

    /// The present holder's acquisition.
    pub(super) fn claim(&self) -> Option<Claim> {
        self.now().as_ref().map(|(_, claim)| claim.clone())
    }

    fn granted(&self, reporter: &Reporter, to: Who, claim: &Claim) {
        let mut now = self.now();
        let before = now.replace((to, claim.clone()));
        // Two never have it at the same time: it is over for one before the next one gets it.
        if let Some((of, before)) = before
            && before != *claim
        {
            reporter.note(Who::Lock, Happening::Over { of });
        }
        let sequence = claim.sequence.to_string();
        reporter.note(Who::Lock, Happening::Locked { to, sequence });
    }

    fn ended(&self, claim: &Claim, tell: impl FnOnce(Who)) {
        let mut now = self.now();
        if let Some((of, _)) = now.take_if(|(_, held)| held == claim) {
            tell(of);
        }
    }

    /// Asks the lock service again and again whether the holder's lock is still there.
    pub(super) async fn watch(self, service: Arc<dyn LockService>, fence: FenceName, reporter: Reporter) {
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(claim) = self.claim() else { continue };
            // What cannot be asked now can be asked later.
            let Ok(seen) = service.inspect(&fence).await else {
                continue;
            };
            let still = seen
                .holder
                .is_some_and(|live| live.sequence == claim.sequence && live.holder == Some(claim.holder));
            if !still {
                self.ended(&claim, |of| reporter.note(Who::Lock, Happening::Over { of }));
            }
        }
    }
}

/// A point at which a grant can be held up, for a story that needs two things to meet. Clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    is_open: Arc<watch::Sender<bool>>,
    reached: Arc<watch::Sender<bool>>,
}

impl Gate {
    /// One that holds up nobody yet.
    pub(super) fn open() -> Self {
        Self {
            is_open: Arc::new(watch::Sender::new(true)),
            reached: Arc::default(),
        }
    }

    /// Holds up everybody from now on.
    pub(super) fn lock(&self) {
        self.is_open.send_replace(false);
    }

    /// Lets everybody pass again.
    pub(super) fn unlock(&self) {
        self.is_open.send_replace(true);
    }

    /// Waits until somebody is here, or was.
    pub(super) async fn reached(&self) {
        // The sender is here, so it cannot fail.
        let _ = self.reached.subscribe().wait_for(|reached| *reached).await;
    }

    async fn pass(&self) {
        self.reached.send_replace(true);
        let _ = self.is_open.subscribe().wait_for(|open| *open).await;
    }
}
