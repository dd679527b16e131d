//! `fencegate write`: a fenced write through a gateway.

use std::{io::Read, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Args;
use fencegate::{
    FenceName, RecordKey,
    client::{Client, ClientError, IdempotencyKey, WriteOptions},
    store::{Condition, Value, Version},
};
use serde::Serialize;

use super::{
    exit::Exit,
    output::{self, Output},
    through_gateway::ThroughGateway,
    token::ShownToken,
};

/// What bytes are that nobody has named.
const UNNAMED: &str = "application/octet-stream";

#[derive(Args)]
#[command(
    after_help = "A write whose answer is lost is sent again under its idempotency key, so it happens once. If it ends with \
    status 74 all the same, its outcome is unknown: repeat it with the key that is shown then.\n\nExit status: 77 if \
    the guard refuses the token, 73 if the condition does not hold, 74 if the outcome is unknown."
)]
pub(super) struct Write {
    /// The fence that guards the record
    #[arg(value_name = "FENCE", value_parser = super::fence)]
    fence: FenceName,
    /// The record
    #[arg(value_name = "KEY", value_parser = |text: &str| text.parse::<RecordKey>())]
    key: RecordKey,
    /// What to store [default: what the standard input has]
    #[arg(value_name = "VALUE", conflicts_with_all = ["file", "delete"])]
    value: Option<String>,
    /// A file to store; - for the standard input
    #[arg(long, value_name = "FILE", conflicts_with = "delete")]
    file: Option<PathBuf>,
    /// What the value is
    #[arg(long, value_name = "TYPE", default_value = UNNAMED, value_parser = content_type)]
    content_type: String,
    /// The value is a JSON merge patch of what is stored
    #[arg(long, conflicts_with_all = ["delete", "content_type"])]
    patch: bool,
    /// Delete the record
    #[arg(long)]
    delete: bool,
    /// Only if the record is in this version; * for any
    #[arg(long, value_name = "VERSION", conflicts_with = "if_absent", value_parser = version)]
    if_match: Option<Condition>,
    /// Only if there is no such record
    #[arg(long)]
    if_absent: bool,
    /// Names this write, so that it happens once however often it is sent [default: a random one]
    #[arg(long, value_name = "TEXT", value_parser = |text: &str| text.parse::<IdempotencyKey>())]
    idempotency_key: Option<IdempotencyKey>,
    #[command(flatten)]
    token: ShownToken,
    #[command(flatten)]
    gateway: ThroughGateway,
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct Written<'a> {
    fence: &'a str,
    key: &'a str,
    version: Option<Version>,
}

impl Write {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let token = self.token.get()?;
        let client = self.gateway.client()?;
        let key = self
            .idempotency_key
            .clone()
            .unwrap_or_else(IdempotencyKey::random);
        let condition = match self.if_absent {
            true => Condition::Absent,
            false => self.if_match.unwrap_or(Condition::Always),
        };
        let options = WriteOptions::from(condition).once(key.clone());
        let version = match self.send(&client, &token, options).await {
            Ok(version) => version,
            Err(error) => match error.downcast_ref::<ClientError>() {
                Some(lost) if lost.is_outcome_unknown() => {
                    let key = key.as_str();
                    output::aside(&format!("{error:#}"));
                    output::aside(&format!(
                        "it may have happened or not: repeat it with --idempotency-key {key}"
                    ));
                    return Ok(Exit::OutcomeUnknown.into());
                }
                _ => return Err(error),
            },
        };
        let written = Written {
            fence: self.fence.as_str(),
            key: self.key.as_str(),
            version,
        };
        self.output.say(&written, || match version {
            Some(version) => format!("{} is in version {version}", self.key),
            None => format!("{} is deleted", self.key),
        })?;
        Ok(ExitCode::SUCCESS)
    }

    async fn send(
        &self,
        client: &Client,
        token: &fencegate::Token,
        options: WriteOptions,
    ) -> anyhow::Result<Option<Version>> {
        let (fence, key) = (&self.fence, &self.key);
        if self.delete {
            client.delete(fence, token, key, options).await?;
            return Ok(None);
        }
        let bytes = self.bytes()?;
        let version = if self.patch {
            let patch = serde_json::from_slice(&bytes).context("the merge patch is not JSON")?;
            client.patch(fence, token, key, &patch, options).await?
        } else {
            let content_type = self.content_type.clone();
            let value = Value { bytes, content_type };
            client.put(fence, token, key, value, options).await?
        };
        Ok(Some(version))
    }

    fn bytes(&self) -> anyhow::Result<Vec<u8>> {
        if let Some(value) = &self.value {
            return Ok(value.clone().into_bytes());
        }
        if let Some(file) = self.file.as_ref().filter(|file| file.as_os_str() != "-") {
            return std::fs::read(file).with_context(|| format!("reading {}", file.display()));
        }
        if self.token.takes_stdin() {
            super::usage("the standard input cannot have both the token and the value");
        }
        let mut bytes = Vec::new();
        std::io::stdin()
            .lock()
            .read_to_end(&mut bytes)
            .context("reading the standard input")?;
        Ok(bytes)
    }
}

/// What a header can have; more is the gateway's to judge.
fn content_type(text: &str) -> Result<String, String> {
    match reqwest::header::HeaderValue::from_str(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("a content type is written as text/plain, in one line".into()),
    }
}

fn version(text: &str) -> Result<Condition, String> {
    if text == "*" {
        return Ok(Condition::Present);
    }
    match text.trim_matches('"').parse() {
        Ok(number) if number > 0 => Ok(Condition::Version(Version(number))),
        _ => Err("a version is a number, as `fencegate read` shows it, or *".into()),
    }
}
