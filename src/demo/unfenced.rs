//! The control: a store that believes whoever writes.

use std::sync::Arc;

use async_trait::async_trait;

use fencegate::{
    lock::Identity,
    name::{FenceName, RecordKey},
    store::{
        Done, EpochState, FenceState, Listed, Once, Record, SealOutcome, Store, StoreError, Transaction,
        Write, Written,
    },
    token::Mark,
};

/// Writes under the fence's present mark, whatever token was shown: what a store does that checks nothing.
#[derive(Debug)]
pub(super) struct Unfenced(Arc<dyn Store>);

impl Unfenced {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self(store)
    }
}

#[async_trait]
impl Store for Unfenced {
    fn describe(&self) -> String {
        format!("{}, without the guard", self.0.describe())
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        self.0.migrate().await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.0.check().await
    }

    async fn epoch(&self) -> Result<EpochState, StoreError> {
        self.0.epoch().await
    }

    async fn bind(&self, identity: &Identity) -> Result<EpochState, StoreError> {
        self.0.bind(identity).await
    }

    async fn fence(&self, name: &FenceName) -> Result<Option<FenceState>, StoreError> {
        self.0.fence(name).await
    }

    async fn fences(&self, prefix: &str, after: &str, limit: u32) -> Result<Vec<FenceState>, StoreError> {
        self.0.fences(prefix, after, limit).await
    }

    async fn seal(&self, name: &FenceName, token: &Mark) -> Result<SealOutcome, StoreError> {
        self.0.seal(name, token).await
    }

    async fn retire(&self, name: &FenceName, token: &Mark) -> Result<bool, StoreError> {
        self.0.retire(name, token).await
    }

    async fn records(
        &self,
        fence: &FenceName,
        prefix: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Listed>, StoreError> {
        self.0.records(fence, prefix, after, limit).await
    }

    async fn read(&self, fence: &FenceName, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        self.0.read(fence, key).await
    }

    async fn write(&self, write: &Write) -> Result<Written, StoreError> {
        let fence = self.0.fence(&write.fence).await?;
        let token = fence.map_or(write.token, |fence| fence.mark);
        self.0
            .write(&Write {
                token,
                ..write.clone()
            })
            .await
    }

    async fn transact(&self, transaction: &Transaction, once: Option<&Once>) -> Result<Done, StoreError> {
        let mut transaction = transaction.clone();
        for (fence, token) in &mut transaction.tokens {
            if let Some(state) = self.0.fence(fence).await? {
                *token = state.mark;
            }
        }
        self.0.transact(&transaction, once).await
    }

    async fn forget_keys(&self) -> Result<u64, StoreError> {
        self.0.forget_keys().await
    }
}
