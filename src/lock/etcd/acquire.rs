//! Acquiring: at once or not at all, or in the queue.

use std::time::Duration;

use tokio::sync::watch;

use super::{
    EtcdLocks,
    entry::Entry,
    leases::EtcdLease,
    queue::{Else, Queue},
    relay::{Place, Release},
};
use crate::{
    clock::Moment,
    lock::{Claim, Held, LockError, LockService, Request},
};

/// How long a lock that is held in this process is waited for without watching its key: a release here is told
/// without etcd.
const SHORT_HOLD: Duration = Duration::from_millis(20);

impl EtcdLocks {
    /// Takes the lock if nobody has it, without queueing.
    pub(super) async fn try_once(&self, request: &Request) -> Result<Held, LockError> {
        self.attempt(request, None).await
    }

    /// Joins the line of this process and, at its head, is handed the lock here, or joins etcd's queue.
    pub(super) async fn wait_in_line(&self, request: &Request) -> Result<Held, LockError> {
        let give_up = Moment::now() + request.wait;
        let mut place = self.relays.join(request);
        match tokio::time::timeout(give_up.remaining(), place.turn()).await {
            Ok(Some(handed)) => return Ok(handed.accept()),
            Ok(None) => {}
            Err(_) => return Err(self.late(request).await),
        }
        if self.leases.is_held(&request.name) {
            let soon = give_up.remaining().min(SHORT_HOLD);
            if let Ok(Some(handed)) = tokio::time::timeout(soon, place.handed()).await {
                return Ok(handed.accept());
            }
        }
        if !place.will_queue() {
            match tokio::time::timeout(give_up.remaining(), place.handed()).await {
                Ok(Some(handed)) => return Ok(handed.accept()),
                Ok(None) => {}
                // What is on its way is given back when it arrives, so it must not be looked for.
                Err(_) => return Err(self.late(request).await),
            }
        }
        self.attempt(request, Some((&place, give_up))).await
    }

    /// The time is up without a key in the queue.
    async fn late(&self, request: &Request) -> LockError {
        match self.look_at(&request.name).await {
            Ok(seen) => self.busy(&seen).await,
            Err(error) => error,
        }
    }

    async fn attempt(&self, request: &Request, line: Option<(&Place, Moment)>) -> Result<Held, LockError> {
        let mut taken = self.leases.take(&request.name, request.ttl).await?;
        let held = loop {
            let held = match line {
                None => self.without_queueing(request, &mut taken.lease).await,
                Some((place, give_up)) => self.in_queue(request, &mut taken.lease, place, give_up).await,
            };
            match held {
                // The lease ended before it served anything: etcd forgot it, or we were stopped meanwhile.
                Err(LockError::Lost) => taken.lease = self.leases.grant(request.ttl).await?,
                held => break held,
            }
        };
        match &held {
            Ok(held) if self.leases.serves(&held.claim, taken.lease.id) => taken.serves(),
            // The holder's earlier lock was found, and this lease serves nothing.
            Ok(_) | Err(LockError::Busy { .. }) => taken.put_back(),
            Err(_) => {}
        }
        held
    }

    async fn without_queueing(&self, request: &Request, lease: &mut EtcdLease) -> Result<Held, LockError> {
        let seen = self.enqueue(request, lease, Else::Look).await?;
        match self.held(request, lease, &seen).await? {
            Some(held) => Ok(held),
            None => Err(self.busy(&seen).await),
        }
    }

