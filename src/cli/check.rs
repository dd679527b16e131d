//! `fencegate check`: may a token act now?

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use fencegate::FenceName;
use serde::Serialize;

use super::{output::Output, through_gateway::ThroughGateway, token::ShownToken};

#[derive(Args)]
pub(super) struct Check {
    /// The fence
    #[arg(value_name = "FENCE", value_parser = super::fence)]
    fence: FenceName,
    #[command(flatten)]
    token: ShownToken,
    #[command(flatten)]
    gateway: ThroughGateway,
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct Checked<'a> {
    fence: &'a str,
    mark: String,
}

impl Check {
    /// Says whether it may.
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let token = self.token.get()?;
        let checked = self.gateway.client()?.check(&self.fence, &token).await;
        checked.with_context(|| format!("{token} may not act on {}", self.fence))?;
        let may = Checked {
            fence: self.fence.as_str(),
            mark: token.to_string(),
        };
        self.output
            .say(&may, || format!("{token} is the newest token of {}", self.fence))?;
        Ok(ExitCode::SUCCESS)
    }
}
