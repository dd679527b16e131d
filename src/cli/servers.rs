//! Which store and which lock service: the flags, their environment, and what they are when nothing is said.

use anyhow::Context;
use clap::Args;
use fencegate::Locks;

use super::secret;

/// The file that holds everything when neither a store nor a lock service is named.
const FILE: &str = "fencegate.db";

/// For a verb that takes settings from the file; `settings` does so.
#[derive(Args)]
pub(super) struct ConfigFile {
    /// The settings file [default: fencegate.toml in the working directory, if it is there]
    #[arg(long, value_name = "FILE", env = "FENCEGATE_CONFIG")]
    config: Option<std::path::PathBuf>,
}

#[derive(Args)]
pub(super) struct Servers {
    #[command(flatten)]
    config: ConfigFile,
    /// Where marks and records are kept: postgres://user@host:5432/database or sqlite:FILE
    ///
    /// file:FILE takes the URL from a file, as --locks does.
    /// DATABASE_URL stands in for FENCEGATE_STORE. With neither, everything is kept in the SQLite file
    /// fencegate.db in the working directory.
    #[arg(long, value_name = "URL", env = "FENCEGATE_STORE", hide_env_values = true,
          value_parser = secret::read)]
    store: Option<String>,
    /// What grants leases: etcd://host:2379,host:2379/prefix, postgres://..., sqlite:FILE
    ///
    /// Without it, locks are kept in the store's database.
    #[arg(long, value_name = "URL", env = "FENCEGATE_LOCKS", hide_env_values = true,
          value_parser = secret::read)]
    locks: Option<String>,
}

impl Servers {
    /// Whether the command line or the environment names any.
    pub(super) fn are_known(&self) -> bool {
        store(&self.store).is_some() || said(&self.locks).is_some()
    }

    /// The store's URL and the lock service's: what is said, or else one file for both.
    pub(super) fn urls(&self) -> (String, Option<String>) {
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
        (store, locks)
    }

    /// Opens both.
    pub(super) async fn connect(&self) -> anyhow::Result<Locks> {
        let (store, locks) = self.urls();
        Ok(fencegate::connect(&store, locks.as_deref()).await?)
    }
}

/// Opens a store alone.
pub(super) async fn connect_store(flag: &Option<String>) -> anyhow::Result<Locks> {
    Ok(fencegate::connect(&named_store(flag)?, None).await?)
}

/// Opens a store to look into it, as [`look_into_store`] does.
pub(super) async fn look_into_named_store(flag: &Option<String>) -> anyhow::Result<Locks> {
    look_into_store(&named_store(flag)?).await
}

/// The store that is named.
pub(super) fn named_store(flag: &Option<String>) -> anyhow::Result<String> {
    store(flag).context("no store is named: give --store URL, or set FENCEGATE_STORE")
}

/// Opens a store to look into it: a file that is not there is not made.
pub(super) async fn look_into_store(url: &str) -> anyhow::Result<Locks> {
    if let Some(file) = sqlite_file(url)
        && !std::path::Path::new(file).exists()
    {
        anyhow::bail!("there is no store in the file {file}");
    }
    Ok(fencegate::connect(url, None).await?)
}

/// The file of an SQLite URL.
pub(super) fn sqlite_file(url: &str) -> Option<&str> {
    let file = url.strip_prefix("sqlite:")?;
    Some(file.strip_prefix("//").unwrap_or(file)).filter(|file| !file.is_empty())
}

/// An error with where the store is.
pub(super) fn at_store(locks: &Locks, error: impl Into<anyhow::Error>) -> anyhow::Error {
    error
        .into()
        .context(format!("with the store {}", locks.store().describe()))
}

/// The store's URL, from the flag or from the environment.
pub(super) fn store(flag: &Option<String>) -> Option<String> {
    said(flag).or_else(|| said(&std::env::var("DATABASE_URL").ok()))
}

/// An empty variable is one that is not set.
fn said(value: &Option<String>) -> Option<String> {
    value.clone().filter(|value| !value.is_empty())
}