    /// Waits until `lease`'s key is the first, keeping the lease alive meanwhile.
    async fn in_queue(
        &self,
        request: &Request,
        lease: &mut EtcdLease,
        place: &Place,
        give_up: Moment,
    ) -> Result<Held, LockError> {
        // Before the key is there, so that no release is missed.
        let mut news = place.listen();
        let mut seen = self.enqueue(request, lease, Else::Join).await?;
        loop {
            if let Some(held) = self.held(request, lease, &seen).await? {
                return Ok(held);
            }
            let Some(mine) = &seen.mine else {
                // The lease ended while it waited: back to the end of the queue.
                *lease = self.leases.grant(request.ttl).await?;
                seen = self.enqueue(request, lease, Else::Join).await?;
                continue;
            };
            let created = mine.created;
            if give_up.has_passed() {
                let busy = self.busy(&seen).await;
                self.leave(&request.name, lease.id, created).await?;
                return Err(busy);
            }
            let told = match seen.before.take() {
                Some(before) => {
                    self.until_gone(request, &before, lease, give_up, &mut news)
                        .await?
                }
                None => None,
            };
            seen = match told {
                Some(left) => Queue {
                    mine: seen.mine,
                    before: None,
                    ..left
                },
                None => self.look_from(&request.name, lease, created).await?,
            };
        }
    }

    /// Waits until a key is gone, the time is up, or the lease has ended. If it was released in this process, what
    /// the release left of the queue is known.
    ///
    /// The watch starts from now, and the key is looked at once more behind it: etcd serves a watch from
    /// an old revision by a loop that runs ten times a second.
    async fn until_gone(
        &self,
        request: &Request,
        before: &Entry,
        lease: &mut EtcdLease,
        give_up: Moment,
        news: &mut watch::Receiver<Option<Release>>,
    ) -> Result<Option<Queue>, LockError> {
        if self.leases.is_serving(&request.name, before) {
            let soon = give_up.remaining().min(SHORT_HOLD);
            if let Ok(left) = tokio::time::timeout(soon, told(news, before.created)).await {
                return Ok(left);
            }
        }
        let mut watch = self.client.watch(&before.key).await?;
        if !self.client.exists(&before.key, before.created).await? {
            return Ok(None);
        }
        loop {
            let renew_in = lease.deadline.remaining().saturating_sub(lease.ttl * 2 / 3);
            tokio::select! {
                left = told(news, before.created) => return Ok(left),
                gone = watch.deleted() => {
                    // A watch that broke is followed by a look, like a deletion.
                    return match gone {
                        Err(error) if !error.is_retryable() => Err(error),
                        _ => Ok(None),
                    };
                }
                () = tokio::time::sleep(give_up.remaining()) => return Ok(None),
                () = tokio::time::sleep(renew_in) => {
                    if !self.leases.keep_alive(lease).await? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// The lock, if the queue's first key is ours: of this attempt, or of an earlier one of the same holder.
    async fn held(
        &self,
        request: &Request,
        lease: &mut EtcdLease,
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
            None => self.make_identity().await?,
        };
        if seen
            .mine
            .as_ref()
            .is_some_and(|mine| mine.created == owner.created)
        {
            // After a long wait, a good part of the TTL may have gone by.
            if !lease.is_fresh() && !self.leases.keep_alive(lease).await? {
                return Err(LockError::Lost);
            }
            self.leases.remember(&claim, lease.clone());
            return Ok(Some(Held {
                claim,
                term: lease.term(),
                identity,
            }));
        }
        if owner.holder() != Some(request.holder.hash()) || self.leases.is_ending(owner.lease) {
            return Ok(None);
        }
        let term = match self.renew(&claim).await {
            Err(LockError::Lost) => return Ok(None),
            renewed => renewed?,
        };
        if let Some(mine) = &seen.mine {
            self.leave(&request.name, lease.id, mine.created).await?;
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
}

/// What the release of a key in this process left of the queue, if it looked.
///
/// # Cancel safety
/// Yes.
async fn told(news: &mut watch::Receiver<Option<Release>>, deleted: i64) -> Option<Queue> {
    loop {
        if news.changed().await.is_err() {
            // The line is kept by whoever waits in it.
            std::future::pending::<()>().await;
        }
        if let Some(release) = &*news.borrow_and_update()
            && release.deleted == deleted
        {
            return release.queue.clone();
        }
    }
}
