//! etcd leases: which serves which acquisition, and which are free for the next one.

use std::{
    collections::{HashMap, HashSet, VecDeque},
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
    /// The TTL that was asked for, in whole seconds.
    pub(super) asked: u64,
    /// Whether a put under it may still be on its way, so that it must serve nothing else.
    pub(super) doubtful: bool,
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
    free: HashMap<u64, VecDeque<EtcdLease>>,
    /// By fence.
    serving: HashMap<FenceName, Serving>,
    /// Those that are being revoked.
    ending: HashSet<i64>,
    /// When `serving` is next looked through for acquisitions that were never released.
    sweep_at: usize,
}

/// Those that serve one fence: the one that holds it, and those that were never released here.
#[derive(Debug, Default)]
struct Serving {
    leases: HashMap<Acquisition, EtcdLease>,
    /// When they are next looked through.
    sweep_at: usize,
}

impl Serving {
    fn sweep(&mut self) {
        self.leases.retain(|_, lease| !lease.deadline.has_passed());
        self.sweep_at = (self.leases.len() * 2).max(16);
    }
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
            let free = self
                .state()
                .free
                .get_mut(&seconds(ttl))
                .and_then(VecDeque::pop_back);
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
        let (id, granted) = self.client.grant(ttl).await?;
        Ok(EtcdLease {
            id,
            ttl: granted,
            asked: seconds(ttl),
            doubtful: false,
            deadline: sent + granted,
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
    pub(super) fn put_back(&self, name: &FenceName, lease: EtcdLease) {
        if lease.doubtful {
            self.revoke_later(name, lease.id, lease.ttl);
        } else if !lease.deadline.has_passed() {
            let mut state = self.state();
            let free = state.free.entry(lease.asked).or_default();
            // The last are used first, so the first are the oldest.
            while free.front().is_some_and(|lease| lease.deadline.has_passed()) {
                free.pop_front();
            }
            free.push_back(lease);
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
        serving.leases.insert(acquisition(claim), lease);
        if serving.leases.len() > serving.sweep_at {
            serving.sweep();
        }
        if state.serving.len() > state.sweep_at {
            state.serving.retain(|_, serving| {
                serving.sweep();
                !serving.leases.is_empty()
            });
            state.sweep_at = (state.serving.len() * 2).max(1024);
        }
    }

    pub(super) fn recall(&self, claim: &Claim) -> Option<EtcdLease> {
        let state = self.state();
        let serving = state.serving.get(&claim.name)?;
        serving.leases.get(&acquisition(claim)).cloned()
    }

    pub(super) fn forget(&self, claim: &Claim) {
        let mut state = self.state();
        if let Some(serving) = state.serving.get_mut(&claim.name) {
            serving.leases.remove(&acquisition(claim));
            if serving.leases.is_empty() {
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
        serving.is_some_and(|serving| serving.leases.contains_key(&(entry.created, holder)))
    }

    /// Whether somebody in this process holds this fence's lock.
    pub(super) fn is_held(&self, name: &FenceName) -> bool {
        let state = self.state();
        let serving = state.serving.get(name);
        serving.is_some_and(|serving| {
            let mut leases = serving.leases.values();
            leases.any(|lease| !lease.deadline.has_passed())
        })
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
        self.leases.put_back(&self.name, self.lease.clone());
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

/// A TTL as etcd is asked for it.
pub(super) fn seconds(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis().div_ceil(1000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{Holder, Sequence};

    /// What other gateways released for us is not heard of here.
    #[tokio::test]
    async fn what_is_over_is_not_remembered() {
        let leases = Leases::new(Client::connect("etcd://localhost").await.unwrap());
        let name: FenceName = "f".parse().unwrap();
        let mut claim = Claim {
            name: name.clone(),
            sequence: Sequence::new(1).unwrap(),
            holder: Holder::random().hash(),
        };
        let mut lease = EtcdLease {
            id: 1,
            ttl: Duration::from_secs(1),
            asked: 1,
            doubtful: false,
            deadline: Moment::now(),
        };
        for number in 1..=100_000 {
            claim.sequence = Sequence::new(number).unwrap();
            leases.remember(&claim, lease.clone());
        }
        lease.deadline = Moment::now() + Duration::from_secs(600);
        claim.sequence = Sequence::new(100_001).unwrap();
        leases.remember(&claim, lease);
        assert!(leases.state().serving[&name].leases.len() < 100);
        assert!(leases.is_held(&name), "what is not over is");
    }
}
