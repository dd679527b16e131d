//! `fencegate demo`: watch a lock holder lose its lock without knowing, write, and be refused.

use std::{
    cell::RefCell,
    io::{self, IsTerminal},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context;
use clap::ValueEnum;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use fencegate::FenceName;

use super::output;
use crate::demo::{
    self, Event, Guard, Late, Outcome, Plan, Run, Scenario, Servers,
    picture::picture,
    timeline::{HEAD, Timeline},
    writer::Writer,
};

/// What `fencegate demo` takes. Flags only: what the environment says is meant for production, where the run
/// without the guard has no business.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without flags, store and locks are a temporary SQLite file. The scenarios pause and clock take any \
    store and any lock service. partition needs a lock service on a network, without TLS: --locks etcd://..., \
    zookeeper://..., redis://..., redlock://..., or postgres://.... crash needs --store postgres://.... \
    duplicate-token needs --locks redis://....\n\nThe demo takes no server from the environment. It brings \
    the store's tables up to this version, and binds the store's epoch to the lock service if it is bound to none \
    yet: try it on servers that you do not need. It takes away its records and its locks. What stays are the marks of \
    the two fences that it used, named demo:..., and what lock services keep of every fence: a counter (redis, \
    redlock, postgres, sqlite) or an empty znode (zookeeper)."
)]
pub(super) struct Demo {
    /// What happens to the writer that holds the fence
    #[arg(long, value_name = "SCENARIO", default_value = "pause")]
    scenario: Scenario,

    /// Where marks and records are kept: postgres://... or sqlite:FILE [default: a temporary file]
    #[arg(long, value_name = "URL")]
    store: Option<String>,

    /// What hands out the locks: etcd://host:2379, postgres://..., ... [default: the store itself]
    #[arg(long, value_name = "URL")]
    locks: Option<String>,

    /// How long a lease outlives its last renewal [default: 2s, and 30s where nothing has to expire by itself]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    ttl: Option<Duration>,

    /// Draw what happened into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// A time line, or a line of JSON for each event and each outcome
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl Demo {
    /// Shows the story, unless nobody reads.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let teller = Teller {
            format: self.output,
            colour: io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty()),
            unheard: RefCell::default(),
            given_up: CancellationToken::new(),
        };
        // To its end also when nobody reads any more: what it has started is ended, and what it has written taken away.
        let shown = self.show(&teller).await;
        match teller.unheard.into_inner() {
            Some(error) => output::unheard(error),
            None => shown,
        }
    }

    /// Shows the story with the guard and without.
    async fn show(self, teller: &Teller) -> anyhow::Result<()> {
        let folder = TemporaryFolder::new()?;
        let given = self.store.is_some();
        let servers = Servers {
            store: self
                .store
                .unwrap_or_else(|| format!("sqlite:{}", folder.0.join("demo.db").display())),
            locks: self.locks,
        };
        let locks = servers.connect().await?;
        self.scenario.check(&servers)?;
        locks.migrate().await?;
        Servers::check_history(&locks).await?;
        let (kind, store) = (locks.service().kind(), locks.store().describe());
        drop(locks);
        let plan = Plan {
            scenario: self.scenario,
            ttl: self.ttl.unwrap_or(self.scenario.ttl()),
        };
        teller.say(&match given {
            true => format!("store: {store}\nlocks: {kind}"),
            false => format!("store: sqlite, a file that goes away with the demo\nlocks: {kind}"),
        });

        let mut runs = Vec::new();
        for guard in [Guard::Fenced, Guard::Unfenced] {
            teller.begin(guard, &plan);
            let (lines, first) = (Timeline::new(teller.colour), std::cell::Cell::new(true));
            let run = demo::run(&servers, guard, &plan, &teller.given_up, |event| {
                if first.take() {
                    teller.say(HEAD);
                }
                teller.event(guard, &lines, event);
            })
            .await?;
            teller.end(guard, &run.outcome);
            runs.push(run);
        }
        if let Some(file) = &self.svg {
            let drawn = picture(&plan, kind, &runs);
            std::fs::write(file, drawn).with_context(|| format!("writing {}", file.display()))?;
            teller.say(&format!("\ndrawn in {}", file.display()));
        }
        for Run { guard, outcome, .. } in &runs {
            plan.scenario.verify(*guard, outcome)?;
        }
        teller.say("\nBoth runs were the same, but for the guard.");
        Ok(())
    }
}

