//! Our own number for a cluster's history, in a key of ours.

use std::sync::{Arc, Mutex, MutexGuard};

use etcd_client::{Compare, CompareOp, Txn, TxnOp, TxnOpResponse};
use uuid::Uuid;

use super::EtcdLocks;
use crate::lock::{Identity, Kind, LockError};

/// The number as it was last read: a transaction need not read it if it finds that it is the same still.
#[derive(Debug, Clone, Default)]
pub(super) struct Known(Arc<Mutex<Option<Vec<u8>>>>);

impl Known {
    pub(super) fn forget(&self) {
        *self.value() = None;
    }

    fn value(&self) -> MutexGuard<'_, Option<Vec<u8>>> {
        self.0.lock().expect("nothing panics while it holds the number")
    }
}

impl EtcdLocks {
    /// The number as it was last read, and read now if it never was.
    pub(super) async fn known_identity(&self) -> Result<Vec<u8>, LockError> {
        if let Some(known) = self.known.value().clone() {
            return Ok(known);
        }
        self.make_identity().await?;
        let known = self.known.value().clone();
        known.ok_or_else(|| self.client.unexpected("its identity comes and goes"))
    }

    /// Reads the number, and makes it if there is none.
    pub(super) async fn make_identity(&self) -> Result<Identity, LockError> {
        let key = self.client.identity_key();
        let absent = Compare::create_revision(key.clone(), CompareOp::Equal, 0);
        let make = TxnOp::put(key.clone(), Uuid::new_v4().to_string(), None);
        let txn = Txn::new()
            .when(vec![absent])
            .and_then(vec![make, TxnOp::get(key.clone(), None)])
            .or_else(vec![TxnOp::get(key, None)]);
        let mut answer = self.client.txn(txn).await?;
        match answer.responses.pop() {
            Some(TxnOpResponse::Get(get)) if !get.kvs().is_empty() => {
                self.learn_identity(answer.cluster, get.kvs()[0].value())
            }
            _ => Err(self.client.unexpected("its identity cannot be read back")),
        }
    }

    /// What was just read.
    pub(super) fn learn_identity(&self, cluster: u64, value: &[u8]) -> Result<Identity, LockError> {
        let identity = self.identity_of(cluster, value)?;
        *self.known.value() = Some(value.to_vec());
        Ok(identity)
    }

    pub(super) fn identity_of(&self, cluster: u64, value: &[u8]) -> Result<Identity, LockError> {
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
