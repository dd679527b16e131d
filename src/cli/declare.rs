//! `fencegate declare`: what the store cannot find out about itself.

use clap::Args;
use fencegate::store::Replication;
use serde_json::json;

use super::{
    output::Output,
    secret,
    servers::{self, ConfigFile},
};

#[derive(Args)]
pub(super) struct Declare {
    #[command(flatten)]
    config: ConfigFile,
    /// The store: postgres://user@host:5432/database (or DATABASE_URL)
    #[arg(long, value_name = "URL", env = "FENCEGATE_STORE", hide_env_values = true,
          value_parser = secret::read)]
    store: Option<String>,
    /// synchronous: a standby that is promoted has every commit, so the store goes on. asynchronous: it may lack some, so
    /// the store is quarantined
    #[arg(long, value_name = "HOW")]
    replication: Replication,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    output: Output,
}

impl Declare {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let locks = servers::look_into_named_store(&self.store).await?;
        let done = locks
            .store()
            .declare(self.replication, &self.reason, &super::who())
            .await;
        done.map_err(|error| servers::at_store(&locks, error))?;
        self.output.say(&json!({ "replication": self.replication }), || {
            format!("the replication is declared to be {}", self.replication.as_str())
        })
    }
}
