//! A writer's process, seen from the demo.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{ChildStdin, ChildStdout, Command},
};

use super::{
    PATIENCE,
    event::{Happening, Reporter, Who},
    writer::{Line, Order},
};
use fencegate::name::FenceName;

/// A writer's process. It is killed when this is dropped.
pub(super) struct Child {
    who: Who,
    process: tokio::process::Child,
    pid: Pid,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    happened: Vec<Happening>,
    patience: Duration,
    reporter: Reporter,
}

/// What a writer's process is told when it starts.
pub(super) struct Start<'a> {
    pub(super) who: Who,
    pub(super) gateway: &'a str,
    pub(super) fence: &'a FenceName,
    pub(super) ttl: Duration,
    pub(super) waits: bool,
    /// The way in which it writes, if not through the gateway.
    pub(super) more: &'a [&'a str],
}

impl Child {
    /// Starts this very program as a writer. It inherits no environment.
    pub(super) fn start(start: &Start, reporter: &Reporter) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("where this program is")?;
        let mut command = Command::new(program);
        command
            .env_clear()
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        command.arg("demo-writer").args([
            "--name",
            &start.who.to_string(),
            "--gateway",
            start.gateway,
            "--fence",
            start.fence.as_str(),
        ]);
        command
            .arg("--ttl")
            .arg(humantime::format_duration(start.ttl).to_string());
        if start.waits {
            command.arg("--waits");
        }
        command.args(start.more);
        let mut process = command.spawn().context("starting a writer")?;
        let pid = process.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Ok(Self {
            who: start.who,
            pid: pid.context("the writer ended at once")?,
            input: process.stdin.take().context("the writer's input")?,
            output: BufReader::new(process.stdout.take().context("the writer's output")?).lines(),
            process,
            happened: Vec::new(),
            patience: start.ttl * 2 + PATIENCE,
            reporter: reporter.clone(),
        })
    }

    /// What it has told so far.
    pub(super) fn happened(&self) -> &[Happening] {
        &self.happened
    }

    /// Passes on what it tells, until `last` has happened.
    pub(super) async fn until(&mut self, last: impl Fn(&Happening) -> bool) -> anyhow::Result<()> {
        while let Some(happening) = self.next().await? {
            if last(happening) {
                return Ok(());
            }
        }
        bail!(
            "writer {} ended too early; what it says of that is above",
            self.who
        );
    }

    /// Passes on what it tells until it has ended, well.
    pub(super) async fn finish(&mut self) -> anyhow::Result<()> {
        while self.next().await?.is_some() {}
        let status = self.process.wait().await?;
        ensure!(status.success(), "writer {} failed: {status}", self.who);
        Ok(())
    }

    async fn next(&mut self) -> anyhow::Result<Option<&Happening>> {
        let line = tokio::time::timeout(self.patience, self.output.next_line())
            .await
            .with_context(|| format!("writer {} says nothing", self.who))??;
        let Some(line) = line else {
            return Ok(None);
        };
        let line: Line = serde_json::from_str(&line).with_context(|| format!("a writer said {line:?}"))?;
        let moment = Duration::from_micros(line.at_us);
        self.reporter.at(moment, self.who, line.happening.clone());
        self.happened.push(line.happening);
        Ok(self.happened.last())
    }

    /// Tells a writer that waits what to do.
    pub(super) async fn order(&mut self, order: Order) -> anyhow::Result<()> {
        self.say(&serde_json::to_string(&order)?).await
    }

    /// Gives it a line to read.
    pub(super) async fn say(&mut self, line: &str) -> anyhow::Result<()> {
        Ok(self.input.write_all(format!("{line}\n").as_bytes()).await?)
    }

    /// Stops the process, and comes back when it surely does nothing any more.
    pub(super) async fn stop(&self) -> anyhow::Result<()> {
        kill_process(self.pid, Signal::STOP).context("stopping a writer")?;
        let pid = self.pid;
        // Leaves the process for whoever waits for its end.
        let look = WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT;
        tokio::task::spawn_blocking(move || waitid(WaitId::Pid(pid), look))
            .await?
            .context("a stopped writer")?;
        Ok(())
    }

    /// Lets it go on.
    pub(super) fn wake(&self) -> anyhow::Result<()> {
        kill_process(self.pid, Signal::CONT).context("waking a writer")
    }

    /// Kills it, and comes back when it is gone.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill().await.context("killing a writer")
    }
}
