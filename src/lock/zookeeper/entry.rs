//! What fencegate writes into its znodes. Its presence tells them from those of other programs, which have
//! nothing there or, as Curator, an address.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::token::HolderHash;

/// The data of a znode of ours.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The SHA-256 of the holder, hex.
    fencegate_holder: String,
    pub(super) label: String,
    ttl_ms: u64,
    /// The URL of the gateway of the process that made it, which alone can renew it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) gateway: Option<String>,
}

impl Entry {
    pub(super) fn new(holder: &HolderHash, label: &str, ttl: Duration, gateway: Option<String>) -> Self {
        Self {
            fencegate_holder: hex::encode(holder.as_bytes()),
            label: label.to_owned(),
            ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
            gateway,
        }
    }

    /// `None` for what another program wrote.
    pub(super) fn read(data: &[u8]) -> Option<Self> {
        serde_json::from_slice(data).ok()
    }

    pub(super) fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text and a number are always JSON")
    }

    pub(super) fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl_ms)
    }

    /// `None` if it is damaged.
    pub(super) fn holder(&self) -> Option<HolderHash> {
        let bytes = hex::decode(&self.fencegate_holder).ok()?;
        bytes.as_slice().try_into().ok()
    }
}
