//! `fencegate read`: a record, or the list of a fence's records, through a gateway.

use std::process::ExitCode;

use base64::{Engine, prelude::BASE64_STANDARD};
use clap::Args;
use fencegate::{
    FenceName, RecordKey,
    client::{ListedRecord, ReadRecord},
    store::Version,
};
use serde::Serialize;

use super::{
    exit::Exit,
    output::{self, Output},
    through_gateway::ThroughGateway,
    token::ShownToken,
};

#[derive(Args)]
#[command(after_help = "Exit status: 66 if there is no such record, 77 if a fenced read is refused.")]
pub(super) struct Read {
    /// The fence
    #[arg(value_name = "FENCE", value_parser = super::fence)]
    fence: FenceName,
    /// The record, whose bytes are written as they are [default: list the fence's records]
    #[arg(value_name = "KEY", value_parser = |text: &str| text.parse::<RecordKey>())]
    key: Option<RecordKey>,
    /// List only keys that begin so
    #[arg(long, value_name = "TEXT", conflicts_with = "key", default_value = "")]
    prefix: String,
    /// Show the token, and read only if it is the newest
    #[arg(long, requires = "key")]
    fenced: bool,
    #[command(flatten)]
    token: ShownToken,
    #[command(flatten)]
    gateway: ThroughGateway,
    #[command(flatten)]
    output: Output,
}

/// A record; its value as text, if it is that.
#[derive(Serialize)]
struct Shown<'a> {
    fence: &'a str,
    key: &'a str,
    version: Version,
    content_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

impl Read {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.gateway.client()?;
        let Some(key) = &self.key else {
            let records = client.records(&self.fence, &self.prefix).all().await?;
            self.output.say(&records, || list(&records))?;
            return Ok(ExitCode::SUCCESS);
        };
        let record = match self.fenced {
            true => client.read_under(&self.fence, &self.token.get()?, key).await?,
            false => client.read(&self.fence, key).await?,
        };
        let Some(record) = record else {
            output::aside(&format!("there is no record {key} of {}", self.fence));
            return Ok(Exit::NotFound.into());
        };
        match self.output.is_json() {
            true => self.output.say(&shown(&self.fence, key, &record), String::new)?,
            false => output::bytes(&record.value.bytes)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn shown<'a>(fence: &'a FenceName, key: &'a RecordKey, record: &'a ReadRecord) -> Shown<'a> {
    let text = std::str::from_utf8(&record.value.bytes).ok();
    Shown {
        fence: fence.as_str(),
        key: key.as_str(),
        version: record.version,
        content_type: &record.value.content_type,
        value: text,
        value_base64: match text {
            Some(_) => None,
            None => Some(BASE64_STANDARD.encode(&record.value.bytes)),
        },
    }
}

fn list(records: &[ListedRecord]) -> String {
    let row = |record: &ListedRecord| {
        [
            record.key.clone(),
            record.version.to_string(),
            record.content_type.clone(),
            record.length.to_string(),
            record.updated_at.clone().unwrap_or_default(),
        ]
    };
    output::table(
        ["KEY", "VERSION", "TYPE", "BYTES", "WRITTEN"],
        records.iter().map(row),
    )
}
