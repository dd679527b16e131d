//! The scenarios, what they need, and what has to come of them.

use std::time::Duration;

use anyhow::{bail, ensure};
use clap::ValueEnum;

use super::{Guard, Late, Outcome, proxy::Detour, stage::Servers};

/// What happens to the holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// It is stopped past its lease, and wakes up
    Pause,
    /// It is cut off from the lock service, but not from the store
    Partition,
    /// The lock service's clock jumps, and its lock ends early
    Clock,
    /// It is killed in a transaction that goes on without it
    Crash,
    /// Redis loses its last writes, and gives two holders one number
    DuplicateToken,
}

impl Scenario {
    /// How long its leases last, if nothing else is said: where nothing has to expire by itself, long enough that it
    /// is nobody's fault.
    pub fn ttl(self) -> Duration {
        match self {
            Self::Clock | Self::DuplicateToken => Duration::from_secs(30),
            Self::Pause | Self::Partition | Self::Crash => Duration::from_secs(2),
        }
    }

    /// What it is about, in a line.
    pub fn headline(self) -> &'static str {
        match self {
            Self::Pause => "A is paused past its lease, B takes over, A wakes up",
            Self::Partition => "A is cut off from the lock service, B takes over",
            Self::Clock => "the lock service's clock jumps, B takes over early",
            Self::Crash => "A dies in a transaction, which goes on without it",
            Self::DuplicateToken => "Redis forgets, and gives two holders one number",
        }
    }

    /// Whether these servers can play it.
    ///
    /// # Errors
    /// With which they could.
    pub fn check(self, servers: &Servers) -> anyhow::Result<()> {
        let is = |url: &str, schemes: &[&str]| {
            let scheme = url.split(':').next().unwrap_or_default();
            schemes.contains(&scheme)
        };
        match self {
            Self::Pause | Self::Clock => {}
            Self::Partition => Detour::check(servers.locks_url())?,
            Self::Crash => ensure!(
                is(&servers.store, &["postgres", "postgresql"]),
                "the scenario crash is about a database server that goes on with a dead client's transaction, so it \
                 needs --store postgres://... (SQLite is a part of the process that is killed: its transaction dies \
                 with it)"
            ),
            Self::DuplicateToken => ensure!(
                is(servers.locks_url(), &["redis"]),
                "the scenario duplicate-token makes a Redis server forget its last writes, so it needs --locks \
                 redis://host:6379"
            ),
        }
        Ok(())
    }

    /// Checks that a run showed what it was to show.
    ///
    /// # Errors
    /// What is missing.
    pub fn verify(self, guard: Guard, outcome: &Outcome) -> anyhow::Result<()> {
        let lost = outcome.lost();
        match (guard, &outcome.late) {
            (Guard::Unfenced, _) => ensure!(
                !lost.is_empty(),
                "the run without the guard lost nothing, so this shows nothing"
            ),
            (Guard::Fenced, _) if !lost.is_empty() => bail!("the fenced run lost {lost:?}"),
            (Guard::Fenced, Late::Refused(problem)) if problem == "token-stale" => {}
            (Guard::Fenced, Late::Undone) if self == Self::Crash => {}
            (Guard::Fenced, Late::Refused(problem)) => {
                bail!("the late write was refused as {problem}, not as token-stale")
            }
            (Guard::Fenced, _) => bail!("the late write went through the guard"),
        }
        Ok(())
    }
}
