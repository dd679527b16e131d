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
    writer::Line,
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
}

impl Child {
    /// Starts this very program as a writer. It inherits no environment.
    pub(super) fn start(
        name: &str,
        gateway: &str,
        fence: &FenceName,
        ttl: Duration,
        pause: bool,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("where this program is")?;
        let mut command = Command::new(program);
        command
            .env_clear()
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        command
            .arg("demo-writer")
            .args(["--name", name, "--gateway", gateway, "--fence", fence.as_str()]);
        command
            .arg("--ttl")
            .arg(humantime::format_duration(ttl).to_string());
        if pause {
            command.arg("--pause");
        }
        let mut process = command.spawn().context("starting a writer")?;
        let pid = process.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Ok(Self {
            who: if name == "A" { Who::A } else { Who::B },
            pid: pid.context("the writer ended at once")?,
            input: process.stdin.take().context("the writer's input")?,
            output: BufReader::new(process.stdout.take().context("the writer's output")?).lines(),
            process,
            happened: Vec::new(),
            patience: ttl * 2 + PATIENCE,
        })
    }

    /// What it has told so far.
    pub(super) fn happened(&self) -> &[Happening] {
        &self.happened
    }

    /// Passes on what it tells, until `last` has happened.
    pub(super) async fn until(
        &mut self,
        reporter: &Reporter<'_>,
        last: impl Fn(&Happening) -> bool,
    ) -> anyhow::Result<()> {
        while let Some(happening) = self.next(reporter).await? {
            if last(happening) {
                return Ok(());
            }
        }
        bail!("writer {} ended too early", self.who);
    }

    /// Passes on what it tells until it has ended, well.
    pub(super) async fn finish(&mut self, reporter: &Reporter<'_>) -> anyhow::Result<()> {
        while self.next(reporter).await?.is_some() {}
        let status = self.process.wait().await?;
        ensure!(status.success(), "writer {} failed: {status}", self.who);
        Ok(())
    }

    async fn next(&mut self, reporter: &Reporter<'_>) -> anyhow::Result<Option<&Happening>> {
        let line = tokio::time::timeout(self.patience, self.output.next_line())
            .await
            .with_context(|| format!("writer {} says nothing", self.who))??;
        let Some(line) = line else {
            return Ok(None);
        };
        let line: Line = serde_json::from_str(&line).with_context(|| format!("a writer said {line:?}"))?;
        reporter.at(
            Duration::from_micros(line.at_us),
            self.who,
            line.happening.clone(),
        );
        self.happened.push(line.happening);
        Ok(self.happened.last())
    }

    /// Lets a writer that pauses go on.
    pub(super) async fn go_on(&mut self) -> anyhow::Result<()> {
        Ok(self.input.write_all(b"\n").await?)
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
}
