//! A child process with its descendants: what it logs, whether it is ready, and every way to make it fail.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::eventually::PATIENCE;
use super::reaper;

const PAUSE: Duration = Duration::from_millis(5);

/// A running child, leader of its own process group. Dropping it kills the group.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts the command, with nothing on its standard input, and its output appended to the file `log`.
    #[track_caller]
    pub fn spawn(name: &str, command: Command, log: &Path) -> Self {
        Self::spawn_ended_by(Signal::KILL, name, command, log)
    }

    /// Like [`Process::spawn`], for a server that should be ended by this signal, not by SIGKILL, if the
    /// test process dies.
    #[track_caller]
    pub fn spawn_ended_by(signal: Signal, name: &str, mut command: Command, log: &Path) -> Self {
        let output = File::options().create(true).append(true).open(log).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .process_group(0);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        reaper::remember(child.id(), signal);
        Self {
            name: name.into(),
            child,
            log: log.into(),
            ended: None,
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it has written to its standard output and error.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap();
            if self.ended.is_some() {
                self.buried();
            }
        }
        self.ended
    }

    /// Pauses it (SIGSTOP), as a long garbage collection or a suspended laptop does.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// Wakes it up (SIGCONT).
    pub fn cont(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends the signal to the process alone.
    pub fn signal(&self, signal: Signal) {
        assert!(self.ended.is_none(), "{} has ended", self.name);
        kill_process(pid(self.id()), signal).unwrap();
    }

    /// Kills it and all its descendants at once, and returns when none is left.
    pub fn kill9(&mut self) {
        if self.ended.is_some() {
            return;
        }
        // A stopped process has no further children between the look and the kill.
        let _ = kill_process(pid(self.id()), Signal::STOP);
        let descendants = descendants(self.id());
        let _ = kill_process_group(pid(self.id()), Signal::KILL);
        // Some lead groups of their own, as each Postgres backend does.
        for descendant in &descendants {
            let _ = kill_process(pid(*descendant), Signal::KILL);
        }
        self.ended = Some(self.child.wait().unwrap());
        let end = Instant::now() + PATIENCE;
        while descendants.iter().any(|descendant| is_alive(*descendant)) && Instant::now() < end {
            std::thread::sleep(PAUSE);
        }
        self.buried();
    }

    /// Asks it to end (SIGTERM) and waits until it does; kills it when it does not.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.end_by(Signal::TERM).await
    }

    /// Like [`Process::terminate`], by another signal.
    pub async fn end_by(&mut self, signal: Signal) -> ExitStatus {
        if self.ended().is_none() {
            self.signal(signal);
            self.cont();
        }
        let end = Instant::now() + PATIENCE;
        while self.ended().is_none() && Instant::now() < end {
            tokio::time::sleep(PAUSE).await;
        }
        self.kill9();
        self.ended.unwrap()
    }

    /// Returns when `probe`, a real request, succeeds; fails when the process ends, or does not become
    /// ready in time, and shows its log then.
    pub async fn ready<P>(&mut self, mut probe: impl FnMut() -> P) -> Result<(), NotReady>
    where
        P: Future<Output = Result<(), String>>,
    {
        let end = Instant::now() + PATIENCE;
        let mut answer = Err("it was not asked".into());
        while Instant::now() < end {
            if let Some(status) = self.ended() {
                return Err(self.not_ready(format!("it ended ({status})")));
            }
            answer = tokio::time::timeout(Duration::from_secs(3), probe())
                .await
                .unwrap_or_else(|_| Err("no answer within 3 s".into()));
            // Who answers may be a stranger on its port, while it is about to end for that reason.
            if answer.is_ok() && self.ended().is_none() {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(self.not_ready(format!(
            "not within {PATIENCE:?}; the last answer was: {}",
            answer.unwrap_err()
        )))
    }

    fn not_ready(&self, why: String) -> NotReady {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(40)..].join("\n  | ");
        NotReady {
            text: format!("{} is not ready: {why}. Its log ends with\n  | {tail}", self.name),
        }
    }

    fn buried(&self) {
        // What it started and did not end.
        let _ = kill_process_group(pid(self.id()), Signal::KILL);
        reaper::forget(self.id());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// Why a server did not come up.
#[derive(Debug)]
pub struct NotReady {
    pub text: String,
}

impl NotReady {
    pub fn is_port_in_use(&self) -> bool {
        self.text.to_lowercase().contains("address already in use")
    }
}

pub fn pid(id: u32) -> Pid {
    Pid::from_raw(id.cast_signed()).unwrap()
}

/// The ids of the processes below this one.
pub fn descendants(id: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let all: Vec<(u32, u32)> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|child| Some((child, parent(child)?)))
        .collect();
    let mut found = vec![id];
    let mut next = 0;
    while next < found.len() {
        let above = found[next];
        found.extend(
            all.iter()
                .filter(|(_, parent)| *parent == above)
                .map(|(child, _)| *child),
        );
        next += 1;
    }
    found.split_off(1)
}

/// Whether there is such a process, and not only its exit status that waits to be collected.
pub fn is_alive(id: u32) -> bool {
    parent(id).is_some()
}

/// The parent of a process that is alive: one that only waits to be collected counts as gone.
fn parent(id: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The second field is the program's name in parentheses, which may hold anything.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    match fields.next()? {
        "Z" | "X" => None,
        _ => fields.next()?.parse().ok(),
    }
}
