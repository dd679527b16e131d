//! `fencegate run`: a command under a fence, as `flock` and `consul lock` do it, with a token in its environment.

use std::{
    ffi::OsString,
    os::unix::process::ExitStatusExt,
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use fencegate::{FenceName, GrantError, Lease, LockError, Options, lock::given_back};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::servers::Servers;

/// Exit status: the fence was not to be had in time.
const NOT_ACQUIRED: u8 = 75;
/// Exit status: the lease was lost, and the command was ended for it.
const LOST: u8 = 76;

/// How often to look whether a process group has ended.
const LOOK: Duration = Duration::from_millis(20);

/// What the command finds in its environment.
const TOKEN: [&str; 2] = ["FENCEGATE_TOKEN", "FENCING_TOKEN"];
const HELD_FENCE: &str = "FENCEGATE_HELD_FENCE";

#[derive(Args)]
#[command(
    after_help = "Exit status: the command's own, or 128 and the number of the signal that ended it; 75 if the \
    fence was not to be had in time; 76 if the lease was lost and the command was ended for it; 1 and 2 for errors \
    before it was started.\n\nThe command finds its token in FENCEGATE_TOKEN and FENCING_TOKEN, and the fence in \
    FENCEGATE_HELD_FENCE. Whoever can read its environment can write as the holder."
)]
pub(super) struct Run {
    /// The fence to hold while the command runs
    #[arg(long, value_name = "NAME", value_parser = |text: &str| text.parse::<FenceName>())]
    fence: FenceName,
    #[command(flatten)]
    servers: Servers,
    /// How long the lease outlives its last renewal: how long others wait if this machine dies
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    ttl: Duration,
    /// How long to wait while others hold the fence [default: as long as it takes]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
    /// How long the command has to end after SIGTERM when the lease is lost, before SIGKILL
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    grace: Duration,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Run {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        // Before anything is held, so that no signal ends this process and leaves the command behind.
        let mut signals = signals()?;
        if std::env::var(HELD_FENCE).is_ok_and(|held| held == self.fence.as_str()) {
            tracing::info!(
                "the fence is held by the run around this one, so the command runs under its lease"
            );
            let mut job = self.spawn(None)?;
            return Ok(exit_code(job.attend(&mut signals).await?));
        }
        let options = Options {
            ttl: self.ttl,
            wait: self.wait.unwrap_or(Duration::from_secs(365 * 24 * 3600)),
            label: self.label(),
            holder: None,
        };
        let locks = self.servers.connect().await?;
        let lease = tokio::select! {
            lease = locks.acquire_with(&self.fence, options) => lease,
            _ = signals.recv() => {
                given_back().await;
                return Ok(ExitCode::from(NOT_ACQUIRED));
            }
        };
        let lease = match lease {
            Ok(lease) => lease,
            Err(GrantError::Lock(LockError::Busy { .. })) => {
                eprintln!(
                    "fencegate: fence {} is held by another, and the wait is over",
                    self.fence
                );
                return Ok(ExitCode::from(NOT_ACQUIRED));
            }
            Err(error) => return Err(error.into()),
        };
        // A task of its own, so that the lease is released even if something in it panics.
        let done = tokio::spawn(async move { self.under(lease, signals).await }).await;
        given_back().await;
        done.context("the run failed unexpectedly")?
    }

    async fn under(self, lease: Lease, mut signals: mpsc::Receiver<Signal>) -> anyhow::Result<ExitCode> {
        let mut job = self.spawn(Some(&lease))?;
        let status = tokio::select! {
            status = job.attend(&mut signals) => Some(status?),
            () = lease.lost() => None,
        };
        let Some(status) = status else {
            eprintln!(
                "fencegate: the lease on {} is lost, ending the command",
                self.fence
            );
            self.end(&mut job).await?;
            return Ok(ExitCode::from(LOST));
        };
        if let Err(error) = lease.release().await {
            // The command has done its work; the fence is free when the lease ends.
            eprintln!(
                "fencegate: the fence could not be released, and is free in {:?}: {error}",
                self.ttl
            );
        }
        Ok(exit_code(status))
    }

    /// Starts the command in a process group of its own, so that all of it can be ended.
    fn spawn(&self, lease: Option<&Lease>) -> anyhow::Result<Job> {
        let (program, arguments) = self.command.split_first().context("no command is given")?;
        let mut command = Command::new(program);
        command.args(arguments).process_group(0).kill_on_drop(true);
        if let Some(lease) = lease {
            command.envs(TOKEN.map(|name| (name, lease.token().expose())));
            command.env(HELD_FENCE, self.fence.as_str());
        }
        let child = command
            .spawn()
            .with_context(|| format!("cannot run {}", program.to_string_lossy()))?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Ok(Job {
            child,
            group: group.context("the command ended at once")?,
        })
    }

    /// SIGTERM to the whole group, and SIGKILL to what is left of it after the grace period.
    async fn end(&self, job: &mut Job) -> anyhow::Result<()> {
        job.signal(Signal::TERM);
        let gone = async {
            job.child.wait().await?;
            while test_kill_process_group(job.group).is_ok() {
                tokio::time::sleep(LOOK).await;
            }
            anyhow::Ok(())
        };
        match tokio::time::timeout(self.grace, gone).await {
            Ok(gone) => gone,
            Err(_) => {
                job.signal(Signal::KILL);
                job.child.wait().await?;
                Ok(())
            }
        }
    }

    /// For people who ask who holds the fence: the program and the machine.
    fn label(&self) -> String {
        let program = self
            .command
            .first()
            .map(|program| program.to_string_lossy())
            .unwrap_or_default();
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let label: String = format!("{program} on {host}, process {}", std::process::id());
        label.chars().filter(|c| !c.is_control()).take(60).collect()
    }
}

/// A command that runs, and the process group that it leads.
struct Job {
    child: Child,
    group: Pid,
}

impl Job {
    /// Waits for the command, passing signals on.
    async fn attend(&mut self, signals: &mut mpsc::Receiver<Signal>) -> anyhow::Result<ExitStatus> {
        loop {
            tokio::select! {
                status = self.child.wait() => return Ok(status?),
                Some(signal) = signals.recv() => self.signal(signal),
            }
        }
    }

    fn signal(&self, signal: Signal) {
        // It may have ended meanwhile.
        let _ = kill_process_group(self.group, signal);
    }
}

/// The signals that are passed on to the command.
fn signals() -> anyhow::Result<mpsc::Receiver<Signal>> {
    let (sender, receiver) = mpsc::channel(16);
    for (kind, passed_on) in [
        (SignalKind::terminate(), Signal::TERM),
        (SignalKind::interrupt(), Signal::INT),
        (SignalKind::hangup(), Signal::HUP),
        (SignalKind::quit(), Signal::QUIT),
        (SignalKind::user_defined1(), Signal::USR1),
        (SignalKind::user_defined2(), Signal::USR2),
    ] {
        let (mut stream, sender) = (signal(kind)?, sender.clone());
        tokio::spawn(async move {
            while stream.recv().await.is_some() && sender.send(passed_on).await.is_ok() {}
        });
    }
    Ok(receiver)
}

/// As shells have it.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
