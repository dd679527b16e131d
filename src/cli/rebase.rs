//! `fencegate rebase`: raises the epoch.

use std::io::{BufRead, IsTerminal, Write};

use clap::Args;
use fencegate::{
    Locks,
    store::{Audited, EpochState, Rebase as Asked},
};
use serde_json::json;

use super::{
    output::{self, Output},
    secret,
    servers::{self, ConfigFile},
};

#[derive(Args)]
#[command(
    after_help = "Every token from before is stale afterwards: holders acquire again, which leases of the library and \
    `fencegate run` notice by themselves. The next lease binds the new epoch to its lock service."
)]
pub(super) struct Rebase {
    #[command(flatten)]
    config: ConfigFile,
    /// The store: postgres://user@host:5432/database or sqlite:FILE (or DATABASE_URL)
    #[arg(long, value_name = "URL", env = "FENCEGATE_STORE", hide_env_values = true,
          value_parser = secret::read)]
    store: Option<String>,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT", required_unless_present_any = ["list", "dry_run"],
          value_parser = reason)]
    reason: Option<String>,
    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Show the audit log, newest first, and change nothing
    #[arg(long, conflicts_with_all = ["reason", "dry_run", "yes"])]
    list: bool,
    #[command(flatten)]
    output: Output,
}

impl Rebase {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let locks = servers::look_into_named_store(&self.store).await?;
        let done = if self.list {
            self.audit(&locks).await
        } else {
            self.rebase(&locks).await
        };
        done.map_err(|error| servers::at_store(&locks, error))
    }

    async fn audit(&self, locks: &Locks) -> anyhow::Result<()> {
        let lines = locks.store().audit(1000).await?;
        self.output.say(&lines, || {
            let heading = ["AT", "WHO", "ACTION", "EPOCH", "WAS", "BECAME", "REASON"];
            output::table(heading, lines.iter().map(row))
        })
    }

    async fn rebase(&self, locks: &Locks) -> anyhow::Result<()> {
        let store = locks.store();
        let (EpochState { epoch, bound }, quarantine) =
            (store.epoch_as_stored().await?, store.quarantine().await?);
        let bound = bound.map(|bound| bound.to_string());
        if self.dry_run {
            let would = json!({
                "epoch": epoch.get(), "bound": bound, "quarantine": quarantine, "store": store.describe(),
            });
            return self.output.say(&would, || {
                format!(
                    "epoch {epoch} of {} would be raised; it is bound to {}\n{}",
                    store.describe(),
                    bound.as_deref().unwrap_or("no lock service yet"),
                    quarantine.as_deref().unwrap_or("the store is not quarantined"),
                )
            });
        }
        if !self.yes {
            confirm(&format!(
                "This raises epoch {epoch} of {}. Every token is stale then, and all holders must acquire again.",
                store.describe()
            ))?;
        }
        let done = store
            .rebase(&Asked {
                reason: self.reason.clone().unwrap_or_default(),
                who: super::who(),
                expected: Some(epoch),
            })
            .await?;
        anyhow::ensure!(
            done.from != done.to,
            "the epoch is {} already: somebody else has raised it meanwhile",
            done.to
        );
        let said = json!({ "from_epoch": done.from.get(), "to_epoch": done.to.get(), "fences": done.fences });
        self.output.say(&said, || {
            format!(
                "the epoch is {} and was {}; {} fences are marked: every token from before is stale",
                done.to, done.from, done.fences
            )
        })
    }
}

/// A reason that says something.
fn reason(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("a rebase needs a reason, for whoever reads the audit log".into()),
        text => Ok(text.into()),
    }
}

fn confirm(what: &str) -> anyhow::Result<()> {
    anyhow::ensure!(
        std::io::stdin().is_terminal(),
        "nobody can be asked here whether to raise the epoch: give --yes"
    );
    let mut asked = std::io::stderr();
    write!(asked, "{what}\nGo on? Type yes: ").and_then(|()| asked.flush())?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    anyhow::ensure!(answer.trim() == "yes", "nothing was changed");
    Ok(())
}

fn row(line: &Audited) -> [String; 7] {
    let at = line.at.format(&time::format_description::well_known::Rfc3339);
    let epoch = match (line.from_epoch, line.to_epoch) {
        (from, to) if from == to => to.to_string(),
        (from, to) => format!("{from} to {to}"),
    };
    [
        at.unwrap_or_default(),
        line.who.clone(),
        line.action.clone(),
        epoch,
        line.was.clone(),
        line.became.clone(),
        line.reason.clone(),
    ]
}
