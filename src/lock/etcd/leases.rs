//! etcd leases: which serves which acquisition, and which are free for the next one.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use super::{client::Client, entry::Entry};
use crate::{
    clock::Moment,
    lock::{Claim, LockError, Term, give_back, until_done},
    name::FenceName,
    token::HolderHash,
};

/// An etcd lease.
#[derive(Debug, Clone)]
pub(super) struct EtcdLease {
    pub(super) id: i64,
    /// The TTL that etcd granted: whole seconds, and not below its minimum.
    pub(super) ttl: Duration,
    /// Until when it surely lives.
    pub(super) deadline: Moment,
}

impl EtcdLease {
    /// Whether it has most of its TTL ahead. Were it nearly all, those in busy use would be kept alive all the time.
    pub(super) fn is_fresh(&self) -> bool {
        self.deadline.remaining() >= self.ttl.mul_f64(0.85)
    }

    pub(super) fn term(&self) -> Term {
        Term {
            ttl: self.ttl,
            deadline: self.deadline,
        }
    }
}

/// The etcd leases of this process. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Leases {
    client: Client,
    state: Arc<Mutex<State>>,
}

/// Its holder is part of it: anybody may see the number, and with it alone must neither renew nor release.
type Acquisition = (i64, HolderHash);

#[derive(Debug, Default)]
struct State {
    /// Free ones, by the TTL that was asked for, in whole seconds.
    free: HashMap<u64, Vec<EtcdLease>>,
    /// By fence.
    serving: HashMap<FenceName, HashMap<Acquisition, EtcdLease>>,
    /// Those that are being revoked.
    ending: HashSet<i64>,
    /// When `serving` is next looked through for acquisitions that were never released.
    sweep_at: usize,
}

impl Leases {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            state: Arc::default(),
        }
    }

    /// Takes a lease that has most of its TTL ahead, and serves nothing.
    pub(super) async fn take(&self, name: &FenceName, ttl: Duration) -> Result<Taken, LockError> {
        let lease = self.free_or_new(ttl).await?;
        Ok(Taken {
            leases: self.clone(),
            name: name.clone(),
            lease,
            settled: false,
        })
    }

    async fn free_or_new(&self, ttl: Duration) -> Result<EtcdLease, LockError> {
        loop {
            let free = self.state().free.get_mut(&seconds(ttl)).and_then(Vec::pop);
            let Some(mut lease) = free else {
                return self.grant(ttl).await;
            };
            let left = lease.deadline.remaining();
            if lease.is_fresh() {
                return Ok(lease);
            }
            // One that is nearly over may end while it is being kept alive.
            if left >= lease.ttl / 4 && self.keep_alive(&mut lease).await? {
                return Ok(lease);
            }
        }
    }

    pub(super) async fn grant(&self, ttl: Duration) -> Result<EtcdLease, LockError> {
        let sent = Moment::now();
        let (id, ttl) = self.client.grant(ttl).await?;
        Ok(EtcdLease {
            id,
            ttl,
            deadline: sent + ttl,
        })
    }

    /// Makes a lease last its TTL again; `false` if it is over.
    pub(super) async fn keep_alive(&self, lease: &mut EtcdLease) -> Result<bool, LockError> {
        let sent = Moment::now();
        let alive = self.client.keep_alive(lease.id).await?;
        if alive {
            lease.deadline = sent + lease.ttl;
        }
        Ok(alive)
    }

    /// Keeps a lease for the next acquisition. No key may live by it any more.
    pub(super) fn put_back(&self, lease: EtcdLease) {
        if !lease.deadline.has_passed() {
            let mut state = self.state();
            state.free.entry(seconds(lease.ttl)).or_default().push(lease);
        }
    }

    /// Revokes a lease in the background, and with it whatever key lives by it. Tried until it is done, or the lease
    /// has surely ended by itself.
    pub(super) fn revoke_later(&self, name: &FenceName, id: i64, ttl: Duration) {
        let (leases, name) = (self.clone(), name.clone());
        self.state().ending.insert(id);
        give_back(async move {
            until_done(&name, Moment::now() + ttl, || leases.client.revoke(id)).await;
            leases.state().ending.remove(&id);
        });
    }

    /// Whether a lease is being revoked here, so that its key must not be relied on.
    pub(super) fn is_ending(&self, id: i64) -> bool {
        self.state().ending.contains(&id)
    }

    /// Remembers which lease serves an acquisition.
    pub(super) fn remember(&self, claim: &Claim, lease: EtcdLease) {
        let mut state = self.state();
        let serving = state.serving.entry(claim.name.clone()).or_default();
        serving.insert(acquisition(claim), lease);
        if state.serving.len() > state.sweep_at {
            state.serving.retain(|_, serving| {
                serving.retain(|_, lease| !lease.deadline.has_passed());
                !serving.is_empty()
            });
            state.sweep_at = (state.serving.len() * 2).max(1024);
        }
    }

    pub(super) fn recall(&self, claim: &Claim) -> Option<EtcdLease> {
        let state = self.state();
        state.serving.get(&claim.name)?.get(&acquisition(claim)).cloned()
    }

    pub(super) fn forget(&self, claim: &Claim) {
        let mut state = self.state();
        if let Some(serving) = state.serving.get_mut(&claim.name) {
            serving.remove(&acquisition(claim));
            if serving.is_empty() {
                state.serving.remove(&claim.name);
            }
        }
    }

    /// Whether a key in a fence's queue belongs to an acquisition of this process.
    pub(super) fn is_serving(&self, name: &FenceName, entry: &Entry) -> bool {
        let Some(holder) = entry.holder() else {
            return false;
        };
        let state = self.state();
        let serving = state.serving.get(name);
        serving.is_some_and(|serving| serving.contains_key(&(entry.created, holder)))
    }

    /// Whether somebody in this process holds this fence's lock.
    pub(super) fn is_held(&self, name: &FenceName) -> bool {
        let state = self.state();
        let serving = state.serving.get(name);
        serving.is_some_and(|serving| serving.values().any(|lease| !lease.deadline.has_passed()))
    }

    pub(super) fn serves(&self, claim: &Claim, lease: i64) -> bool {
        self.recall(claim).is_some_and(|serving| serving.id == lease)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics while it holds the leases")
    }
}

/// A lease that was taken for an acquisition under way. Whatever that has done is under the lease, so if it fails or is
/// dropped, revoking the lease takes it all back.
#[derive(Debug)]
pub(super) struct Taken {
    leases: Leases,
    name: FenceName,
    pub(super) lease: EtcdLease,
    settled: bool,
}

impl Taken {
    /// It serves an acquisition from now on.
    pub(super) fn serves(&mut self) {
        self.settled = true;
    }

    /// It serves nothing after all, and no key lives by it.
    pub(super) fn put_back(mut self) {
        self.settled = true;
        self.leases.put_back(self.lease.clone());
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if !self.settled {
            self.leases
                .revoke_later(&self.name, self.lease.id, self.lease.ttl);
        }
    }
}

fn acquisition(claim: &Claim) -> Acquisition {
    (claim.sequence.get(), claim.holder)
}

fn seconds(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis().div_ceil(1000)).unwrap_or(u64::MAX)
}
