//! Locks in etcd.
//!
//! A lock is a queue of keys, `<prefix>/<fence>/<etcd lease, hex>`, in the order of their create revisions; the
//! first one holds it. That is the layout of Go's `concurrency.Mutex`, so the two exclude each other. The
//! sequence is the key's create revision; the revision in an answer's header is higher if there was a wait, and
//! would refuse the next holder.
//!
//! etcd leases are kept for the next acquisition once the key's deletion is confirmed: a grant and a revoke for
//! every acquisition are two more raft writes.

mod client;
mod entry;
mod leases;

use async_trait::async_trait;
use etcd_client::{Compare, CompareOp, GetOptions, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse};
use uuid::Uuid;

use self::{
    client::Client,
    entry::Entry,
    leases::{EtcdLease, Leases},
};
use super::{Claim, Held, HolderState, Identity, Kind, LockError, LockService, LockState, Request, Term};
use crate::{clock::Moment, name::FenceName, token::Sequence};

/// The lock service in an etcd cluster.
#[derive(Debug, Clone)]
pub struct EtcdLocks {
    client: Client,
    leases: Leases,
}

/// What a transaction sees of a fence's queue.
struct Queue {
    /// The first key, which holds the lock.
    owner: Option<Entry>,
    /// The key in question, if it is there.
    mine: Option<Entry>,
    /// The key just before it.
    before: Option<Entry>,
    identity: Option<Identity>,
}

impl EtcdLocks {
    /// Locks in the cluster that `url` names: `etcd://a:2379,b:2379/prefix`. Nothing is asked of it yet.
    ///
    /// # Errors
    /// [`LockError::Unexpected`] if the URL cannot be used.
    pub async fn connect(url: &str) -> Result<Self, LockError> {
        let client = Client::connect(url).await?;
        Ok(Self {
            leases: Leases::new(client.clone()),
            client,
        })
    }

    /// Takes the lock if nobody has it, without queueing.
    async fn try_once(&self, request: &Request, lease: &EtcdLease) -> Result<Held, LockError> {
        let queue = self.client.queue_key(&request.name);
        let nobody = Compare::create_revision(queue, CompareOp::Equal, 0).with_prefix();
        let seen = self.enqueue(request, lease, vec![nobody]).await?;
        if let Some(held) = self.held(request, lease, &seen).await? {
            return Ok(held);
        }
        Err(self.busy(&seen).await)
    }

    /// Puts a key at the end of the queue if the conditions hold, and looks at the queue.
    async fn enqueue(
        &self,
        request: &Request,
        lease: &EtcdLease,
        mut conditions: Vec<Compare>,
    ) -> Result<Queue, LockError> {
        let key = self.client.lock_key(&request.name, lease.id);
        conditions.push(Compare::create_revision(key.clone(), CompareOp::Equal, 0));
        let value = entry::value(&request.holder.hash(), &request.label, lease.ttl);
        let put = TxnOp::put(
            key.clone(),
            value,
            Some(etcd_client::PutOptions::new().with_lease(lease.id)),
        );
        let look = self.look_ops(&request.name, &key, None);
        let mut then = vec![put];
        then.extend(look.clone());
        self.look(Txn::new().when(conditions).and_then(then).or_else(look), &key)
            .await
    }

    /// Waits until `lease`'s key is the first, keeping the lease alive meanwhile.
    async fn wait_turn(&self, request: &Request, lease: &mut EtcdLease) -> Result<Held, LockError> {
        let give_up = Moment::now() + request.wait;
        let mut seen = self.enqueue(request, lease, Vec::new()).await?;
        loop {
            if let Some(held) = self.held(request, lease, &seen).await? {
                return Ok(held);
            }
            let Some(mine) = &seen.mine else {
                // The lease ended while it waited: back to the end of the queue.
                *lease = self.leases.grant(request.ttl).await?;
                seen = self.enqueue(request, lease, Vec::new()).await?;
                continue;
            };
            if give_up.has_passed() {
                let busy = self.busy(&seen).await;
                self.delete(&request.name, lease.id, mine.created).await?;
                return Err(busy);
            }
            let (mine, before) = (mine.created, seen.before.take());
            if let Some(before) = before {
                self.wait_gone(&before, lease, give_up).await?;
            }
            let key = self.client.lock_key(&request.name, lease.id);
            let look = self.look_ops(&request.name, &key, Some(mine));
            seen = self.look(Txn::new().and_then(look), &key).await?;
        }
    }

