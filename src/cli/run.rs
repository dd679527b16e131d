//! `fencegate run`: a command under a fence, as `flock` and `consul lock` do it, with a token in its environment.

use std::{
    convert::Infallible,
    ffi::OsString,
    os::unix::process::ExitStatusExt,
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use fencegate::{FenceName, Options, Token, lock::given_back};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::{
    exit::Exit,
    held::{Held, Place},
    held_around::HeldAround,
    output::aside,
    servers::Servers,
    through_gateway::ThroughGateway,
};

/// How long this process lives on for what it could not give back yet.
const GIVING_BACK: Duration = Duration::from_secs(10);

/// How often to look whether a process group has ended.
const LOOK: Duration = Duration::from_millis(20);

/// How long to wait for a fence without a word.
const SILENCE: Duration = Duration::from_secs(2);

/// What the command finds in its environment.
const TOKEN: [&str; 2] = ["FENCEGATE_TOKEN", "FENCING_TOKEN"];
const HELD_FENCE: &str = "FENCEGATE_HELD_FENCE";

/// How long to wait where nothing is said: as long as it takes.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

#[derive(Args)]
#[command(
    after_help = "Exit status: the command's own, or 128 and the number of the signal that ended it, or the waiting for \
    the fence; 75 if the \
    fence was not to be had in time; 76 if the lease was lost and the command was ended for it; 1 and 2 for errors \
    before it was started.\n\nThe command finds its token in FENCEGATE_TOKEN and FENCING_TOKEN, and the fence in \
    FENCEGATE_HELD_FENCE. Whoever can read its environment can write as the holder. A run within a run of the same \
    fence shares its lease.\n\nThe fence is held in --store and --locks, or through a gateway with --gateway; \
    FENCEGATE_GATEWAY counts where neither the command line nor the environment names a store."
)]
pub(super) struct Run {
    /// The fence to hold while the command runs
    #[arg(long, value_name = "NAME", value_parser = |text: &str| text.parse::<FenceName>())]
    fence: FenceName,
    #[command(flatten)]
    servers: Servers,
    #[command(flatten)]
    gateway: ThroughGateway,
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
        let place = self.place().await?;
        let around = HeldAround::from_environment();
        if let Some(token) = around.token(&self.fence)
            && place.knows(&self.fence, token).await?
        {
            tracing::info!("the fence is held by a run around this one, so the command runs under its lease");
            let mut job = self.spawn(token, &around)?;
            return Ok(exit_code(job.attend(&mut signals).await?));
        }
        let options = Options {
            ttl: self.ttl,
            wait: self.wait.unwrap_or(FOREVER),
            label: self.label(),
            holder: None,
        };
        let acquired = tokio::select! {
            acquired = place.acquire(&self.fence, options) => acquired,
            never = self.say_who_is_waited_for(&place) => match never {},
            Some(signal) = signals.recv() => {
                let fence = &self.fence;
                aside(&format!("ended by {} while waiting for fence {fence}: the command was not started", name(signal)));
                let _ = tokio::time::timeout(GIVING_BACK, given_back()).await;
                return Ok(by_signal(signal.as_raw()));
            }
        };
        let Some(held) = acquired? else {
            let fence = &self.fence;
            aside(&format!("fence {fence} is held by another, and the wait is over"));
            return Ok(Exit::NotAcquired.into());
        };
        holding(self.under(held, around, signals)).await
    }

    /// Explains once why nothing happens, if it lasts. Does not end.
    async fn say_who_is_waited_for(&self, place: &Place) -> Infallible {
        tokio::time::sleep(SILENCE).await;
        // Who cannot be asked may still grant it: the acquisition says what is wrong.
        if let Ok(Some(holder)) = place.holder(&self.fence).await {
            let holder = Some(holder).filter(|label| !label.is_empty());
            let holder = holder.as_deref().unwrap_or("somebody who gave no label");
            aside(&format!(
                "waiting for fence {}, which is held by {holder}",
                self.fence
            ));
        }
        std::future::pending().await
    }

    async fn place(&self) -> anyhow::Result<Place> {
        if self.gateway.is_said() || (self.gateway.is_known() && !self.servers.are_known()) {
            return Ok(Place::Gateway(self.gateway.client()?));
        }
        if !self.servers.are_known() {
            aside(
                "no store is named, so the fence is held in ./fencegate.db: for runs in this folder alone (--store, \
                 FENCEGATE_STORE or DATABASE_URL names another)",
            );
        }
        Ok(Place::Direct(self.servers.connect().await?))
    }

    async fn under(
        self,
        held: Held,
        around: HeldAround,
        mut signals: mpsc::Receiver<Signal>,
    ) -> anyhow::Result<ExitCode> {
        let around = around.with(&self.fence, held.token());
        let mut job = self.spawn(held.token(), &around)?;
        let status = tokio::select! {
            status = job.attend(&mut signals) => Some(status?),
            () = held.lost() => None,
        };
        let Some(status) = status else {
            aside(&format!(
                "the lease on {} is lost, ending the command",
                self.fence
            ));
            self.end(&mut job).await?;
            return Ok(Exit::Lost.into());
        };
        if let Err(error) = held.release().await {
            // The command has done its work; the fence is free when the lease ends.
            aside(&format!(
                "the fence could not be released, and is free in {}: {error:#}",
                humantime::format_duration(self.ttl)
            ));
        }
        Ok(exit_code(status))
    }

    /// Starts the command in a process group of its own, so that all of it can be ended.
    fn spawn(&self, token: &Token, around: &HeldAround) -> anyhow::Result<Job> {
        let (program, arguments) = self.command.split_first().context("no command is given")?;
        let mut command = Command::new(program);
        command.args(arguments).process_group(0).kill_on_drop(true);
        command.envs(TOKEN.map(|name| (name, token.expose())));
        command.env(HELD_FENCE, self.fence.as_str());
        around.hand_on(&mut command);
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

    /// For people who ask who holds the fence.
    fn label(&self) -> String {
        let program = self.command.first().map(|program| program.to_string_lossy());
        super::label(&program.unwrap_or_default())
    }
}

