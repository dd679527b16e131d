//! What this process granted, and until when.
//!
//! Leases share sessions, so a session that lives does not mean that each of its leases does. Whoever was granted
//! a lock and does not renew it loses it after its TTL: its znode is removed here. If this process stalls or
//! dies, the session ends, and with it all its znodes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use super::place::Node;
use crate::{
    clock::Moment,
    lock::{Claim, Term},
    name::FenceName,
    token::{HolderHash, Sequence},
};

/// How often the clock that counts suspend is looked at, which timers do not.
const LOOK: Duration = Duration::from_millis(250);

/// The acquisitions that this process granted. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims(Arc<Mutex<State>>);

type Key = (FenceName, HolderHash);

#[derive(Debug, Default)]
struct State {
    granted: HashMap<Key, Granted>,
    /// Those that are asking, so that a holder that asks again meanwhile waits for its own answer.
    asking: HashMap<Key, Arc<tokio::sync::Mutex<()>>>,
    /// Whether somebody waits for what expires next.
    watched: bool,
}

/// An acquisition.
#[derive(Debug, Clone)]
pub(super) struct Granted {
    pub(super) node: Node,
    pub(super) sequence: Sequence,
    pub(super) term: Term,
}

impl Claims {
    /// Waits until nobody else asks for this fence for this holder.
    pub(super) async fn ask(&self, name: &FenceName, holder: HolderHash) -> Asking<'_> {
        let key = (name.clone(), holder);
        let turn = self.state().asking.entry(key.clone()).or_default().clone();
        let mut asking = Asking {
            claims: self,
            key,
            turn: None,
        };
        asking.turn = Some(turn.lock_owned().await);
        asking
    }

    pub(super) fn get(&self, name: &FenceName, holder: HolderHash) -> Option<Granted> {
        let key = (name.clone(), holder);
        let granted = self.state().granted.get(&key).cloned();
        granted.filter(|granted| !granted.term.deadline.has_passed())
    }

    /// The one that a claim names.
    pub(super) fn of(&self, claim: &Claim) -> Option<Granted> {
        self.get(&claim.name, claim.holder)
            .filter(|granted| granted.sequence == claim.sequence)
    }

    pub(super) fn insert(&self, name: &FenceName, holder: HolderHash, granted: Granted) {
        let mut state = self.state();
        state.granted.insert((name.clone(), holder), granted);
        if !state.watched {
            state.watched = true;
            tokio::spawn(self.clone().expire());
        }
    }

    /// Extends an acquisition, unless it has expired meanwhile.
    pub(super) fn extend(&self, claim: &Claim, term: Term) -> bool {
        let key = (claim.name.clone(), claim.holder);
        let mut state = self.state();
        let granted = state
            .granted
            .get_mut(&key)
            .filter(|granted| granted.sequence == claim.sequence);
        let Some(granted) = granted.filter(|granted| !granted.term.deadline.has_passed()) else {
            return false;
        };
        if term.deadline > granted.term.deadline {
            granted.term = term;
        }
        true
    }

    /// Takes an acquisition out, to remove its znode.
    pub(super) fn take(&self, claim: &Claim) -> Option<Granted> {
        let key = (claim.name.clone(), claim.holder);
        let mut state = self.state();
        state
            .granted
            .get(&key)
            .filter(|granted| granted.sequence == claim.sequence)?;
        state.granted.remove(&key)
    }

    /// Removes what expires, until nothing is left. What was granted outlives the lock service by that.
    async fn expire(self) {
        let mut watching = Watching(Some(&self));
        while let Some(next) = self.remove_expired() {
            tokio::time::sleep(next.remaining().min(LOOK)).await;
        }
        watching.0 = None;
    }

    /// When the next one expires; `None` if there is none.
    fn remove_expired(&self) -> Option<Moment> {
        let mut state = self.state();
        for ((name, _), granted) in state
            .granted
            .extract_if(|_, granted| granted.term.deadline.has_passed())
        {
            tracing::debug!(fence = %name, sequence = %granted.sequence, "a lock was not renewed in its time");
            tokio::spawn(granted.node.remove_surely());
        }
        let next = state.granted.values().map(|granted| granted.term.deadline).min();
        state.watched = next.is_some();
        next
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics while it holds the claims")
    }
}

/// Whoever removes what expires. If it ends half way, with its runtime, the next grant has another one do it.
struct Watching<'a>(Option<&'a Claims>);

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        if let Some(claims) = self.0 {
            claims.state().watched = false;
        }
    }
}

/// The right to ask for a fence for a holder.
pub(super) struct Asking<'a> {
    claims: &'a Claims,
    key: Key,
    turn: Option<tokio::sync::OwnedMutexGuard<()>>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut state = self.claims.state();
        self.turn = None;
        // Only the map has it: nobody holds it or waits for it.
        if state
            .asking
            .get(&self.key)
            .is_some_and(|turn| Arc::strong_count(turn) == 1)
        {
            state.asking.remove(&self.key);
        }
    }
}
