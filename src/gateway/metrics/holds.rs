//! The leases that went through this gateway, as far as it knows: how many live, and how long each was held.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use metrics::Histogram;

use crate::{
    clock::Moment,
    name::FenceName,
    token::{Epoch, Sequence},
};

/// The most that are remembered.
const MOST: usize = 100_000;

/// Forgets a lease once its deadline has passed, even if another replica has renewed it since.
pub(in crate::gateway) struct Holds {
    held_seconds: Histogram,
    known: Mutex<HashMap<FenceName, Hold>>,
}

struct Hold {
    number: (Epoch, Sequence),
    /// When it was granted; `None` if that was not here.
    granted: Option<Moment>,
    deadline: Moment,
}

impl Holds {
    pub(super) fn new(held_seconds: Histogram) -> Self {
        Self {
            held_seconds,
            known: Mutex::default(),
        }
    }

    /// A lease was granted, or granted again to the same holder.
    pub(in crate::gateway) fn granted(&self, fence: &FenceName, number: (Epoch, Sequence), deadline: Moment) {
        self.lasts(fence, number, Some(Moment::now()), deadline);
    }

    pub(in crate::gateway) fn renewed(&self, fence: &FenceName, number: (Epoch, Sequence), deadline: Moment) {
        self.lasts(fence, number, None, deadline);
    }

    fn lasts(&self, fence: &FenceName, number: (Epoch, Sequence), granted: Option<Moment>, deadline: Moment) {
        let mut known = self.known();
        if let Some(hold) = known.get_mut(fence).filter(|hold| hold.number == number) {
            hold.deadline = deadline;
        } else if known.len() < MOST || known.contains_key(fence) {
            let hold = Hold {
                number,
                granted,
                deadline,
            };
            known.insert(fence.clone(), hold);
        }
    }

    /// A lease ended, by its holder's wish or not.
    pub(in crate::gateway) fn ended(&self, fence: &FenceName, number: (Epoch, Sequence), released: bool) {
        let mut known = self.known();
        if known.get(fence).is_none_or(|hold| hold.number != number) {
            return;
        }
        let granted = known.remove(fence).and_then(|hold| hold.granted);
        if let Some(granted) = granted.filter(|_| released) {
            self.held_seconds.record(granted.elapsed());
        }
    }

    /// A fence was freed, whoever held it.
    pub(in crate::gateway) fn freed(&self, fence: &FenceName) {
        self.known().remove(fence);
    }

    pub(super) fn live(&self) -> usize {
        let known = self.known();
        known.values().filter(|hold| !hold.deadline.has_passed()).count()
    }

    pub(super) fn forget(&self) {
        let mut known = self.known();
        known.retain(|_, hold| !hold.deadline.has_passed());
        if known.capacity() > 4 * known.len() + 1024 {
            known.shrink_to_fit();
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<FenceName, Hold>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
