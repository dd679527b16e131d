//! The gateway that is measured, as a process of its own: its memory is its own, and it logs every request as it does
//! in production, into a file.

use std::{process::Command, sync::Arc, time::Duration};

use fencegate::{
    Locks, database::postgres, gateway, lock::postgres::PostgresLocks, store::postgres as store,
};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::support::{self, Process, eventually, eventually::PATIENCE};

/// Where a second copy of this program finds the store that it is to serve.
const ALONE: &str = "FENCEGATE_BENCH_ALONE";

/// A running gateway.
pub struct Gateway {
    pub port: u16,
    process: Process,
    _folder: TempDir,
}

impl Gateway {
    /// `fencegate serve`.
    pub async fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fencegate"));
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(arguments);
        Self::run(command).await
    }

    /// The same code and the same SQL, but every write has a transaction of its own, up to so many at once.
    pub async fn alone(store: &str, at_once: usize) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(ALONE, format!("{at_once} {store}"));
        Self::run(command).await
    }

    async fn run(mut command: Command) -> Self {
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FENCEGATE_") && name != ALONE)
        {
            command.env_remove(name);
        }
        command.env_remove("DATABASE_URL").env_remove("RUST_LOG");
        let folder = support::folder("gateway");
        command.current_dir(folder.path());
        let mut process = Process::spawn("fencegate", command, &folder.path().join("log"));
        let mut port = None;
        eventually(PATIENCE, async || {
            assert!(process.ended().is_none(), "{}", process.log());
            let log = process.log();
            let line = log
                .lines()
                .find_map(|line| line.strip_prefix("listening on http://127.0.0.1:"));
            port = line.and_then(|port| port.parse().ok());
            port.is_some()
        })
        .await;
        Self {
            port: port.unwrap(),
            process,
            _folder: folder,
        }
    }

    /// Resident memory, in bytes.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes: u64 = line.unwrap().trim().trim_end_matches(" kB").parse().unwrap();
        kilobytes * 1024
    }
}

/// Serves, if this process is a copy that was started for that.
pub async fn serve_if_asked() -> bool {
    let Ok(asked) = std::env::var(ALONE) else {
        return false;
    };
    let (at_once, url) = asked.split_once(' ').unwrap();
    let lanes = at_once.parse().unwrap();
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_max_level(tracing::Level::INFO)
        .with_writer(std::io::stderr)
        .init();
    let size = postgres::PoolSize {
        connections: lanes as u32 + 4,
        acquire_timeout: Duration::from_secs(10),
    };
    let pool = postgres::connect(url, &size).unwrap();
    let batches = store::Batches { lanes, items: 1 };
    let store = store::PostgresStore::with_batches(pool.clone(), batches);
    let locks = Locks::new(Arc::new(PostgresLocks::new(pool)), Arc::new(store));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("listening on http://{}", listener.local_addr().unwrap());
    gateway::serve(
        listener,
        std::future::pending(),
        locks,
        gateway::Config::default(),
    )
    .await
    .unwrap();
    true
}
