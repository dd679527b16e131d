//! A key in a fence's queue, and what fencegate writes into it.

use std::time::Duration;

use etcd_client::KeyValue;
use serde::{Deserialize, Serialize};

use crate::{
    lock::LockError,
    token::{HolderHash, Sequence},
};

/// A key in a fence's queue.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    /// Its create revision.
    pub(super) created: i64,
    /// The etcd lease that it lives by.
    pub(super) lease: i64,
    /// What fencegate wrote; `None` if somebody else made the key.
    granted: Option<Value>,
}

/// What fencegate writes into its keys. Its presence tells them from those of other programs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Value {
    /// The SHA-256 of the holder, hex.
    fencegate_holder: String,
    label: String,
    ttl_ms: u64,
}

impl Value {
    pub(super) fn new(holder: &HolderHash, label: &str, ttl: Duration) -> Self {
        Self {
            fencegate_holder: hex::encode(holder.as_bytes()),
            label: label.to_owned(),
            ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
        }
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("text and a number are always JSON")
    }
}

impl Entry {
    pub(super) fn new(kv: KeyValue) -> Result<Self, LockError> {
        let key = kv.key_str().map_err(|_| LockError::Unexpected {
            service: "etcd".into(),
            detail: format!(
                "a lock's key that is not UTF-8, created at revision {}",
                kv.create_revision()
            ),
        })?;
        Ok(Self {
            key: key.to_owned(),
            created: kv.create_revision(),
            lease: kv.lease(),
            granted: serde_json::from_slice(kv.value()).ok(),
        })
    }

    /// A key that was just put by us.
    pub(super) fn put(key: String, created: i64, lease: i64, value: Value) -> Self {
        Self {
            key,
            created,
            lease,
            granted: Some(value),
        }
    }

    pub(super) fn sequence(&self) -> Result<Sequence, LockError> {
        Sequence::new(self.created).ok_or_else(|| LockError::Unexpected {
            service: "etcd".into(),
            detail: format!("a create revision of {}", self.created),
        })
    }

    /// The hash of the holder; `None` for a key that is not ours.
    pub(super) fn holder(&self) -> Option<HolderHash> {
        let bytes = hex::decode(&self.granted.as_ref()?.fencegate_holder).ok()?;
        bytes.as_slice().try_into().ok()
    }

    pub(super) fn is_foreign(&self) -> bool {
        self.granted.is_none()
    }

    pub(super) fn label(&self) -> &str {
        self.granted.as_ref().map_or("", |value| &value.label)
    }

    pub(super) fn ttl(&self) -> Duration {
        Duration::from_millis(self.granted.as_ref().map_or(0, |value| value.ttl_ms))
    }
}
