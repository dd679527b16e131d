//! What the servers behind a lock service say of themselves: for whoever judges whether they are safe to use.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use super::LockError;

/// One server.
#[derive(Debug)]
#[non_exhaustive]
pub struct Server {
    /// Its host and port, without credentials.
    pub address: String,
    /// What it says.
    pub facts: Result<Facts, LockError>,
}

/// What a server says of itself, as far as it does.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Facts {
    /// Its version, in its own words; `None` if it does not tell.
    pub version: Option<String>,
    /// How far it has counted, where one counter serves all fences. What a server says may be old.
    pub counter: Option<i64>,
    /// What its clock showed, and how far that may be off for the time that the answer took.
    pub clock: Option<(OffsetDateTime, std::time::Duration)>,
    /// Settings and states that matter to locks, by the server's own names.
    pub settings: BTreeMap<&'static str, String>,
}

#[cfg(any(feature = "etcd", feature = "zookeeper", feature = "redis"))]
impl Server {
    pub(super) fn new(address: impl Into<String>, facts: Result<Facts, LockError>) -> Self {
        Self {
            address: address.into(),
            facts,
        }
    }
}

impl Facts {
    /// A setting; `None` if the server does not tell.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }
}
