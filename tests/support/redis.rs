//! A Redis server of the test's own.

use std::process::Command;

use tempfile::TempDir;

use super::http;
use super::ports::{Port, with_free_ports};
use super::process::{NotReady, Process};
use super::{programs, reaper};

const PACKAGES: &str = "redis-server";

pub struct Redis {
    process: Process,
    port: Port,
    settings: Vec<(String, String)>,
    folder: TempDir,
}

#[derive(Default)]
pub struct Builder {
    settings: Vec<(String, String)>,
}

impl Builder {
    /// A line of `redis.conf`.
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.push((name.into(), value.to_string()));
        self
    }

    /// Every write is on disk before it is answered.
    pub fn durable(self) -> Self {
        self.set("appendonly", "yes").set("appendfsync", "always")
    }

    pub async fn start(self) -> Redis {
        with_free_ports(|| async {
            let (folder, port) = (reaper::folder("redis"), Port::reserve());
            let process = spawn(&folder, &port, &self.settings);
            let mut server = Redis {
                process,
                port,
                settings: self.settings.clone(),
                folder,
            };
            server.ready().await?;
            Ok(server)
        })
        .await
    }
}

impl Redis {
    /// One that forgets everything when it ends.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    pub fn builder() -> Builder {
        Builder::default()
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// `host:port`.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.endpoint())
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// A setting for the next restart.
    pub fn set(&mut self, name: &str, value: impl ToString) {
        self.settings.push((name.into(), value.to_string()));
    }

    /// Starts it again on the same data and port, after a shutdown if it still runs.
    pub async fn restart(&mut self) {
        self.process.terminate().await;
        self.process = spawn(&self.folder, &self.port, &self.settings);
        if let Err(error) = self.ready().await {
            panic!("{}", error.text);
        }
    }

    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    pub fn stop(&self) {
        self.process.stop();
    }

    pub fn cont(&self) {
        self.process.cont();
    }

    pub async fn ready(&mut self) -> Result<(), NotReady> {
        let port = self.port();
        self.process
            .ready(move || async move {
                match http::exchange(port, "PING\r\nQUIT\r\n").await {
                    // A server that asks for a password is up.
                    Ok(answer) if answer.starts_with("+PONG") || answer.starts_with("-NOAUTH") => Ok(()),
                    Ok(answer) | Err(answer) => Err(answer),
                }
            })
            .await
    }
}

fn spawn(folder: &TempDir, port: &Port, settings: &[(String, String)]) -> Process {
    let mut lines = format!("bind 127.0.0.1\nport {}\nsave \"\"\n", port.number());
    for (name, value) in settings {
        lines.push_str(&format!("{name} {value}\n"));
    }
    let configuration = folder.path().join("redis.conf");
    std::fs::write(&configuration, lines).unwrap();
    let mut command = Command::new(programs::find("redis-server", PACKAGES, &[]));
    command.current_dir(folder.path()).arg(configuration);
    Process::spawn("redis", command, &folder.path().join("log"))
}
