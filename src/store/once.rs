//! Writes that happen once, however often they are asked for.
//!
//! The key of a request is recorded in the transaction of its write, and the write depends on that: of two that ask
//! at once, one finds the other's key. Only successes are recorded, since a refusal changes nothing.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{Change, Condition, Operation, StoreError, Transaction, Version, Written};

/// Under which key a transaction is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    scope: [u8; 32],
    /// How long the answer is kept.
    pub keep: Duration,
}

/// What a store answers to a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// For each operation.
    pub written: Vec<Written>,
    /// Whether it had happened before, under the same key.
    pub replayed: bool,
}

impl Once {
    /// The key that a client gave to requests of this method and path. Whatever it says, it is only kept hashed.
    pub fn new(client: &str, method: &str, path: &[&str], key: &str, keep: Duration) -> Self {
        let mut hash = Sha256::new();
        for part in [client, method, key].iter().chain(path) {
            add(&mut hash, part.as_bytes());
        }
        Self {
            scope: hash.finalize().into(),
            keep,
        }
    }

    /// What stands for client, method, path and key.
    pub(crate) fn scope(&self) -> &[u8] {
        &self.scope
    }
}

impl Transaction {
    /// What makes two requests the same one. Not their tokens: whoever acquires again and repeats a write asks for
    /// the same write.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for operation in &self.operations {
            operation.add_to(&mut hash);
        }
        hash.finalize().into()
    }
}

impl Operation {
    fn add_to(&self, hash: &mut Sha256) {
        add(hash, self.fence.as_str().as_bytes());
        add(hash, self.key.as_str().as_bytes());
        match &self.change {
            Change::Put(value) => {
                add(hash, b"put");
                add(hash, &value.bytes);
                add(hash, value.content_type.as_bytes());
            }
            Change::Merge(patch) => {
                add(hash, b"merge");
                add(hash, patch.text().as_bytes());
            }
            Change::Delete => add(hash, b"delete"),
        }
        match self.condition {
            Condition::Always => add(hash, b"always"),
            Condition::Absent => add(hash, b"absent"),
            Condition::Present => add(hash, b"present"),
            Condition::Version(Version(version)) => {
                add(hash, b"version");
                add(hash, &version.to_be_bytes());
            }
        }
    }
}

/// With its length, so that no two lists of parts are one text.
fn add(hash: &mut Sha256, part: &[u8]) {
    hash.update((part.len() as u64).to_be_bytes());
    hash.update(part);
}

/// The recorded answer, if it is one to this very request.
pub(crate) fn replay(
    transaction: &Transaction,
    fingerprint: &[u8],
    written: Vec<Written>,
) -> Result<Done, StoreError> {
    if fingerprint != transaction.fingerprint() {
        return Err(StoreError::KeyReused);
    }
    if written.len() != transaction.operations.len() {
        return Err(StoreError::Corrupt(
            "a recorded answer to another number of operations".into(),
        ));
    }
    Ok(Done {
        written,
        replayed: true,
    })
}
