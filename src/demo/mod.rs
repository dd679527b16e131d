//! The demo: two processes share a fence, one is really stopped in the middle of its work, and its late write is
//! refused; then the same without the guard, which loses an update.
//!
//! Both writers are child processes that speak HTTP to a gateway in this one. Each reads a ledger, adds its
//! name and writes it back, under a lease. The first is stopped with SIGSTOP between reading and writing, until
//! its lease has expired and the second has written.

mod child;
mod event;
mod unfenced;
pub mod writer;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context, bail, ensure};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use self::event::{Event, Happening, Who};
use self::{child::Child, event::Reporter, unfenced::Unfenced};
use fencegate::{FenceName, Locks, RecordKey, Store, gateway};

/// The record that the writers share.
pub const LEDGER: &str = "ledger";

/// How long a step may take beyond the TTL before the demo gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// What to show.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The time to live that the writers ask for.
    pub ttl: Duration,
}

/// Whether the guard stands in the way of stale writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// As fencegate is.
    Fenced,
    /// Whoever writes is believed to hold the lock.
    Unfenced,
}

/// What came of one run.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The updates that a writer was told were written.
    pub acknowledged: Vec<String>,
    /// The updates that the ledger holds in the end.
    pub kept: BTreeSet<String>,
    /// How the late write was refused; `None` if it went through.
    pub late_refusal: Option<String>,
}

impl Outcome {
    /// The updates that were acknowledged and are gone.
    pub fn lost(&self) -> Vec<&str> {
        let gone = self.acknowledged.iter().filter(|name| !self.kept.contains(*name));
        gone.map(String::as_str).collect()
    }
}

/// Runs the story once, telling `report` each thing as it happens.
///
/// # Errors
/// When a part of it cannot be started, or does not do what the story needs within its time.
pub async fn run(
    locks: &Locks,
    guard: Guard,
    plan: &Plan,
    report: impl Fn(&Event) + Send + Sync,
) -> anyhow::Result<Outcome> {
    let store: Arc<dyn Store> = match guard {
        Guard::Fenced => locks.store().clone(),
        Guard::Unfenced => Arc::new(Unfenced::new(locks.store().clone())),
    };
    let gateway = Gateway::start(Locks::new(locks.service().clone(), store.clone())).await?;
    let fence: FenceName = format!("demo:{}", uuid::Uuid::new_v4().simple()).parse()?;
    let reporter = Reporter::new(&report);
    let outcome = tokio::time::timeout(
        plan.ttl * 4 + PATIENCE * 2,
        story(&gateway.url, &fence, plan, &reporter, store.as_ref()),
    )
    .await
    .context("the demo did not come to its end in time")?;
    gateway.stop().await?;
    outcome
}

async fn story(
    url: &str,
    fence: &FenceName,
    plan: &Plan,
    reporter: &Reporter<'_>,
    store: &dyn Store,
) -> anyhow::Result<Outcome> {
    let mut a = Child::start("A", url, fence, plan.ttl, true)?;
    a.until(reporter, |happening| matches!(happening, Happening::Read { .. }))
        .await?;
    a.stop().await?;
    reporter.note(Who::Demo, Happening::Stopped);
    // The child cannot see this before it is woken.
    a.go_on().await?;

    let mut b = Child::start("B", url, fence, plan.ttl, false)?;
    b.finish(reporter).await?;

    a.wake()?;
    reporter.note(Who::Demo, Happening::Woken);
    a.finish(reporter).await?;

    let happened: Vec<_> = a.happened().iter().chain(b.happened()).collect();
    let late = a.happened().iter().find_map(|happening| match happening {
        Happening::Refused { problem, .. } => Some(Some(problem.clone())),
        Happening::Wrote { .. } => Some(None),
        _ => None,
    });
    let acknowledged = happened.iter().filter_map(|happening| match happening {
        Happening::Wrote { added, .. } => Some(added.clone()),
        _ => None,
    });
    let ledger = store
        .read(fence, &LEDGER.parse::<RecordKey>()?)
        .await?
        .context("nobody wrote the ledger")?;
    Ok(Outcome {
        acknowledged: acknowledged.collect(),
        kept: serde_json::from_slice(&ledger.value.bytes).context("the ledger is not a list of names")?,
        late_refusal: late.context("A never tried to write")?,
    })
}

/// Checks that a run showed what it was to show.
///
/// # Errors
/// What is missing.
pub fn verify(guard: Guard, outcome: &Outcome) -> anyhow::Result<()> {
    let lost = outcome.lost();
    match guard {
        Guard::Fenced => {
            ensure!(lost.is_empty(), "the fenced run lost {lost:?}");
            match outcome.late_refusal.as_deref() {
                Some("token-stale") => Ok(()),
                Some(other) => bail!("the late write was refused as {other}, not as token-stale"),
                None => bail!("the late write went through the guard"),
            }
        }
        Guard::Unfenced => {
            ensure!(
                !lost.is_empty(),
                "the run without the guard lost nothing, so this shows nothing"
            );
            Ok(())
        }
    }
}

/// A gateway in this process.
struct Gateway {
    url: String,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), gateway::ServeError>>,
}

impl Gateway {
    async fn start(locks: Locks) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .context("no free port on 127.0.0.1")?;
        let url = format!("http://{}", listener.local_addr()?);
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone().cancelled_owned();
        let task = tokio::spawn(gateway::serve(listener, stop, locks, gateway::Config::default()));
        Ok(Self { url, shutdown, task })
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        Ok(self.task.await??)
    }
}
