//! Which store and which lock service: the flags, their environment, and what they are when nothing is said.

use anyhow::Context;
use clap::Args;
use fencegate::Locks;

/// The file that holds everything when neither a store nor a lock service is named.
const FILE: &str = "fencegate.db";

#[derive(Args)]
pub(super) struct Servers {
    /// Where marks and records are kept: postgres://user@host:5432/database or sqlite:FILE
    ///
    /// DATABASE_URL stands in for FENCEGATE_STORE. With neither, everything is kept in the SQLite file
    /// fencegate.db in the working directory.
    #[arg(long, value_name = "URL", env = "FENCEGATE_STORE", hide_env_values = true)]
    store: Option<String>,
    /// What grants leases: etcd://host:2379,host:2379/prefix, postgres://..., sqlite:FILE
    ///
    /// Without it, locks are kept in the store's database.
    #[arg(long, value_name = "URL", env = "FENCEGATE_LOCKS", hide_env_values = true)]
    locks: Option<String>,
}

impl Servers {
    /// Opens both.
    pub(super) async fn connect(&self) -> anyhow::Result<Locks> {
        let locks = said(&self.locks);
        let store = match store(&self.store) {
            Some(store) => store,
            None if locks.is_some() => {
                super::usage("--locks is given and --store is not: say where marks and records are kept")
            }
            None => {
                tracing::info!(
                    "neither a store nor a lock service is named: both are the SQLite file {FILE}"
                );
                format!("sqlite:{FILE}")
            }
        };
        Ok(fencegate::connect(&store, locks.as_deref()).await?)
    }
}

/// Opens a store alone.
pub(super) async fn connect_store(flag: &Option<String>) -> anyhow::Result<Locks> {
    let store = store(flag).context("no store is named: give --store URL, or set FENCEGATE_STORE")?;
    Ok(fencegate::connect(&store, None).await?)
}

/// The store's URL, from the flag or from the environment.
pub(super) fn store(flag: &Option<String>) -> Option<String> {
    said(flag).or_else(|| said(&std::env::var("DATABASE_URL").ok()))
}

/// An empty variable is one that is not set.
fn said(value: &Option<String>) -> Option<String> {
    value.clone().filter(|value| !value.is_empty())
}
