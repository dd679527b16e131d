//! Which gateway, and as whom: the flags and their environment.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use fencegate::client::Client;

/// Where `serve` listens unless it is told otherwise.
const DEFAULT: &str = "http://127.0.0.1:7411";

/// How long a gateway that is away, or restarting, is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Args)]
#[command(next_help_heading = "Gateway")]
pub(super) struct ThroughGateway {
    /// The gateway, as http://127.0.0.1:7411; FENCEGATE_GATEWAY stands in for it
    #[arg(long, value_name = "URL")]
    gateway: Option<String>,
    /// A file with the API key, or the JSON web token, to show; FENCEGATE_API_KEY has the key itself
    #[arg(long, value_name = "FILE", env = "FENCEGATE_API_KEY_FILE")]
    api_key_file: Option<PathBuf>,
    /// A file of PEM certificates that vouch for the gateway's, in place of the system's
    #[arg(long, value_name = "FILE", env = "FENCEGATE_CA")]
    ca: Option<PathBuf>,
    /// A file with the PEM certificate to show to the gateway
    #[arg(
        long,
        value_name = "FILE",
        env = "FENCEGATE_CLIENT_CERT",
        requires = "client_key"
    )]
    client_cert: Option<PathBuf>,
    /// A file with its PEM private key
    #[arg(
        long,
        value_name = "FILE",
        env = "FENCEGATE_CLIENT_KEY",
        requires = "client_cert"
    )]
    client_key: Option<PathBuf>,
}

impl ThroughGateway {
    /// Whether the command line says which.
    pub(super) fn is_said(&self) -> bool {
        self.gateway.is_some()
    }

    /// Whether the command line or the environment says which.
    pub(super) fn is_known(&self) -> bool {
        self.is_said() || from_environment("FENCEGATE_GATEWAY").is_some()
    }

    /// The one that is said, or else the one on this machine.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        let said = self
            .gateway
            .clone()
            .or_else(|| from_environment("FENCEGATE_GATEWAY"));
        let mut client = Client::builder(said.as_deref().unwrap_or(DEFAULT)).patience(PATIENCE);
        let key = match &self.api_key_file {
            Some(file) => Some(text(file)?.trim().to_owned()),
            None => from_environment("FENCEGATE_API_KEY"),
        };
        if let Some(key) = key {
            client = client.bearer(key);
        }
        if let Some(file) = &self.ca {
            client = client.authorities(text(file)?);
        }
        if let (Some(certificate), Some(key)) = (&self.client_cert, &self.client_key) {
            client = client.identity(format!("{}\n{}", text(certificate)?, text(key)?));
        }
        Ok(client.build()?)
    }
}

/// An empty variable is one that is not set.
fn from_environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn text(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))
}