    /// Waits until a key is gone, the time is up, or the lease wants looking after.
    ///
    /// The watch starts from now, and the key is looked at once more behind it: etcd serves a watch from
    /// an old revision by a loop that runs ten times a second.
    async fn wait_gone(
        &self,
        before: &Entry,
        lease: &mut EtcdLease,
        give_up: Moment,
    ) -> Result<(), LockError> {
        let mut watch = self.client.watch(&before.key).await?;
        if !self.client.exists(&before.key, before.created).await? {
            return Ok(());
        }
        loop {
            let renew_in = lease.deadline.remaining().saturating_sub(lease.ttl * 2 / 3);
            tokio::select! {
                gone = watch.deleted() => {
                    // A watch that broke is followed by a look, like a deletion.
                    return gone.or_else(|error| if error.is_retryable() { Ok(()) } else { Err(error) });
                }
                () = tokio::time::sleep(give_up.remaining()) => return Ok(()),
                () = tokio::time::sleep(renew_in) => {
                    if !self.leases.keep_alive(lease).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// The lock, if the queue's first key is ours: of this attempt, or of an earlier one of the same holder.
    async fn held(
        &self,
        request: &Request,
        lease: &EtcdLease,
        seen: &Queue,
    ) -> Result<Option<Held>, LockError> {
        let Some(owner) = &seen.owner else {
            return Ok(None);
        };
        let claim = Claim {
            name: request.name.clone(),
            sequence: owner.sequence()?,
            holder: request.holder.hash(),
        };
        let identity = match &seen.identity {
            Some(identity) => identity.clone(),
            None => self.identity().await?,
        };
        if seen
            .mine
            .as_ref()
            .is_some_and(|mine| mine.created == owner.created)
        {
            let term = Term {
                ttl: lease.ttl,
                deadline: lease.deadline,
            };
            self.leases.remember(&claim, lease.clone());
            return Ok(Some(Held {
                claim,
                term,
                identity,
            }));
        }
        if owner.holder() != Some(request.holder.hash()) {
            return Ok(None);
        }
        let term = match self.renew(&claim).await {
            Err(LockError::Lost) => return Ok(None),
            renewed => renewed?,
        };
        if let Some(mine) = &seen.mine {
            self.delete(&request.name, lease.id, mine.created).await?;
        }
        Ok(Some(Held {
            claim,
            term,
            identity,
        }))
    }

    async fn busy(&self, seen: &Queue) -> LockError {
        let expires_in = match &seen.owner {
            Some(owner) => self.client.time_to_live(owner.lease).await.ok(),
            None => None,
        };
        LockError::Busy { expires_in }
    }

    /// Deletes a key if it is still the one that was created at that revision.
    async fn delete(&self, name: &FenceName, lease: i64, created: i64) -> Result<bool, LockError> {
        let key = self.client.lock_key(name, lease);
        let still = Compare::create_revision(key.clone(), CompareOp::Equal, created);
        let txn = Txn::new()
            .when(vec![still])
            .and_then(vec![TxnOp::delete(key, None)]);
        Ok(self.client.txn(txn).await?.succeeded())
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

    fn read_identity(&self, cluster: u64, value: &[u8]) -> Result<Identity, LockError> {
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

    /// Finds an acquisition's key by its create revision and its holder.
    async fn find(&self, claim: &Claim) -> Result<Option<Entry>, LockError> {
        let created = claim.sequence.get();
        let by_revision = GetOptions::new()
            .with_prefix()
            .with_min_create_revision(created)
            .with_max_create_revision(created);
        let kvs = self
            .client
            .get(self.client.queue_key(&claim.name), by_revision)
            .await?
            .take_kvs();
        let entry = kvs.into_iter().next().map(Entry::new).transpose()?;
        Ok(entry.filter(|entry| entry.holder() == Some(claim.holder)))
    }

    async fn acquire_under(&self, request: &Request, lease: &mut EtcdLease) -> Result<Held, LockError> {
        loop {
            let held = if request.wait.is_zero() {
                self.try_once(request, lease).await
            } else {
                self.wait_turn(request, lease).await
            };
            match held {
                // The lease ended before it served anything: etcd forgot it, or we were stopped meanwhile.
                Err(LockError::Lost) => *lease = self.leases.grant(request.ttl).await?,
                held => return held,
            }
        }
    }
}

#[async_trait]
impl LockService for EtcdLocks {
    fn kind(&self) -> Kind {
        Kind::Etcd
    }

    async fn identity(&self) -> Result<Identity, LockError> {
        let key = self.client.identity_key();
        let absent = Compare::create_revision(key.clone(), CompareOp::Equal, 0);
        let make = TxnOp::put(key.clone(), Uuid::new_v4().to_string(), None);
        let txn = Txn::new()
            .when(vec![absent])
            .and_then(vec![make, TxnOp::get(key.clone(), None)])
            .or_else(vec![TxnOp::get(key, None)]);
        let answer = self.client.txn(txn).await?;
        let cluster = answer
            .header()
            .map(|header| header.cluster_id())
            .unwrap_or_default();
        match answer.op_responses().pop() {
            Some(TxnOpResponse::Get(get)) if !get.kvs().is_empty() => {
                self.read_identity(cluster, get.kvs()[0].value())
            }
            _ => Err(self.client.unexpected("its identity cannot be read back")),
        }
    }

    async fn acquire(&self, request: &Request) -> Result<Held, LockError> {
        let lease = self.leases.take(request.ttl).await?;
        let mut attempt = Attempt {
            leases: &self.leases,
            lease,
            undo: true,
        };
        let held = self.acquire_under(request, &mut attempt.lease).await;
        match &held {
            // The lease serves the lock, or the holder's earlier lock was found and this one serves nothing.
            Ok(held) => attempt.ended(!self.leases.serves(&held.claim, attempt.lease.id)),
            Err(LockError::Busy { .. }) => attempt.ended(true),
            Err(_) => {}
        }
        held
    }

    async fn renew(&self, claim: &Claim) -> Result<Term, LockError> {
        let Some(mut lease) = self.lease_of(claim).await? else {
            self.leases.forget(claim);
            return Err(LockError::Lost);
        };
        // The lease may serve another key by now, so its being alive says nothing of this one: look at both.
        let key = self.client.lock_key(&claim.name, lease.id);
        let (alive, exists) = tokio::try_join!(
            self.leases.keep_alive(&mut lease),
            self.client.exists(&key, claim.sequence.get())
        )?;
        if !alive || !exists {
            self.leases.forget(claim);
            return Err(LockError::Lost);
        }
        self.leases.remember(claim, lease.clone());
        Ok(Term {
            ttl: lease.ttl,
            deadline: lease.deadline,
        })
    }

    async fn release(&self, claim: &Claim) -> Result<(), LockError> {
        if let Some(lease) = self.leases.forget(claim) {
            if self.delete(&claim.name, lease.id, claim.sequence.get()).await? {
                self.leases.put_back(lease);
            }
            return Ok(());
        }
        if let Some(entry) = self.find(claim).await?
            && self.delete(&claim.name, entry.lease, entry.created).await?
        {
            // Granted by another process, which does not know that its lease is free.
            self.leases.revoke_later(entry.lease);
        }
        Ok(())
    }

    async fn inspect(&self, name: &FenceName) -> Result<LockState, LockError> {
        let first = GetOptions::new()
            .with_prefix()
            .with_sort(SortTarget::Create, SortOrder::Ascend)
            .with_limit(1);
        let mut answer = self.client.get(self.client.queue_key(name), first).await?;
        let keys = answer.count().unsigned_abs();
        let Some(owner) = answer.take_kvs().into_iter().next().map(Entry::new).transpose()? else {
            return Ok(LockState {
                holder: None,
                waiting: Some(0),
            });
        };
        let expires_in = self.client.time_to_live(owner.lease).await?;
        let holder = HolderState {
            sequence: owner.sequence()?,
            label: owner.label().to_owned(),
            expires_in,
            holder: owner.holder(),
        };
        Ok(LockState {
            holder: Some(holder),
            waiting: Some(keys.saturating_sub(1)),
        })
    }

    async fn confirm(&self, name: &FenceName, sequence: Sequence) -> Result<Option<Identity>, LockError> {
        let look = self.look_ops(name, &self.client.queue_key(name), None);
        let seen = self.look(Txn::new().and_then(look), "").await?;
        let foreign = seen
            .owner
            .is_some_and(|owner| owner.created == sequence.get() && owner.is_foreign());
        match (foreign, seen.identity) {
            (false, _) => Ok(None),
            (true, Some(identity)) => Ok(Some(identity)),
            (true, None) => self.identity().await.map(Some),
        }
    }
}

impl EtcdLocks {
    /// The etcd lease behind an acquisition: remembered, or found by whoever did not grant it.
    async fn lease_of(&self, claim: &Claim) -> Result<Option<EtcdLease>, LockError> {
        if let Some(lease) = self.leases.recall(claim) {
            return Ok(Some(lease));
        }
        let entry = self.find(claim).await?;
        Ok(entry.map(|entry| EtcdLease {
            id: entry.lease,
            ttl: entry.ttl(),
            deadline: Moment::now(),
        }))
    }
}

/// An acquisition under way. Whatever it has done is under its lease, so if it fails or is dropped, revoking the
/// lease takes it all back.
struct Attempt<'a> {
    leases: &'a Leases,
    lease: EtcdLease,
    undo: bool,
}

impl Attempt<'_> {
    fn ended(&mut self, lease_is_free: bool) {
        self.undo = false;
        if lease_is_free {
            self.leases.put_back(self.lease.clone());
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.undo {
            self.leases.revoke_later(self.lease.id);
        }
    }
}
