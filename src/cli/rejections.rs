//! `fencegate rejections`: who was refused, from a gateway or from the store itself.

use std::{process::ExitCode, time::Duration};

use clap::Args;
use fencegate::{FenceName, client::ListedRejection};

use super::{
    output::{self, Output},
    secret,
    servers::{self, ConfigFile},
    through_gateway::ThroughGateway,
};

#[derive(Args)]
#[command(
    after_help = "With --store, or FENCEGATE_STORE or DATABASE_URL, or one in the settings file, the store is asked; with --gateway, or else \
    FENCEGATE_GATEWAY, a gateway is."
)]
pub(super) struct Rejections {
    #[command(flatten)]
    config: ConfigFile,
    /// Only those on this fence
    #[arg(long, value_name = "NAME", value_parser = super::fence)]
    fence: Option<FenceName>,
    /// How many to show, the newest ones
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// The store: postgres://user@host:5432/database or sqlite:FILE (or DATABASE_URL)
    #[arg(long, value_name = "URL", env = "FENCEGATE_STORE", hide_env_values = true,
          value_parser = secret::read)]
    store: Option<String>,
    #[command(flatten)]
    gateway: ThroughGateway,
    #[command(flatten)]
    output: Output,
}

impl Rejections {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let rejections = match servers::store(&self.store).filter(|_| !self.gateway.is_said()) {
            Some(store) => self.stored(&store).await?,
            None => self.told().await?,
        };
        self.output.say(&rejections, || {
            let heading = [
                "AT", "FENCE", "TOKEN", "MARK", "LATE", "REASON", "SOURCE", "WHO", "TIMES",
            ];
            output::table(heading, rejections.iter().map(row))
        })?;
        Ok(ExitCode::SUCCESS)
    }

    async fn told(&self) -> anyhow::Result<Vec<ListedRejection>> {
        let mut listing = self.gateway.client()?.rejections(self.fence.as_ref());
        let mut told = Vec::new();
        while told.len() < self.limit as usize
            && let Some(rejection) = listing.next().await?
        {
            told.push(rejection);
        }
        Ok(told)
    }

    async fn stored(&self, url: &str) -> anyhow::Result<Vec<ListedRejection>> {
        let locks = servers::look_into_store(url).await?;
        let rows = locks
            .store()
            .rejections(self.fence.as_ref(), None, self.limit)
            .await
            .map_err(|error| servers::at_store(&locks, error))?;
        Ok(rows.into_iter().map(ListedRejection::from).collect())
    }
}

fn row(rejection: &ListedRejection) -> [String; 9] {
    let late = rejection.late_ms.map(|late| {
        // Milliseconds matter for the first seconds.
        let late = Duration::from_millis(if late < 10_000 { late } else { late / 1000 * 1000 });
        humantime::format_duration(late).to_string()
    });
    [
        rejection.at.clone().unwrap_or_default(),
        match &rejection.table {
            Some(table) => format!("{} (table {table})", rejection.fence),
            None => rejection.fence.clone(),
        },
        rejection.presented.clone().unwrap_or_default(),
        rejection.mark.clone().unwrap_or_default(),
        late.unwrap_or_default(),
        rejection.reason.clone(),
        rejection.source.clone(),
        rejection.who.clone(),
        rejection.count.to_string(),
    ]
}
