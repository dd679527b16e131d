//! A fence's queue of keys: joining it, looking at it, and leaving it, in a transaction each.

use etcd_client::{
    Compare, CompareOp, GetOptions, PutOptions, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse,
};

use super::{
    EtcdLocks,
    entry::{self, Entry},
    leases::EtcdLease,
};
use crate::{
    lock::{Identity, Kind, LockError, Request},
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

impl EtcdLocks {
    /// Puts a key at the end of the queue if the conditions hold, and looks at the queue.
    pub(super) async fn enqueue(
        &self,
        request: &Request,
        lease: &EtcdLease,
        mut conditions: Vec<Compare>,
    ) -> Result<Queue, LockError> {
        let key = self.client.lock_key(&request.name, lease.id);
        conditions.push(Compare::create_revision(key.clone(), CompareOp::Equal, 0));
        let value = entry::value(&request.holder.hash(), &request.label, lease.ttl);
        let put = TxnOp::put(key.clone(), value, Some(PutOptions::new().with_lease(lease.id)));
        let look = self.look_ops(&request.name, &key, None);
        let mut then = vec![put];
        then.extend(look.clone());
        self.look(Txn::new().when(conditions).and_then(then).or_else(look), &key)
            .await
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
        self.look(Txn::new().and_then(self.look_ops(name, &nowhere, None)), &nowhere)
            .await
    }

    /// Deletes a key if it is still the one that was created at that revision, and looks at what is left.
    /// `None` if it was not.
    pub(super) async fn leave(
        &self,
        name: &FenceName,
        lease: i64,
        created: i64,
    ) -> Result<Option<Queue>, LockError> {
        let key = self.client.lock_key(name, lease);
        let still = Compare::create_revision(key.clone(), CompareOp::Equal, created);
        let mut then = vec![TxnOp::delete(key.clone(), None)];
        then.extend(self.look_ops(name, &key, None));
        let answer = self
            .client
            .txn(Txn::new().when(vec![still]).and_then(then))
            .await?;
        answer.succeeded().then(|| self.read(&answer, &key)).transpose()
    }

    /// The reads that make a [`Queue`]: the first key, ours, the one before it, and the identity.
    fn look_ops(&self, name: &FenceName, key: &str, mine: Option<i64>) -> Vec<TxnOp> {
        let queue = self.client.queue_key(name);
        let sorted = |order, limit| {
            GetOptions::new()
                .with_prefix()
                .with_sort(SortTarget::Create, order)
                .with_limit(limit)
        };
        // Before our key has a revision, the last two keys are ours and the one before it.
        let before = match mine {
            Some(created) => sorted(SortOrder::Descend, 1).with_max_create_revision(created - 1),
            None => sorted(SortOrder::Descend, 2),
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
        self.read(&answer, key)
    }

    fn read(&self, answer: &etcd_client::TxnResponse, key: &str) -> Result<Queue, LockError> {
        let cluster = answer
            .header()
            .map(|header| header.cluster_id())
            .unwrap_or_default();
        let mut gets = answer
            .op_responses()
            .into_iter()
            .filter_map(|response| match response {
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
        Ok(Queue {
            owner: owner.into_iter().next().map(Entry::new).transpose()?,
            mine,
            before: before.transpose()?,
            identity: identity
                .first()
                .map(|kv| self.read_identity(cluster, kv.value()))
                .transpose()?,
        })
    }

    pub(super) fn read_identity(&self, cluster: u64, value: &[u8]) -> Result<Identity, LockError> {
        let instance = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        let instance = instance.ok_or_else(|| {
            self.client
                .unexpected(&format!("{} is no UUID", self.client.identity_key()))
        })?;
        Ok(Identity {
            kind: Kind::Etcd,
            cluster: format!("{cluster:x}"),
            instance,
        })
    }
}
