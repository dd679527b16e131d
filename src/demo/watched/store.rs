//! A store that tells what it lets in; and the control: one that believes whoever writes.

use std::sync::Arc;

use async_trait::async_trait;

use fencegate::{
    lock::Identity,
    name::{FenceName, RecordKey},
    rejections::{Noted, Rejection},
    store::{
        Audited, Done, EpochState, FenceState, Listed, Once, Rebase, Rebased, Record, SealOutcome, Store,
        StoreError, Transaction, Write, Written,
    },
    token::Mark,
};

use super::Gate;
use crate::demo::{
    Guard,
    event::{Happening, Reporter, Who},
};

/// A writer's way to the store. Without the guard it keeps no marks: nothing is refused, and writes go through
/// whatever token they show, as in a store that checks nothing.
#[derive(Debug)]
pub(in crate::demo) struct WatchedStore {
    pub(in crate::demo) inner: Arc<dyn Store>,
    pub(in crate::demo) guard: Guard,
    pub(in crate::demo) reporter: Reporter,
    /// Where a grant looks up the fence's mark, before it asks the lock service.
    pub(in crate::demo) looks: Gate,
    /// Between the lock and the seal.
    pub(in crate::demo) seals: Gate,
}

impl WatchedStore {
    /// The token under which a write is done: without the guard, whatever the mark is.
    async fn token(&self, fence: &FenceName, shown: Mark) -> Result<Mark, StoreError> {
        Ok(match self.guard {
            Guard::Fenced => shown,
            Guard::Unfenced => self.inner.fence(fence).await?.map_or(shown, |fence| fence.mark),
        })
    }
}

#[async_trait]
impl Store for WatchedStore {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        self.inner.migrate().await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.inner.check().await
    }

    async fn epoch(&self) -> Result<EpochState, StoreError> {
        self.inner.epoch().await
    }

    async fn bind(&self, identity: &Identity) -> Result<EpochState, StoreError> {
        self.inner.bind(identity).await
    }

    async fn rebase(&self, rebase: &Rebase) -> Result<Rebased, StoreError> {
        self.inner.rebase(rebase).await
    }

    async fn audit(&self, limit: u32) -> Result<Vec<Audited>, StoreError> {
        self.inner.audit(limit).await
    }

    async fn fence(&self, name: &FenceName) -> Result<Option<FenceState>, StoreError> {
        let fence = match self.guard {
            Guard::Fenced => self.inner.fence(name).await?,
            Guard::Unfenced => None,
        };
        self.looks.pass().await;
        Ok(fence)
    }

    async fn fences(&self, prefix: &str, after: &str, limit: u32) -> Result<Vec<FenceState>, StoreError> {
        self.inner.fences(prefix, after, limit).await
    }

    async fn seal(&self, name: &FenceName, token: &Mark) -> Result<SealOutcome, StoreError> {
        self.seals.pass().await;
        let outcome = self.inner.seal(name, token).await?;
        if self.guard == Guard::Unfenced {
            return Ok(SealOutcome::Sealed);
        }
        let happening = match outcome {
            SealOutcome::Sealed => Happening::Sealed {
                token: token.to_string(),
            },
            _ => Happening::NotSealed {
                token: token.to_string(),
            },
        };
        self.reporter.note(Who::Store, happening);
        Ok(outcome)
    }

    async fn retire(&self, name: &FenceName, token: &Mark) -> Result<bool, StoreError> {
        self.inner.retire(name, token).await
    }

    async fn records(
        &self,
        fence: &FenceName,
        prefix: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Listed>, StoreError> {
        self.inner.records(fence, prefix, after, limit).await
    }

    async fn read(&self, fence: &FenceName, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        self.inner.read(fence, key).await
    }

    async fn write(&self, write: Write) -> Result<Written, StoreError> {
        let token = self.token(&write.fence, write.token).await?;
        self.inner.write(Write { token, ..write }).await
    }

    async fn note_rejections(&self, noted: &[Noted]) -> Result<(), StoreError> {
        self.inner.note_rejections(noted).await
    }

    async fn rejections(
        &self,
        fence: Option<&FenceName>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Rejection>, StoreError> {
        self.inner.rejections(fence, before, limit).await
    }

    async fn transact(&self, transaction: &Transaction, once: Option<&Once>) -> Result<Done, StoreError> {
        let mut transaction = transaction.clone();
        for (fence, token) in &mut transaction.tokens {
            *token = self.token(fence, *token).await?;
        }
        self.inner.transact(&transaction, once).await
    }

    async fn forget_keys(&self) -> Result<u64, StoreError> {
        self.inner.forget_keys().await
    }
}
