//! Locks in etcd.
//!
//! A lock is a queue of keys, `<prefix>/<fence>/<etcd lease, hex>`, in the order of their create revisions; the
//! first one holds it. That is the layout of Go's `concurrency.Mutex`, so the two exclude each other. The
//! sequence is the key's create revision; the revision in an answer's header is higher if there was a wait, and
//! would refuse the next holder.
//!
//! etcd leases are kept for the next acquisition once the key's deletion is confirmed: a grant and a revoke for
//! every acquisition are two more raft writes.

mod acquire;
pub(in crate::lock) mod client;
mod entry;
mod hand_over;
mod identity;
mod leases;
mod members;
mod queue;
mod relay;
mod servers;
mod together;

use async_trait::async_trait;
use etcd_client::{GetOptions, SortOrder, SortTarget, Txn, TxnOp};

use self::{
    client::Client,
    entry::Entry,
    identity::Known,
    leases::{EtcdLease, Leases, seconds},
    relay::Relays,
};
use super::{
    Claim, Held, HolderState, Identity, Kind, LockError, LockService, LockState, Request, Server, Term,
};
use crate::{clock::Moment, name::FenceName, token::Sequence};

/// The lock service in an etcd cluster.
#[derive(Debug, Clone)]
pub struct EtcdLocks {
    client: Client,
    leases: Leases,
    relays: Relays,
    known: Known,
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
            relays: Relays::default(),
            known: Known::default(),
            client,
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
}

#[async_trait]
impl LockService for EtcdLocks {
    fn kind(&self) -> Kind {
        Kind::Etcd
    }

    async fn identity(&self) -> Result<Identity, LockError> {
        self.make_identity().await
    }

    async fn count(&self) -> Result<Option<i64>, LockError> {
        let probe = Txn::new().and_then(vec![TxnOp::put(self.client.probe_key(), "", None)]);
        Ok(Some(self.client.txn(probe).await?.revision))
    }

    async fn servers(&self) -> Vec<Server> {
        self.ask_servers().await
    }

    async fn acquire(&self, request: &Request) -> Result<Held, LockError> {
        if request.wait.is_zero() {
            self.try_once(request).await
        } else {
            self.wait_in_line(request).await
        }
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
        if let Some(lease) = self.leases.recall(claim) {
            return self.pass_on(claim, lease).await;
        }
        if let Some(entry) = self.find(claim).await?
            && self.leave(&claim.name, entry.lease, claim.sequence.get()).await?
        {
            // Granted by another process, which does not know that its lease is free.
            self.leases.revoke_later(&claim.name, entry.lease, entry.ttl());
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
        // Of those who wait in this process, the first has a key at most.
        let here = self.relays.get(name).map_or(0, |relay| relay.without_key());
        let waiting = keys.saturating_sub(1) + here;
        let expires_in = self.client.time_to_live(owner.lease).await?;
        let holder = HolderState {
            sequence: owner.sequence()?,
            label: owner.label().to_owned(),
            expires_in,
            holder: owner.holder(),
        };
        Ok(LockState {
            holder: Some(holder),
            waiting: Some(waiting),
        })
    }

    async fn confirm(&self, name: &FenceName, sequence: Sequence) -> Result<Option<Identity>, LockError> {
        let seen = self.look_at(name).await?;
        let foreign = seen
            .owner
            .is_some_and(|owner| owner.created == sequence.get() && owner.is_foreign());
        match (foreign, seen.identity) {
            (false, _) => Ok(None),
            (true, Some(identity)) => Ok(Some(identity)),
            (true, None) => self.make_identity().await.map(Some),
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
            asked: seconds(entry.ttl()),
            // Another process made it, and what that sent is not known here.
            doubtful: true,
            deadline: Moment::now(),
        }))
    }
}
