//! The demo: two processes share a fence, something happens to the one that holds it, and its late write is refused;
//! then the same without the guard, which loses an update.
//!
//! Both writers are child processes that speak HTTP to a gateway in this one, each to its own. Each reads a ledger,
//! adds its name and writes it back, under a lease. What happens to the first one in between is the
//! [`Scenario`]; it happens for real, and what is told and drawn are the time stamps of those who did it.

mod child;
#[cfg(feature = "postgres")]
pub mod crash;
mod event;
#[cfg(feature = "redis")]
mod forgetting;
pub mod picture;
mod proxy;
mod scenario;
mod stage;
mod stories;
pub mod timeline;
mod watched;
pub mod writer;

use std::{collections::BTreeSet, time::Duration};

use anyhow::Context;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use self::{event::Reporter, proxy::Detour, stage::Stage};
pub use self::{
    event::{Event, Happening, Who},
    scenario::Scenario,
    stage::Servers,
};

/// The record that the writers share.
pub const LEDGER: &str = "ledger";

/// How long a step may take beyond the TTL before the demo gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// What to show.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What happens to A.
    pub scenario: Scenario,
    /// The time to live that the writers ask for.
    pub ttl: Duration,
}

/// Whether the guard stands in the way of stale writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Guard {
    /// As fencegate is.
    Fenced,
    /// Whoever writes is believed to hold the lock.
    Unfenced,
}

/// What became of A's late write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Late {
    /// It was refused, as this problem.
    Refused(String),
    /// Its transaction was ended before it could commit.
    Undone,
    /// It went through.
    Accepted,
}

/// What came of one run.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The updates that a writer was told were written.
    pub acknowledged: Vec<String>,
    /// The updates that the ledger holds in the end.
    pub kept: BTreeSet<String>,
    /// What became of the late write.
    pub late: Late,
}

impl Outcome {
    /// The updates that were acknowledged and are gone.
    pub fn lost(&self) -> Vec<&str> {
        let gone = self.acknowledged.iter().filter(|name| !self.kept.contains(*name));
        gone.map(String::as_str).collect()
    }

    /// How many there were, and how many are gone, in words.
    pub fn count(&self) -> String {
        let (acknowledged, lost) = (self.acknowledged.len(), self.lost());
        let updates = if acknowledged == 1 { "update" } else { "updates" };
        match lost.len() {
            0 => format!("{acknowledged} {updates} acknowledged, 0 lost"),
            count => format!(
                "{acknowledged} {updates} acknowledged, {count} LOST ({})",
                lost.join(", ")
            ),
        }
    }
}

/// One run, from its start to its end.
#[derive(Debug, Clone)]
pub struct Run {
    /// With the guard or without.
    pub guard: Guard,
    /// What came of it.
    pub outcome: Outcome,
    /// What happened, in its order.
    pub events: Vec<Event>,
}

/// Plays the scenario once, telling each thing a moment after it has happened.
///
/// # Errors
/// When a part of it cannot be started, or does not do what the story needs within its time; and when it is given up.
pub async fn run(
    servers: &Servers,
    guard: Guard,
    plan: &Plan,
    given_up: &CancellationToken,
    tell: impl Fn(&Event),
) -> anyhow::Result<Run> {
    let (reporter, reported) = Reporter::start();
    let done = CancellationToken::new();
    let play = async {
        let _done = done.clone().drop_guard();
        let detour = match plan.scenario {
            Scenario::Partition => Some(Detour::to(servers.locks_url()).await?),
            _ => None,
        };
        let stage = Stage::set(servers, guard, plan, &reporter, detour.as_ref()).await?;
        let story = stories::play(plan.scenario, &stage, detour.as_ref());
        let outcome = tokio::select! {
            outcome = tokio::time::timeout(plan.ttl * 4 + PATIENCE * 2, story) => {
                outcome.context("the demo did not come to its end in time").flatten()
            }
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
            () = given_up.cancelled() => Err(anyhow::anyhow!("given up")),
        };
        #[cfg(feature = "postgres")]
        let tidied = match plan.scenario {
            Scenario::Crash => crash::clear(&stage).await,
            _ => Ok(()),
        };
        #[cfg(not(feature = "postgres"))]
        let tidied = anyhow::Ok(());
        let cleared = stage.clear().await.context("clearing up after the demo");
        let outcome = outcome?;
        tidied?;
        cleared?;
        anyhow::Ok(outcome)
    };
    let (outcome, events) = tokio::join!(play, reported.in_order(&done, tell));
    Ok(Run {
        guard,
        outcome: outcome?,
        events,
    })
}
