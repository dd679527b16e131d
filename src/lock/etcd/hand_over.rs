//! Handing a lock on within this process: one transaction deletes the holder's key and puts the next one's.

use etcd_client::{Compare, CompareOp, Txn, TxnOp, TxnOpResponse};

use super::{
    EtcdLocks,
    client::Client,
    entry::{Entry, Value},
    leases::{EtcdLease, Leases, Taken},
    queue::{Queue, put},
    relay::{Release, Taker},
};
use crate::lock::{Claim, Held, LockError};

/// A lock on its way from one holder in this process to the next. Given back if it never arrives.
#[derive(Debug)]
pub(super) struct Handed {
    leases: Leases,
    taken: Taken,
    held: Option<Held>,
}

impl Handed {
    fn new(leases: &Leases, taken: Taken, held: Held) -> Self {
        leases.remember(&held.claim, taken.lease.clone());
        Self {
            leases: leases.clone(),
            taken,
            held: Some(held),
        }
    }

    /// It has arrived.
    pub(super) fn accept(mut self) -> Held {
        self.taken.serves();
        self.held.take().expect("it is taken once")
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if let Some(held) = &self.held {
            self.leases.forget(&held.claim);
        }
    }
}

impl EtcdLocks {
    /// Releases what was acquired here, and calls whoever is next in this process.
    pub(super) async fn pass_on(&self, claim: &Claim, lease: EtcdLease) -> Result<(), LockError> {
        let relay = self.relays.get(&claim.name);
        let handed = match relay.as_ref().and_then(|relay| relay.next_taker()) {
            Some(taker) => match self.hand_over(claim, &lease, taker).await {
                Err(error) if !Client::may_delete(&error) => return Err(error),
                handed => handed.ok(),
            },
            None => None,
        };
        let left = match (handed, relay) {
            (Some(left), _) => left,
            (None, Some(_)) => self.leave_and_tell(claim, &lease).await?,
            (None, None) => {
                let left = self.leave(&claim.name, lease.id, claim.sequence.get()).await?;
                self.left(claim, None);
                left
            }
        };
        if left {
            self.leases.put_back(&claim.name, lease);
        }
        Ok(())
    }

    /// Deletes the key and tells the first in line what is left of the queue; `false` if it was over already.
    async fn leave_and_tell(&self, claim: &Claim, lease: &EtcdLease) -> Result<bool, LockError> {
        let created = claim.sequence.get();
        let left = self.leave_and_look(&claim.name, lease.id, created).await?;
        let is_left = left.is_some();
        self.left(claim, left);
        Ok(is_left)
    }

    fn left(&self, claim: &Claim, queue: Option<Queue>) {
        self.leases.forget(claim);
        // Somebody may have joined meanwhile who waits to be handed the lock.
        if let Some(relay) = self.relays.get(&claim.name) {
            drop(relay.next_taker());
            relay.tell(Release {
                deleted: claim.sequence.get(),
                queue,
            });
        }
    }

    /// Releases, and puts the taker's key in the same transaction, unless another process waits: then the lock is its,
    /// and the taker has to queue.
    async fn hand_over(&self, claim: &Claim, lease: &EtcdLease, taker: Taker) -> Result<bool, LockError> {
        let (name, created) = (&claim.name, claim.sequence.get());
        let known = self.known_identity().await?;
        let next = self.leases.take(name, taker.ttl).await?;
        let mine = self.client.lock_key(name, lease.id);
        let its = self.client.lock_key(name, next.lease.id);
        let value = Value::new(&taker.holder, &taker.label, next.lease.ttl);
        let still = Compare::create_revision(mine.clone(), CompareOp::Equal, created);
        let nobody_behind =
            Compare::create_revision(self.client.queue_key(name), CompareOp::Less, created + 1).with_prefix();
        let is_known = Compare::value(self.client.identity_key(), CompareOp::Equal, known.clone());
        // If the answer to a first try was lost, the second one finds the taker's key.
        let leave = self.leaving(name, lease.id, created, Vec::new());
        let leave = leave.or_else(vec![TxnOp::get(its.clone(), None)]);
        let txn = Txn::new()
            .when(vec![still, nobody_behind, is_known])
            .and_then(vec![TxnOp::delete(mine, None), put(&its, &value, &next.lease)])
            .or_else(vec![TxnOp::txn(leave)]);
        let mut answer = self.client.txn_of(name, txn).await?;
        let (left, put) = match (answer.succeeded, answer.responses.pop()) {
            (true, _) => (true, Some(answer.revision)),
            (false, Some(TxnOpResponse::Txn(leave))) => match leave.op_responses().pop() {
                Some(TxnOpResponse::Get(get)) => {
                    let put = get.kvs().first().map(|kv| kv.create_revision());
                    (put.is_some(), put)
                }
                _ => (leave.succeeded(), None),
            },
            _ => (false, None),
        };
        match put {
            Some(put) => {
                let entry = Entry::put(its, put, next.lease.id, value);
                let held = Held {
                    claim: Claim {
                        name: name.clone(),
                        sequence: entry.sequence()?,
                        holder: taker.holder,
                    },
                    term: next.lease.term(),
                    identity: self.identity_of(answer.cluster, &known)?,
                };
                // Before the taker can release it, and before anybody asks whether the lock is held here.
                let handed = Handed::new(&self.leases, next, held);
                self.leases.forget(claim);
                taker.take(handed);
            }
            None => {
                next.put_back();
                self.leases.forget(claim);
            }
        }
        Ok(left)
    }
}
