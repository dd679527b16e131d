//! A Postgres server of the test's own. Copying a prepared data folder makes that cheap enough to need no
//! sharing between tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection};
use tempfile::TempDir;

use super::ports::{Port, with_free_ports};
use super::process::{NotReady, Process};

mod installation;
mod template;

pub use installation::{command, folder, other_user, run};

pub struct Postgres {
    process: Process,
    port: Port,
    settings: Vec<(String, String)>,
    databases: AtomicU32,
    folder: TempDir,
}

/// The settings of a server that is about to start.
#[derive(Default)]
pub struct Builder {
    settings: Vec<(String, String)>,
}

impl Builder {
    /// A line of `postgresql.conf`.
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.push((name.into(), value.to_string()));
        self
    }

    /// Flushes to disk as in production. Without it the server is faster and survives all but a crash of
    /// the machine, `kill -9` included.
    pub fn durable(self) -> Self {
        self.set("fsync", "on").set("full_page_writes", "on")
    }

    pub async fn start(self) -> Postgres {
        with_free_ports(|| async {
            let folder = installation::folder();
            template::copy_to(&folder.path().join("data"));
            Postgres::start_on(folder, self.settings.clone()).await
        })
        .await
    }
}

impl Postgres {
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Starts on `data` in this folder, which may come from another server (a copy, a base backup).
    pub async fn start_on(folder: TempDir, settings: Vec<(String, String)>) -> Result<Self, NotReady> {
        let port = Port::reserve();
        let process = spawn(&folder, &port, &settings);
        let mut server = Self {
            process,
            port,
            settings,
            databases: AtomicU32::new(0),
            folder,
        };
        server.ready().await?;
        Ok(server)
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Of the database `postgres`, as the superuser `postgres`.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port())
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A copy of its data, taken while it serves, and the log that the copy needs: with `follow`, for a standby of it.
    pub fn base_backup(&self, follow: bool) -> TempDir {
        let copy = installation::folder();
        let mut backup = command("pg_basebackup");
        backup.args([
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-c",
            "fast",
            "-X",
            "stream",
            "--no-sync",
            "-p",
        ]);
        backup
            .arg(self.port().to_string())
            .arg("-D")
            .arg(copy.path().join("data"));
        if follow {
            backup.arg("-R");
        }
        run(&mut backup);
        copy
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// A new, empty database; returns its URL.
    pub async fn create_database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::connect(&self.url()).await.unwrap();
        connection
            .execute(AssertSqlSafe(format!("create database {name}")))
            .await
            .unwrap();
        connection.close().await.unwrap();
        self.url_of(&name)
    }

    /// A setting for the next restart.
    pub fn set(&mut self, name: &str, value: impl ToString) {
        self.settings.push((name.into(), value.to_string()));
    }

    /// Starts it again on the same data and port, after a fast shutdown if it still runs.
    pub async fn restart(&mut self) {
        self.process.end_by(Signal::INT).await;
        self.process = spawn(&self.folder, &self.port, &self.settings);
        if let Err(error) = self.ready().await {
            panic!("{}", error.text);
        }
    }

    /// Kills the postmaster and every backend at once.
    pub fn kill9(&mut self) {
        if self.process.ended().is_some() {
            return;
        }
        let segment = shared_memory_segment(&self.data());
        self.process.kill9();
        // The kernel keeps a killed server's segment until the next start, which may never come.
        if let Some(segment) = segment {
            let _ = Command::new("ipcrm").args(["-m", &segment]).output();
        }
    }

    /// Pauses the postmaster: no new connection gets through, those that stand go on.
    pub fn stop(&self) {
        self.process.stop();
    }

    pub fn cont(&self) {
        self.process.cont();
    }

    pub async fn ready(&mut self) -> Result<(), NotReady> {
        let options: sqlx::postgres::PgConnectOptions = self.url().parse().unwrap();
        self.process
            .ready(|| async {
                let asked = async {
                    let mut connection = options.connect().await?;
                    connection.execute("select 1").await?;
                    connection.close().await
                };
                asked.await.map_err(|error: sqlx::Error| error.to_string())
            })
            .await
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill9();
    }
}

fn spawn(folder: &TempDir, port: &Port, settings: &[(String, String)]) -> Process {
    let mut command = command("postgres");
    command.arg("-D").arg(folder.path().join("data"));
    command.args(["-h", "127.0.0.1", "-p", &port.number().to_string(), "-k", ""]);
    let quick = [
        ("fsync", "off"),
        ("full_page_writes", "off"),
        ("shared_buffers", "32MB"),
    ];
    // In the data folder, which is removed, and not in /dev/shm, where a killed server leaves them.
    let tidy = [("dynamic_shared_memory_type", "mmap")];
    for (name, value) in quick.into_iter().chain(tidy) {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    for (name, value) in settings {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    let log = folder.path().join("log");
    // On SIGQUIT it ends at once, but takes its backends and its shared memory with it.
    Process::spawn_ended_by(Signal::QUIT, "postgres", command, &log)
}

/// The seventh line of `postmaster.pid`: the key and the id of the System V segment.
fn shared_memory_segment(data: &Path) -> Option<String> {
    let text = std::fs::read_to_string(data.join("postmaster.pid")).ok()?;
    Some(text.lines().nth(6)?.split_whitespace().nth(1)?.into())
}
