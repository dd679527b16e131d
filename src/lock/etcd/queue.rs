//! A fence's queue of keys: joining it, looking at it, and leaving it, in a transaction each.

use etcd_client::{
    Compare, CompareOp, GetOptions, PutOptions, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse,
};

use super::{
    EtcdLocks,
    entry::{Entry, Value},
    leases::EtcdLease,
};
use crate::{
    lock::{Identity, LockError, Request},
    name::FenceName,
};

/// What a transaction sees of a fence's queue.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    /// The first key, which holds the lock.
    pub(super) owner: Option<Entry>,
    /// The key in question, if it is there.
    pub(super) mine: Option<Entry>,
    /// The key just before it.
    pub(super) before: Option<Entry>,
    pub(super) identity: Option<Identity>,
}

/// What to do where somebody is in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Else {
    Look,
    Join,
}

impl EtcdLocks {
    /// Puts a key into the queue if nobody is in it, or does what else is said.
    ///
    /// A read in a transaction that writes costs etcd more than all the rest of it, so what need not be read is
    /// compared: that the history's identity is the one that is known, and that nobody is there.
    pub(super) async fn enqueue(
        &self,
        request: &Request,
        lease: &mut EtcdLease,
        or: Else,
    ) -> Result<Queue, LockError> {
        let key = self.client.lock_key(&request.name, lease.id);
        let queue = self.client.queue_key(&request.name);
        let value = Value::new(&request.holder.hash(), &request.label, lease.ttl);
        let put = put(&key, &value, lease);
        let look = self.look_ops(&request.name, &key, None);
        loop {
            let known = self.known_identity().await?;
            let is_known = Compare::value(self.client.identity_key(), CompareOp::Equal, known.clone());
            let nobody = Compare::create_revision(queue.clone(), CompareOp::Equal, 0).with_prefix();
            let absent = Compare::create_revision(key.clone(), CompareOp::Equal, 0);
            let instead = match or {
                Else::Look => look.clone(),
                Else::Join => vec![TxnOp::txn(
                    Txn::new()
                        .when(vec![absent, is_known.clone()])
                        .and_then(vec![put.clone(), TxnOp::get(queue.clone(), Some(last_two()))])
                        .or_else(look.clone()),
                )],
            };
            let txn = Txn::new()
                .when(vec![nobody, is_known])
                .and_then(vec![put.clone()])
                .or_else(instead);
            let answer = self.client.txn_of(&request.name, txn).await?;
            // The other one may find nobody there when we have left.
            lease.doubtful |= answer.repeated;
            let (cluster, mut responses) = (answer.cluster, answer.responses);
            let mine = || Entry::put(key.clone(), answer.revision, lease.id, value.clone());
            if answer.succeeded {
                return Ok(Queue {
                    owner: Some(mine()),
                    mine: Some(mine()),
                    before: None,
                    identity: Some(self.identity_of(cluster, &known)?),
                });
            }
            if or == Else::Join
                && let Some(TxnOpResponse::Txn(joined)) = responses.pop()
            {
                responses = joined.op_responses();
                if joined.succeeded() {
                    return self
                        .joined(request, lease, mine(), responses, cluster, &known)
                        .await;
                }
            }
            let seen = self.read(cluster, responses, &key)?;
            // Else the identity is not what it was.
            if seen.mine.is_some() || (or == Else::Look && seen.owner.is_some()) {
                return Ok(seen);
            }
        }
    }

    /// What is to be said of the queue behind whose end our key was put.
    async fn joined(
        &self,
        request: &Request,
        lease: &EtcdLease,
        mine: Entry,
        mut responses: Vec<TxnOpResponse>,
        cluster: u64,
        known: &[u8],
    ) -> Result<Queue, LockError> {
        let Some(TxnOpResponse::Get(mut last)) = responses.pop() else {
            return Err(self.client.unexpected("an answer without what was asked for"));
        };
        // The first key is neither of the last two.
        if last.count() > 2 {
            return self.look_from(&request.name, lease, mine.created).await;
        }
        let entries = last.take_kvs().into_iter().map(Entry::new);
        let entries = entries.collect::<Result<Vec<_>, _>>()?;
        let before = entries.into_iter().find(|entry| entry.key != mine.key);
        Ok(Queue {
            owner: Some(before.clone().unwrap_or_else(|| mine.clone())),
            mine: Some(mine),
            before,
            identity: Some(self.identity_of(cluster, known)?),
        })
    }

