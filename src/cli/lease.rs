//! `fencegate lease`: leases through a gateway, one step at a time. Around a command, `run` is simpler.

use std::{process::ExitCode, time::Duration};

use clap::{Args, Subcommand};
use fencegate::{
    FenceName,
    client::{AcquireOptions, FenceView, GrantedLease, ListedFence},
};
use serde::Serialize;

use super::{
    exit::Exit,
    output::{self, Output},
    through_gateway::ThroughGateway,
    token::ShownToken,
};

#[derive(Args)]
pub(super) struct Lease {
    #[command(subcommand)]
    step: Step,
}

#[derive(Subcommand)]
enum Step {
    /// Acquire a fence, and print its token
    Acquire(Acquire),
    /// Make a lease last its time to live again
    Renew(Renew),
    /// End a lease: its token is dead from then on
    Release(Release),
    /// List the fences that were ever leased, with their marks
    List(List),
    /// Show a fence: its mark, who holds it, how many wait
    Show(Show),
}

#[derive(Args)]
struct Acquire {
    /// The fence
    #[arg(value_name = "FENCE", value_parser = super::fence)]
    fence: FenceName,
    /// How long the lease outlives its last renewal. Nothing renews it but `fencegate lease renew`
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = humantime::parse_duration)]
    ttl: Duration,
    /// How long to wait while others hold the fence
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    wait: Duration,
    /// A text for people who ask who holds the fence
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    #[command(flatten)]
    gateway: ThroughGateway,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
struct Renew {
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

#[derive(Args)]
struct Release {
    /// The fence
    #[arg(value_name = "FENCE", value_parser = super::fence)]
    fence: FenceName,
    /// End whoever's lease it is, without its token: for operators, where the gateway allows it
    #[arg(long, conflicts_with_all = ["token", "token_file"])]
    force: bool,
    #[command(flatten)]
    token: ShownToken,
    #[command(flatten)]
    gateway: ThroughGateway,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
struct List {
    /// Only fences whose names begin so
    #[arg(long, value_name = "TEXT", default_value = "")]
    prefix: String,
    #[command(flatten)]
    gateway: ThroughGateway,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
struct Show {
    /// The fence
    #[arg(value_name = "FENCE", value_parser = super::fence)]
    fence: FenceName,
    #[command(flatten)]
    gateway: ThroughGateway,
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct Leased<'a> {
    fence: &'a str,
    token: String,
    ttl: String,
    expires_in_ms: u64,
}

#[derive(Serialize)]
struct Released<'a> {
    fence: &'a str,
    released: bool,
}

impl Lease {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        match self.step {
            Step::Acquire(step) => step.run().await,
            Step::Renew(step) => step.run().await,
            Step::Release(step) => step.run().await,
            Step::List(step) => step.run().await,
            Step::Show(step) => step.run().await,
        }
    }
}

impl Acquire {
    /// The token alone goes to standard output, to be put into a variable.
    async fn run(self) -> anyhow::Result<ExitCode> {
        let options = AcquireOptions {
            ttl: Some(self.ttl),
            wait: Some(self.wait),
            label: Some(self.label.unwrap_or_else(|| super::label("fencegate lease"))),
            holder: None,
        };
        let granted = self.gateway.client()?.grant(&self.fence, &options).await?;
        self.output
            .say(&leased(&self.fence, &granted), || granted.token.expose())?;
        if !self.output.is_json() {
            let ttl = humantime::format_duration(granted.ttl);
            output::aside(&format!("{} is held for {ttl}, unless it is renewed", self.fence));
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Renew {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let token = self.token.get()?;
        let renewed = self.gateway.client()?.renew(&self.fence, &token).await?;
        self.output.say(&leased(&self.fence, &renewed), || {
            let ttl = humantime::format_duration(renewed.ttl);
            format!("{} is held for {ttl} from now, as {}", self.fence, renewed.token)
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Release {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.gateway.client()?;
        match self.force {
            true => client.force_release(&self.fence).await?,
            false => client.release(&self.fence, &self.token.get()?).await?,
        }
        let released = Released {
            fence: self.fence.as_str(),
            released: true,
        };
        self.output
            .say(&released, || format!("{} is released", self.fence))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl List {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let fences = self.gateway.client()?.fences(&self.prefix).all().await?;
        self.output.say(&fences, || {
            let row = |fence: &ListedFence| {
                let sealed_at = fence.sealed_at.clone().unwrap_or_default();
                [fence.fence.clone(), fence.mark.clone(), sealed_at]
            };
            output::table(["FENCE", "MARK", "SEALED"], fences.iter().map(row))
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Show {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let seen = self.gateway.client()?.fence(&self.fence).await?;
        let Some(seen) = seen else {
            output::aside(&format!(
                "no lease was ever granted on {}, and nobody holds its lock",
                self.fence
            ));
            return Ok(Exit::NotFound.into());
        };
        self.output.say(&seen, || shown(&seen))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn leased<'a>(fence: &'a FenceName, granted: &GrantedLease) -> Leased<'a> {
    Leased {
        fence: fence.as_str(),
        token: granted.token.expose(),
        ttl: humantime::format_duration(granted.ttl).to_string(),
        expires_in_ms: u64::try_from(granted.expires_in.as_millis()).unwrap_or(u64::MAX),
    }
}

fn shown(seen: &FenceView) -> String {
    let holder = match &seen.holder {
        None if !seen.lock_service_answers => "unknown: the lock service does not answer".to_owned(),
        None => "nobody".to_owned(),
        Some(holder) if holder.label.is_empty() => format!("somebody, with number {}", holder.sequence),
        Some(holder) => format!("{}, with number {}", holder.label, holder.sequence),
    };
    let left = seen.holder.as_ref().map(|holder| {
        let left = Duration::from_millis(holder.expires_in_ms);
        format!("{} unless it is renewed", humantime::format_duration(left))
    });
    output::fields([
        ("fence", Some(seen.fence.clone())),
        ("mark", seen.mark.clone()),
        ("sealed", seen.sealed_at.clone()),
        ("held by", Some(holder)),
        ("for", left),
        ("waiting", seen.waiting.map(|waiting| waiting.to_string())),
        ("locks", Some(seen.lock_service.clone())),
    ])
}
