//! The program at a terminal: verbs that go through a gateway, what they print, how they end.

mod docs;
mod doctor;
mod errors;
mod histories;
mod leases;
mod protect;
mod records;
mod shell;

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use crate::{
    gateway::program::{Program, Run},
    support::Process,
};

/// A gateway of its own process, and a shell beside it.
pub struct Terminal {
    pub program: Program,
    pub url: String,
    pub gateway: Process,
}

impl Terminal {
    pub async fn open() -> Self {
        Self::open_with(&[]).await
    }

    /// With these flags of `serve`.
    pub async fn open_with(flags: &[&str]) -> Self {
        let program = Program::new();
        let mut serve = program.command(&["serve", "--listen", "127.0.0.1:0"]);
        serve.args(flags);
        let (gateway, client) = program.serve(serve).await;
        let url = format!("http://127.0.0.1:{}", client.port());
        Self {
            program,
            url,
            gateway,
        }
    }

    /// A command line that finds the gateway.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program.command(arguments);
        command.env("FENCEGATE_GATEWAY", &self.url);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        self.program.run(&mut self.command(arguments))
    }

    /// Under this token.
    pub fn run_under(&self, token: &str, arguments: &[&str]) -> Run {
        self.program
            .run(self.command(arguments).env("FENCEGATE_TOKEN", token))
    }

    /// With this on its standard input.
    pub fn run_with(&self, mut command: Command, input: &str) -> Run {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may end without reading.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        Run {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Acquires a fence for longer than a test takes.
    pub fn acquire(&self, fence: &str) -> String {
        let run = self
            .run(&["lease", "acquire", fence, "--ttl", "10m"])
            .ends_with(0);
        run.out.trim().to_owned()
    }
}

/// What a run printed as JSON.
#[track_caller]
pub fn json(run: &Run) -> serde_json::Value {
    serde_json::from_str(&run.out).unwrap_or_else(|error| panic!("{error}: {}{}", run.out, run.err))
}