/// Does what is done while a fence is held, in a task of its own: also if something in it panics, the lease is
/// dropped, and what is dropped is given back before this ends.
async fn holding<T: Send + 'static>(
    work: impl Future<Output = anyhow::Result<T>> + Send + 'static,
) -> anyhow::Result<T> {
    let done = tokio::spawn(work).await;
    let _ = tokio::time::timeout(GIVING_BACK, given_back()).await;
    done.context("the run failed unexpectedly")?
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

/// A job that is given up half way must not go on without its lease. One that has ended may have left others of its
/// group behind, which is its own affair.
impl Drop for Job {
    fn drop(&mut self) {
        if self.child.id().is_some() {
            self.signal(Signal::KILL);
        }
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

/// As `kill -l` has them, for those of [`signals`].
fn name(signal: Signal) -> &'static str {
    match signal {
        Signal::TERM => "SIGTERM",
        Signal::INT => "SIGINT",
        Signal::HUP => "SIGHUP",
        Signal::QUIT => "SIGQUIT",
        Signal::USR1 => "SIGUSR1",
        _ => "SIGUSR2",
    }
}

/// As shells have it.
fn exit_code(status: ExitStatus) -> ExitCode {
    match (status.code(), status.signal()) {
        (None, Some(signal)) => by_signal(signal),
        (code, _) => ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
    }
}

fn by_signal(signal: i32) -> ExitCode {
    ExitCode::from(u8::try_from(128 + signal).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use fencegate::Locks;

    use super::*;

    async fn locks(folder: &std::path::Path) -> Locks {
        let url = format!("sqlite:{}", folder.join("store.db").display());
        fencegate::connect(&url, None).await.unwrap()
    }

    #[tokio::test]
    async fn a_panic_leaves_neither_the_fence_nor_the_command_behind() {
        let folder = tempfile::tempdir().unwrap();
        let locks = locks(folder.path()).await;
        let long = Duration::from_secs(600);
        let held = Held::Direct(locks.acquire("a", long).await.unwrap());
        let sign = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", sign.display());
        let work = async move {
            let child = Command::new("sh")
                .args(["-c", &script])
                .process_group(0)
                .spawn()
                .unwrap();
            let group = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
            let _job = Job { child, group };
            while !std::fs::read_to_string(&sign).is_ok_and(|text| text.ends_with('\n')) {
                tokio::time::sleep(LOOK).await;
            }
            let _held = held;
            panic!("on purpose");
        };
        holding::<()>(work).await.unwrap_err();
        let grandchild = std::fs::read_to_string(folder.path().join("pid")).unwrap();
        let grandchild = grandchild.trim();
        locks
            .try_acquire("a", long)
            .await
            .expect("the fence is free at once");
        let alive = || {
            let stat = std::fs::read_to_string(format!("/proc/{grandchild}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        for _ in 0..1500 {
            if !alive() {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
        panic!("the command goes on");
    }
}