/// Says things on the standard output.
struct Teller {
    format: Format,
    colour: bool,
    /// Why nothing can be said any more.
    unheard: RefCell<Option<io::Error>>,
    /// Ends the demo then.
    given_up: CancellationToken,
}

impl Teller {
    /// Something for people.
    fn say(&self, text: &str) {
        if self.format == Format::Text {
            self.print(text);
        }
    }

    fn print(&self, text: impl std::fmt::Display) {
        if self.given_up.is_cancelled() {
            return;
        }
        if let Err(error) = output::write(format!("{text}\n").as_bytes()) {
            self.given_up.cancel();
            *self.unheard.borrow_mut() = Some(error);
        }
    }

    fn begin(&self, guard: Guard, plan: &Plan) {
        self.say(&match guard {
            Guard::Fenced => format!("\nWITH FENCEGATE: {}\n", plan.scenario.headline()),
            Guard::Unfenced => "\nTHE SAME WITHOUT THE GUARD: whoever writes is believed\n".into(),
        });
    }

    fn event(&self, guard: Guard, lines: &Timeline, event: &Event) {
        match self.format {
            Format::Json => self.print(tagged(guard, event)),
            Format::Text => {
                if let Some(line) = lines.line(event) {
                    self.print(line);
                }
            }
        }
    }

    fn end(&self, guard: Guard, outcome: &Outcome) {
        match self.format {
            Format::Json => {
                let done = json!({ "outcome": outcome, "lost": outcome.lost() });
                self.print(tagged(guard, &done));
            }
            Format::Text => {
                let (text, colour) = (verdict(outcome), if outcome.lost().is_empty() { 32 } else { 31 });
                match self.colour {
                    true => self.print(format_args!("\n\x1b[1;{colour}m{text}\x1b[0m")),
                    false => self.print(format_args!("\n{text}")),
                }
            }
        }
    }
}

/// A line of JSON, with the run that it belongs to.
fn tagged(guard: Guard, what: &impl serde::Serialize) -> serde_json::Value {
    let mut line = json!({ "run": guard });
    if let (Some(line), Ok(serde_json::Value::Object(what))) =
        (line.as_object_mut(), serde_json::to_value(what))
    {
        line.extend(what);
    }
    line
}

fn verdict(outcome: &Outcome) -> String {
    let late = match &outcome.late {
        Late::Refused(problem) => {
            format!("the late write was refused ({problem}), A read again and wrote anew")
        }
        Late::Undone => "the dead writer's transaction was undone before B was let in".into(),
        Late::Accepted => "the late write went through".into(),
    };
    format!("=> {late}\n=> {}", outcome.count())
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
    waits: bool,
    /// Write into this table, not through the gateway.
    #[arg(long)]
    table: Option<String>,
    #[arg(long)]
    guarded: bool,
    #[arg(long, conflicts_with = "guarded")]
    unguarded: bool,
    #[arg(long, allow_negative_numbers = true)]
    slow: Option<i64>,
}

impl DemoWriter {
    /// Runs a writer to its end.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let writer = Writer {
            name: self.name,
            gateway: self.gateway,
            fence: self.fence,
            ttl: self.ttl,
            waits: self.waits,
        };
        match self.table {
            None => writer.run().await,
            #[cfg(feature = "postgres")]
            Some(table) => {
                let (guarded, slow) = (self.guarded, self.slow);
                let transaction = demo::crash::InTable { table, guarded, slow };
                transaction.run(writer).await
            }
            #[cfg(not(feature = "postgres"))]
            Some(_) => anyhow::bail!("this build has no Postgres"),
        }
    }
}

/// A folder that goes away with the demo.
struct TemporaryFolder(PathBuf);

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
