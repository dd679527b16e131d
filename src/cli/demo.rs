//! `fencegate demo`: watch a paused lock holder wake up, write, and be refused.

use std::time::Duration;

use anyhow::Context;

use fencegate::{FenceName, connect};

use crate::demo::{self, Event, Guard, Outcome, Plan, writer::Writer};

/// What `fencegate demo` takes. Flags only: what the environment says is meant for production, where the run
/// without the guard has no business.
#[derive(Debug, clap::Args)]
pub(super) struct Demo {
    /// Where marks and records are kept: postgres://... or sqlite:FILE [default: a temporary file]
    #[arg(long, value_name = "URL")]
    store: Option<String>,

    /// What hands out the locks: etcd://host:2379, postgres://..., ... [default: the store itself]
    #[arg(long, value_name = "URL")]
    locks: Option<String>,

    /// How long a lease outlives its last renewal
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = humantime::parse_duration)]
    ttl: Duration,
}

impl Demo {
    /// Shows the story with the guard and without.
    ///
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let folder = TemporaryFolder::new()?;
        let given = self.store.is_some();
        let store = self
            .store
            .unwrap_or_else(|| format!("sqlite:{}", folder.0.join("demo.db").display()));
        let locks = connect(&store, self.locks.as_deref()).await?;
        locks.migrate().await?;
        let plan = Plan { ttl: self.ttl };
        match given {
            true => println!("store: {}", locks.store().describe()),
            false => println!("store: sqlite, a file that goes away with the demo"),
        }
        println!("locks: {}", locks.service().kind());

        println!("\nWITH FENCEGATE: A is paused past its lease, B takes over, A wakes up\n");
        let fenced = demo::run(&locks, Guard::Fenced, &plan, print).await?;
        println!("\n{}", verdict(&fenced));

        println!("\nTHE SAME WITHOUT THE GUARD: whoever writes is believed\n");
        let control = demo::run(&locks, Guard::Unfenced, &plan, print).await?;
        println!("\n{}", verdict(&control));

        demo::verify(Guard::Fenced, &fenced)?;
        demo::verify(Guard::Unfenced, &control)?;
        println!("\nThe lock expired in both runs. The guard made the difference.");
        Ok(())
    }
}

fn print(event: &Event) {
    println!("{event}");
}

fn verdict(outcome: &Outcome) -> String {
    let lost = outcome.lost();
    let late = match &outcome.late_refusal {
        Some(problem) => format!("the late write was refused ({problem}), A read again and wrote anew"),
        None => "the late write went through".into(),
    };
    let lost = match lost.len() {
        0 => "0 lost".into(),
        count => format!("{count} LOST ({})", lost.join(", ")),
    };
    format!(
        "=> {late}\n=> {} updates acknowledged, {lost}",
        outcome.acknowledged.len()
    )
}

/// What the demo starts its writers with.
#[derive(Debug, clap::Args)]
pub(super) struct DemoWriter {
    #[arg(long)]
    name: String,
    #[arg(long)]
    gateway: String,
    #[arg(long, value_parser = |text: &str| text.parse::<FenceName>())]
    fence: FenceName,
    #[arg(long, value_parser = humantime::parse_duration)]
    ttl: Duration,
    #[arg(long)]
    pause: bool,
}

impl DemoWriter {
    /// Runs a writer to its end.
    ///
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let Self {
            name,
            gateway,
            fence,
            ttl,
            pause,
        } = self;
        Writer {
            name,
            gateway,
            fence,
            ttl,
            pause,
        }
        .run()
        .await?;
        Ok(())
    }
}

/// A folder that goes away with the demo.
struct TemporaryFolder(std::path::PathBuf);

impl TemporaryFolder {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("fencegate-demo-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&path).with_context(|| format!("making the folder {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