    /// Looks at the queue from where a key of ours stands.
    pub(super) async fn look_from(
        &self,
        name: &FenceName,
        lease: &EtcdLease,
        mine: i64,
    ) -> Result<Queue, LockError> {
        let key = self.client.lock_key(name, lease.id);
        let look = self.look_ops(name, &key, Some(mine));
        self.look(Txn::new().and_then(look), &key).await
    }

    /// Looks at the queue without a key in it.
    pub(super) async fn look_at(&self, name: &FenceName) -> Result<Queue, LockError> {
        let nowhere = self.client.queue_key(name);
        let look = self.look_ops(name, &nowhere, None);
        self.look(Txn::new().and_then(look), &nowhere).await
    }

    /// Deletes a key if it is still the one that was created at that revision; `false` if it was not.
    pub(super) async fn leave(&self, name: &FenceName, lease: i64, created: i64) -> Result<bool, LockError> {
        let txn = self.leaving(name, lease, created, Vec::new());
        Ok(self.client.txn_of(name, txn).await?.succeeded)
    }

    /// The same, with a look at what is left; `None` if it was not.
    pub(super) async fn leave_and_look(
        &self,
        name: &FenceName,
        lease: i64,
        created: i64,
    ) -> Result<Option<Queue>, LockError> {
        let key = self.client.lock_key(name, lease);
        let look = self.look_ops(name, &key, None);
        let txn = self.leaving(name, lease, created, look);
        let answer = self.client.txn_of(name, txn).await?;
        let queue = || self.read(answer.cluster, answer.responses, &key);
        answer.succeeded.then(queue).transpose()
    }

    pub(super) fn leaving(&self, name: &FenceName, lease: i64, created: i64, then: Vec<TxnOp>) -> Txn {
        let key = self.client.lock_key(name, lease);
        let still = Compare::create_revision(key.clone(), CompareOp::Equal, created);
        let mut ops = vec![TxnOp::delete(key, None)];
        ops.extend(then);
        Txn::new().when(vec![still]).and_then(ops)
    }

    /// The reads that make a [`Queue`]: the first key, ours, the one before it, and the identity.
    fn look_ops(&self, name: &FenceName, key: &str, mine: Option<i64>) -> Vec<TxnOp> {
        let queue = self.client.queue_key(name);
        // Before our key has a revision, the last two keys are ours and the one before it.
        let before = match mine {
            Some(created) => sorted(SortOrder::Descend, 1).with_max_create_revision(created - 1),
            None => last_two(),
        };
        vec![
            TxnOp::get(queue.clone(), Some(sorted(SortOrder::Ascend, 1))),
            TxnOp::get(key, None),
            TxnOp::get(queue, Some(before)),
            TxnOp::get(self.client.identity_key(), None),
        ]
    }

    async fn look(&self, txn: Txn, key: &str) -> Result<Queue, LockError> {
        let answer = self.client.txn(txn).await?;
        self.read(answer.cluster, answer.responses, key)
    }

    fn read(&self, cluster: u64, responses: Vec<TxnOpResponse>, key: &str) -> Result<Queue, LockError> {
        let mut gets = responses.into_iter().filter_map(|response| match response {
            TxnOpResponse::Get(get) => Some(get),
            _ => None,
        });
        let mut next = || gets.next().map(|mut get| get.take_kvs()).unwrap_or_default();
        let (owner, mine, last, identity) = (next(), next(), next(), next());
        let mine = mine.into_iter().next().map(Entry::new).transpose()?;
        let created = mine.as_ref().map_or(i64::MAX, |mine| mine.created);
        let before = last.into_iter().map(Entry::new).find(|entry| match entry {
            Ok(entry) => entry.key != key && entry.created < created,
            Err(_) => true,
        });
        let identity = match identity.first() {
            Some(kv) => Some(self.learn_identity(cluster, kv.value())?),
            None => {
                self.known.forget();
                None
            }
        };
        Ok(Queue {
            owner: owner.into_iter().next().map(Entry::new).transpose()?,
            mine,
            before: before.transpose()?,
            identity,
        })
    }
}

fn sorted(order: SortOrder, limit: i64) -> GetOptions {
    GetOptions::new()
        .with_prefix()
        .with_sort(SortTarget::Create, order)
        .with_limit(limit)
}

/// Of a queue's keys.
fn last_two() -> GetOptions {
    sorted(SortOrder::Descend, 2)
}

pub(super) fn put(key: &str, value: &Value, lease: &EtcdLease) -> TxnOp {
    TxnOp::put(key, value.to_json(), Some(PutOptions::new().with_lease(lease.id)))
}
