//! `fencegate config`: what the settings come to, and whether a gateway could start with them.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    output::{self, Output},
    secret::HIDDEN,
    serve::Serve,
    settings::{Effective, Settings},
};

#[derive(Args)]
pub(super) struct Config {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Print what `serve` would go by, as a settings file, with where each value is from; secrets are hidden
    Print(Print),
    /// Find out whether `serve` could go by it: reads all files, and asks no server
    Check(Box<Check>),
}

#[derive(Args)]
struct Print {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    serve: Box<Serve>,
}

#[derive(Args)]
struct Check {
    #[command(flatten)]
    serve: Serve,
}

impl Config {
    pub(super) async fn run(self, settings: &Settings) -> anyhow::Result<()> {
        match self.verb {
            Verb::Print(Print { output, .. }) => {
                let all = settings.effective();
                output.say(&json(&all), || toml(&all))
            }
            Verb::Check(check) => {
                check.serve.check().await?;
                output::line(&match settings.file() {
                    Some(file) => format!("{} and what goes with it can be used", file.path().display()),
                    None => "the settings can be used; there is no settings file".into(),
                })
            }
        }
    }
}

fn json(settings: &[Effective]) -> serde_json::Value {
    let all = settings.iter().map(|one| {
        (
            one.key.clone(),
            json!({"value": shown(one), "source": one.source}),
        )
    });
    serde_json::Value::Object(all.collect())
}

/// The text of a settings file.
fn toml(settings: &[Effective]) -> String {
    let lines = settings.iter().map(|one| match shown(one) {
        None => format!("# {} is not set", one.key),
        // JSON's texts and lists of texts are TOML's.
        Some(value) => format!("{} = {value}  # {}", one.key, one.source),
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn shown(one: &Effective) -> Option<serde_json::Value> {
    let mut values: Vec<_> = one.values.clone()?;
    if one.is_secret {
        values = values.iter().map(|value| hidden(value)).collect();
    }
    Some(match one.is_list {
        true => json!(values),
        false => json!(values.join(",")),
    })
}

/// A URL without all that may be secret in it; a file's name is none.
fn hidden(value: &str) -> String {
    match value.split_once(':') {
        Some(("file", _)) => value.to_owned(),
        Some((scheme, _))
            if scheme.len() < 20
                && scheme
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'+') =>
        {
            format!("{scheme}:{HIDDEN}")
        }
        _ => HIDDEN.into(),
    }
}
