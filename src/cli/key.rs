//! `fencegate key`: API keys.

use clap::{Args, Subcommand};
use fencegate::gateway::auth::{self, ApiKey};
use serde_json::json;

use super::output::Output;

#[derive(Args)]
pub(super) struct Key {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make an API key, and print it, this once, with what the clients file keeps of it
    New(New),
}

#[derive(Args)]
struct New {
    /// Whose key it is
    #[arg(value_name = "NAME", value_parser = name)]
    name: String,
    #[command(flatten)]
    output: Output,
}

/// One that the clients file can have.
fn name(text: &str) -> Result<String, auth::NotAName> {
    auth::check_name(text).map(|()| text.to_owned())
}

impl Key {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Verb::New(New { name, output }) = self.verb;
        let key = ApiKey::generate()?;
        let hashed = key.hashed().to_string();
        let made = json!({"name": name, "key": key.expose(), "hashed": hashed});
        // JSON's texts are TOML's.
        let quoted = &made["name"];
        output.say(&made, || {
            format!(
                "The key, which is shown this once. Its client sends it as Authorization: Bearer KEY:\n\n  {}\n\nWhat \
                 the clients file keeps of it, with rights to be made fewer, as by \"invoices:*\":\n\n  \
                 [clients.{quoted}]\n  keys = [\"{hashed}\"]\n  rights = {{ \"*\" = [\"lease\", \"write\", \"read\"] }}",
                key.expose()
            )
        })
    }
}
