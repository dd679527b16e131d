//! A ZooKeeper server of the test's own.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::http;
use super::ports::{Port, with_free_ports};
use super::process::{NotReady, Process};
use super::{programs, reaper};

const PACKAGES: &str = "libzookeeper-java default-jre-headless";
/// Its manifest names the jars that it needs, except one that writes the log.
const JAR: &str = "/usr/share/java/zookeeper.jar";
const LOG_JAR: &str = "/usr/share/java/slf4j-simple.jar";

/// A small, quick and quiet virtual machine. By default it leaves a file in `/tmp` when it is killed.
const MACHINE: [&str; 7] = [
    "-Xmx128m",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Xshare:auto",
    "-XX:-UsePerfData",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dzookeeper.jmx.log4j.disable=true",
];

pub struct ZooKeeper {
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
    /// A line of `zoo.cfg`.
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.push((name.into(), value.to_string()));
        self
    }

    /// Flushes to disk as in production. Without it the server survives all but a crash of the machine, `kill -9`
    /// included, and does not stand still while the disk does, which can be for seconds.
    pub fn durable(self) -> Self {
        self.set("forceSync", "yes")
    }

    pub async fn start(self) -> ZooKeeper {
        with_free_ports(|| async {
            let (folder, port) = (reaper::folder("zookeeper"), Port::reserve());
            let process = spawn(&folder, &port, &self.settings);
            let mut server = ZooKeeper {
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

impl ZooKeeper {
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

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Starts it again on the same data and port, after a shutdown if it still runs.
    pub async fn restart(&mut self) {
        self.process.terminate().await;
        self.process = spawn(&self.folder, &self.port, &self.settings);
        if let Err(error) = self.ready().await {
            panic!("{}", error.text);
        }
    }

    /// Kills it and starts it again on the same port with nothing in it.
    pub async fn restart_empty(&mut self) {
        self.process.kill9();
        std::fs::remove_dir_all(self.folder.path().join("data")).unwrap();
        self.restart().await;
    }

    /// Where its data is.
    pub fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
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

    /// What it answers to one of its four-letter words (`cons`, `dump`, `mntr`, ...).
    pub async fn ask(&self, word: &str) -> Result<String, String> {
        http::exchange(self.port(), word).await
    }

    pub async fn ready(&mut self) -> Result<(), NotReady> {
        let port = self.port();
        self.process
            .ready(move || async move {
                match http::exchange(port, "srvr").await {
                    Ok(answer) if answer.contains("\nMode: ") => Ok(()),
                    Ok(answer) | Err(answer) => Err(answer),
                }
            })
            .await
    }
}

fn spawn(folder: &TempDir, port: &Port, settings: &[(String, String)]) -> Process {
    // Short ticks let sessions expire soon; the longest session would be twenty of them. The log is
    // otherwise preallocated in pieces of 64 MB.
    let mut lines = format!(
        "clientPortAddress=127.0.0.1\nclientPort={}\ndataDir={}\ntickTime=200\nmaxSessionTimeout=60000\n\
         admin.enableServer=false\n4lw.commands.whitelist=*\npreAllocSize=1024\nforceSync=no\n",
        port.number(),
        folder.path().join("data").display(),
    );
    for (name, value) in settings {
        lines.push_str(&format!("{name}={value}\n"));
    }
    let configuration = folder.path().join("zoo.cfg");
    std::fs::write(&configuration, lines).unwrap();
    let jar = programs::require(Path::new(JAR), PACKAGES);
    let mut command = Command::new(programs::find("java", PACKAGES, &[]));
    command
        .env_remove("CLASSPATH")
        .env_remove("JAVA_TOOL_OPTIONS")
        .current_dir(folder.path());
    command
        .args(MACHINE)
        .arg(format!("-Djava.io.tmpdir={}", folder.path().display()));
    command.arg("-cp").arg(format!("{}:{LOG_JAR}", jar.display()));
    command
        .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
        .arg(configuration);
    Process::spawn("zookeeper", command, &folder.path().join("log"))
}
