//! The other side: a program of somebody else's lock client, told line by line how to work: `each WORKERS SECONDS` or
//! `one WORKERS SECONDS`. It answers with its cycles a second, and may say how many of them were hand-overs.

use std::{path::Path, process::Stdio, time::Duration};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::{
    ours::Load,
    support::{folder, programs},
};

pub struct Foreign {
    _child: Child,
    stdin: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    _folder: Option<TempDir>,
}

impl Foreign {
    /// Go's `concurrency.Mutex`, compiled here.
    pub async fn go(endpoint: &str) -> Self {
        let folder = folder("go");
        let program = programs::compile_go(source("etcd_mutex.go").as_ref(), folder.path()).await;
        let mut command = Command::new(program);
        command.arg(endpoint);
        Self::start(command, Some(folder))
    }

    /// Curator's `InterProcessMutex`.
    pub fn curator(endpoint: &str) -> Self {
        let (java, class_path) = programs::java_with_curator();
        let mut command = Command::new(java);
        command.args(["-cp", &class_path]);
        command.arg(source("CuratorMutex.java")).arg(endpoint);
        Self::start(command, None)
    }

    /// redis-py's `Lock`.
    pub fn redis_py(port: u16) -> Self {
        let packages = "python3-redis";
        programs::require(
            Path::new("/usr/lib/python3/dist-packages/redis/lock.py"),
            packages,
        );
        let mut command = Command::new("/usr/bin/python3");
        command.arg(source("redis_py_lock.py")).arg(port.to_string());
        Self::start(command, None)
    }

    fn start(mut command: Command, folder: Option<TempDir>) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self {
            stdin: child.stdin.take().expect("it is piped"),
            answers: BufReader::new(child.stdout.take().expect("it is piped")).lines(),
            _child: child,
            _folder: folder,
        }
    }

    /// Cycles a second.
    pub async fn cycles(&mut self, load: Load, time: Duration) -> f64 {
        self.rates(load, time).await[0]
    }

    /// Cycles a second, and what else it counts.
    pub async fn rates(&mut self, load: Load, time: Duration) -> Vec<f64> {
        let locks = if load.one { "one" } else { "each" };
        let line = format!("{locks} {} {}\n", load.workers, time.as_secs());
        self.stdin.write_all(line.as_bytes()).await.expect("it listens");
        let answer = self.answers.next_line().await.expect("it answers");
        let answer = answer.expect("it goes on");
        let rates: Result<_, _> = answer.split_whitespace().map(str::parse).collect();
        rates
            .ok()
            .filter(|rates: &Vec<f64>| !rates.is_empty())
            .unwrap_or_else(|| panic!("{answer:?} is no number"))
    }
}

fn source(name: &str) -> String {
    format!("{}/benches/locks/{name}", env!("CARGO_MANIFEST_DIR"))
}
