//! A lock service that tells who gets the lock, and who gives it back.

use std::sync::Arc;

use async_trait::async_trait;

use fencegate::{
    LockError, LockService,
    lock::{Claim, Held, Identity, Kind, LockState, Request, Term},
    name::FenceName,
    token::Sequence,
};

use super::Holding;
use crate::demo::event::{Happening, Reporter, Who};

/// A writer's way to the lock service.
#[derive(Debug)]
pub(in crate::demo) struct WatchedLocks {
    pub(in crate::demo) inner: Arc<dyn LockService>,
    pub(in crate::demo) who: Who,
    pub(in crate::demo) holding: Holding,
    pub(in crate::demo) reporter: Reporter,
}

#[async_trait]
impl LockService for WatchedLocks {
    fn kind(&self) -> Kind {
        self.inner.kind()
    }

    async fn identity(&self) -> Result<Identity, LockError> {
        self.inner.identity().await
    }

    async fn count(&self) -> Result<Option<i64>, LockError> {
        self.inner.count().await
    }

    async fn migrate(&self) -> Result<(), LockError> {
        self.inner.migrate().await
    }

    async fn acquire(&self, request: &Request) -> Result<Held, LockError> {
        let held = self.inner.acquire(request).await?;
        self.holding.granted(&self.reporter, self.who, &held.claim);
        Ok(held)
    }

    async fn renew(&self, claim: &Claim) -> Result<Term, LockError> {
        self.inner.renew(claim).await
    }

    async fn release(&self, claim: &Claim) -> Result<(), LockError> {
        // Before it is free for the next one.
        let of = self.who;
        self.holding
            .ended(claim, |_| self.reporter.note(Who::Lock, Happening::Freed { of }));
        self.inner.release(claim).await
    }

    async fn inspect(&self, name: &FenceName) -> Result<LockState, LockError> {
        self.inner.inspect(name).await
    }

    async fn confirm(&self, name: &FenceName, sequence: Sequence) -> Result<Option<Identity>, LockError> {
        self.inner.confirm(name, sequence).await
    }
}
