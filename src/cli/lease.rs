//! `fencegate lease`: leases through a gateway, one step at a time. Around a command, `run` is simpler.

use std::{io, process::ExitCode, time::Duration};

use clap::{Args, Subcommand};
use fencegate::{
    FenceName, Token,
    client::{AcquireOptions, Client, ClientError, FenceView, GrantedLease, HolderView, ListedFence},
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
    /// Null where the client may not see who holds the fence.
    released: Option<bool>,
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
            label: Some(
                self.label
                    .clone()
                    .unwrap_or_else(|| super::label("fencegate lease")),
            ),
            holder: None,
        };
        let client = self.gateway.client()?;
        let granted = client.grant(&self.fence, &options).await?;
        let text = self
            .output
            .text(&leased(&self.fence, &granted), || granted.token.expose())?;
        if let Err(error) = output::write(format!("{text}\n").as_bytes()) {
            return self.give_back(&client, &granted.token, error).await;
        }
        if !self.output.is_json() {
            let ttl = humantime::format_duration(granted.ttl);
            output::aside(&format!("{} is held for {ttl}, unless it is renewed", self.fence));
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Acquire {
    /// A token that nobody has read holds the fence for nobody.
    async fn give_back(
        &self,
        client: &Client,
        token: &Token,
        unwritten: io::Error,
    ) -> anyhow::Result<ExitCode> {
        let fence = &self.fence;
        let what = match client.release(fence, token).await {
            Ok(()) => format!("{fence} is given back, since its token could not be printed"),
            Err(error) => format!(
                "{fence} is held for {} by a token that could not be printed and not be given back: {error}",
                humantime::format_duration(self.ttl)
            ),
        };
        Err(anyhow::Error::new(unwritten).context(what))
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
        if self.force {
            client.force_release(&self.fence).await?;
            return self.say(Some(true), || format!("{} is released", self.fence));
        }
        let token = self.token.get()?;
        // The release itself is a success also where there was nothing to release.
        let before = self.seen(&client, &token).await?;
        client.release(&self.fence, &token).await?;
        let (Some(before), Some(after)) = (before, self.seen(&client, &token).await?) else {
            return self.say(None, || {
                format!("what {token} held of {} is released", self.fence)
            });
        };
        if before.is_held && !after.is_held {
            return self.say(Some(true), || format!("{} is released", self.fence));
        }
        self.say(Some(false), String::new)?;
        output::aside(&format!(
            "{token} held nothing of {}, which is held by {}",
            self.fence, after.holder
        ));
        Ok(Exit::Lost.into())
    }

    fn say(&self, released: Option<bool>, people: impl FnOnce() -> String) -> anyhow::Result<ExitCode> {
        let fence = self.fence.as_str();
        self.output.say(&Released { fence, released }, people)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Who holds the fence; `None` where that cannot be seen.
    async fn seen(&self, client: &Client, token: &Token) -> anyhow::Result<Option<Seen>> {
        let seen = match client.fence(&self.fence).await {
            Ok(Some(seen)) if !seen.lock_service_answers => return Ok(None),
            Ok(seen) => seen,
            Err(error @ ClientError::Unreachable { .. }) => return Err(error.into()),
            Err(_) => return Ok(None),
        };
        let holder = seen.as_ref().and_then(|seen| seen.holder.as_ref());
        let mark = seen.as_ref().and_then(|seen| seen.mark.as_deref());
        Ok(Some(Seen {
            is_held: mark == Some(&token.to_string())
                && holder.is_some_and(|holder| holder.sequence == token.sequence.to_string()),
            holder: holder.map_or_else(|| "nobody".to_owned(), named),
        }))
    }
}

/// A fence, in view of a token.
struct Seen {
    /// Whether the token's acquisition holds it, as far as can be seen of its numbers.
    is_held: bool,
    holder: String,
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
        Some(holder) => named(holder),
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

fn named(holder: &HolderView) -> String {
    match holder.label.as_str() {
        "" => format!("somebody, with number {}", holder.sequence),
        label => format!("{label}, with number {}", holder.sequence),
    }
}
