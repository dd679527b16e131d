//! A lease from a gateway that renews itself, and knows when it is lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{AcquireOptions, Client, ClientError, ReadRecord, WriteOptions, leases::Asking};
use crate::{
    keep::Kept,
    lock::give_back,
    name::{FenceName, RecordKey},
    store::{Value, Version},
    token::Token,
};

/// A fence that is held through a gateway, and kept by renewing it at a third of its TTL. It outlives the
/// gateway that granted it, as long as another one, or the same one again, can be asked before its deadline; not where
/// the lock service is ZooKeeper, whose leases end with the gateway that granted them.
///
/// It is lost at the latest when its deadline passes: a TTL after the last successful renewal was *sent*. What was
/// started under it should then stop, and what does not stop is refused by the guard once there is a newer holder.
///
/// Dropping it releases it in the background; [`Lease::release`] does so for certain.
#[derive(Debug)]
pub struct Lease {
    kept: Arc<Kept<Client>>,
    released: AtomicBool,
}

impl Client {
    /// Acquires a lease that renews itself.
    ///
    /// # Errors
    /// [`ClientError::is_busy`] when the wait ran out.
    ///
    /// # Cancel safety
    /// As [`Client::grant`].
    pub async fn acquire(&self, fence: &FenceName, options: AcquireOptions) -> Result<Lease, ClientError> {
        let mut asking = Asking::new(self, fence, &options);
        let mut granted = asking.ask(&options).await;
        if let Ok(waited) = &granted
            && waited.deadline.remaining() < waited.ttl * 2 / 3
        {
            // It was granted some time after it was asked for, nobody knows when: a renewal tells.
            granted = self.renew(fence, &waited.token).await;
        }
        if asking.is_settled(&granted) {
            asking.armed = false;
        }
        let granted = granted?;
        let term = granted.term();
        Ok(Lease {
            kept: Kept::start(self.clone(), fence.clone(), granted.token, term),
            released: AtomicBool::new(false),
        })
    }
}

impl Lease {
    /// The fence.
    pub fn name(&self) -> &FenceName {
        &self.kept.name
    }

    /// The token to write with.
    pub fn token(&self) -> &Token {
        &self.kept.token
    }

    /// The time to live that the gateway granted.
    pub fn ttl(&self) -> Duration {
        self.kept.ttl()
    }

    /// How long the lease lasts if no further renewal succeeds. Zero when it is lost.
    pub fn remaining(&self) -> Duration {
        self.kept.remaining()
    }

    /// Whether it is lost: its deadline has passed, or the gateway said so.
    pub fn is_lost(&self) -> bool {
        self.kept.is_lost()
    }

    /// Ends when the lease is lost.
    ///
    /// # Cancel safety
    /// Yes.
    pub async fn lost(&self) {
        self.kept.lost().await;
    }

    /// Is cancelled when the lease is lost or released: to be handed to whatever works under it.
    pub fn cancelled(&self) -> CancellationToken {
        self.kept.cancelled()
    }

    /// Runs a future until it ends or the lease is lost, in which case it is dropped.
    ///
    /// # Errors
    /// [`ClientError::Lost`] if the lease was lost first.
    ///
    /// # Cancel safety
    /// As the future's own.
    pub async fn run<F: Future>(&self, future: F) -> Result<F::Output, ClientError> {
        self.kept.run(future).await
    }

    /// Renews now, apart from the renewals that happen by themselves.
    ///
    /// # Errors
    /// [`ClientError::is_lost`] when it is too late: the lease is then lost for good.
    ///
    /// # Cancel safety
    /// The renewal may or may not happen.
    pub async fn renew(&self) -> Result<(), ClientError> {
        self.kept.renew().await
    }

    /// Reads a record, unless somebody newer has the fence; `None` if there is none.
    ///
    /// # Errors
    /// [`ClientError::Lost`], and [`ClientError::is_fenced`] when the token is no longer the fence's mark.
    ///
    /// # Cancel safety
    /// Yes.
    pub async fn read(&self, key: &RecordKey) -> Result<Option<ReadRecord>, ClientError> {
        self.client()?.read_under(self.name(), self.token(), key).await
    }

    /// Stores a record under the lease's token.
    ///
    /// # Errors
    /// [`ClientError::Lost`], and as [`Client::put`].
    ///
    /// # Cancel safety
    /// The write may or may not happen.
    pub async fn put(
        &self,
        key: &RecordKey,
        bytes: Vec<u8>,
        content_type: &str,
        options: WriteOptions,
    ) -> Result<Version, ClientError> {
        let content_type = content_type.to_owned();
        let value = Value { bytes, content_type };
        self.client()?
            .put(self.name(), self.token(), key, value, options)
            .await
    }

    /// Applies a JSON merge patch to a record under the lease's token.
    ///
    /// # Errors
    /// [`ClientError::Lost`], and as [`Client::patch`].
    ///
    /// # Cancel safety
    /// The write may or may not happen.
    pub async fn patch(
        &self,
        key: &RecordKey,
        patch: &serde_json::Value,
        options: WriteOptions,
    ) -> Result<Version, ClientError> {
        self.client()?
            .patch(self.name(), self.token(), key, patch, options)
            .await
    }

    /// Deletes a record under the lease's token.
    ///
    /// # Errors
    /// [`ClientError::Lost`], and as [`Client::delete`].
    ///
    /// # Cancel safety
    /// The write may or may not happen.
    pub async fn delete(&self, key: &RecordKey, options: WriteOptions) -> Result<(), ClientError> {
        self.client()?
            .delete(self.name(), self.token(), key, options)
            .await
    }

    /// Releases: the token is dead from here on, and the fence is free for others.
    ///
    /// # Errors
    /// When the gateway cannot be asked. The lock then ends with its TTL.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the rest of the release to the background.
    pub async fn release(self) -> Result<(), ClientError> {
        self.kept.give_up();
        let released = self.kept.keeper.release(self.name(), self.token()).await;
        self.released.store(true, Ordering::Relaxed);
        released
    }

    /// The client, while there is a lease to use it under.
    fn client(&self) -> Result<&Client, ClientError> {
        match self.is_lost() {
            true => Err(ClientError::Lost),
            false => Ok(&self.kept.keeper),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.kept.give_up();
        if self.released.load(Ordering::Relaxed) {
            return;
        }
        let kept = self.kept.clone();
        give_back(async move {
            if let Err(error) = kept.keeper.release(&kept.name, &kept.token).await {
                tracing::warn!(fence = %kept.name, token = %kept.token, %error, "release in the background failed");
            }
        });
    }
}
