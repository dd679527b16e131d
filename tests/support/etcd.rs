//! etcd: a single server, or a cluster whose members fail one by one.

use std::process::Command;

use tempfile::TempDir;

use super::http;
use super::ports::{Port, with_free_ports};
use super::process::{NotReady, Process};
use super::{programs, reaper};

const PACKAGES: &str = "etcd-server etcd-client";

/// One member, of a cluster of one unless it belongs to an [`EtcdCluster`].
pub struct Etcd {
    process: Process,
    place: Place,
    folder: TempDir,
}

/// What stays the same over restarts.
struct Place {
    name: String,
    client: Port,
    peer: Port,
    cluster: String,
    flags: Vec<String>,
}

/// A server, or a cluster, that is about to start.
#[derive(Default)]
pub struct Builder {
    flags: Vec<String>,
}

impl Builder {
    /// A flag of `etcd`, as in `--election-timeout=300`.
    pub fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// Elections of half a second and leases from one second on. Without it both are etcd's defaults,
    /// under which a lease has at least two seconds, and a restart takes about two.
    pub fn quick(self) -> Self {
        self.flag("--heartbeat-interval=50")
            .flag("--election-timeout=500")
    }

    pub async fn start(self) -> Etcd {
        self.start_cluster(1).await.members.remove(0)
    }

    pub async fn start_cluster(self, size: usize) -> EtcdCluster {
        with_free_ports(|| async {
            let places = places(size, &self.flags);
            let mut members: Vec<Etcd> = places.into_iter().map(Etcd::spawn).collect();
            for member in &mut members {
                member.ready().await?;
            }
            Ok(EtcdCluster { members })
        })
        .await
    }
}

impl Etcd {
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    pub fn builder() -> Builder {
        Builder::default()
    }

    fn spawn(place: Place) -> Self {
        let folder = reaper::folder("etcd");
        let process = place.spawn(&folder);
        Self {
            process,
            place,
            folder,
        }
    }

    /// `host:port`, without a scheme.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.place.client.number())
    }

    pub fn endpoints(&self) -> Vec<String> {
        vec![self.endpoint()]
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
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

    /// Starts it again on the same data and ports, after a shutdown if it still runs, and waits until it
    /// serves. In a cluster that needs a majority: see [`Etcd::respawn`].
    pub async fn restart(&mut self) {
        self.process.terminate().await;
        self.respawn();
        if let Err(error) = self.ready().await {
            panic!("{}", error.text);
        }
    }

    /// Where its data is.
    pub fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    /// What `etcdctl` says to these arguments, with the address of this member.
    pub fn control(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(programs::find("etcdctl", PACKAGES, &[]));
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.endpoint()]);
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts it again on what a snapshot holds, as its administrator would: with its own flags, so that the cluster has
    /// the same name again, but for the token.
    pub async fn restore(&mut self, snapshot: &std::path::Path, token: &str) {
        self.process.terminate().await;
        std::fs::remove_dir_all(self.data()).unwrap();
        let peer = format!("http://127.0.0.1:{}", self.place.peer.number());
        let (snapshot, data) = (snapshot.to_str().unwrap(), self.data());
        self.control(&[
            "snapshot",
            "restore",
            snapshot,
            "--data-dir",
            data.to_str().unwrap(),
            "--name",
            &self.place.name,
            "--initial-cluster",
            &self.place.cluster,
            "--initial-advertise-peer-urls",
            &peer,
            "--initial-cluster-token",
            token,
        ]);
        self.restart().await;
    }

    /// Starts a member that has ended, without waiting for it.
    pub fn respawn(&mut self) {
        self.process.kill9();
        self.process = self.place.spawn(&self.folder);
    }

    /// Waits until it takes part in a cluster that has a leader and can write.
    pub async fn ready(&mut self) -> Result<(), NotReady> {
        let port = self.place.client.number();
        self.process
            .ready(move || async move {
                match http::get(port, "/health").await {
                    Ok(answer) if answer.contains(r#""health":"true""#) => Ok(()),
                    Ok(answer) | Err(answer) => Err(answer),
                }
            })
            .await
    }
}

impl Place {
    fn spawn(&self, folder: &TempDir) -> Process {
        let client = format!("http://127.0.0.1:{}", self.client.number());
        let peer = format!("http://127.0.0.1:{}", self.peer.number());
        let mut command = Command::new(programs::find("etcd", PACKAGES, &[]));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ETCD_")) {
            command.env_remove(name);
        }
        // Version 3.4 refuses to start on Arm unless told that this is meant.
        command.env(
            "ETCD_UNSUPPORTED_ARCH",
            if cfg!(target_arch = "aarch64") {
                "arm64"
            } else {
                ""
            },
        );
        command
            .current_dir(folder.path())
            .args(["--logger=zap", "--log-level=warn", "--data-dir=data"])
            .args([
                format!("--name={}", self.name),
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster={}", self.cluster),
            ]);
        command.args(&self.flags);
        Process::spawn(&self.name, command, &folder.path().join("log"))
    }
}

fn places(size: usize, flags: &[String]) -> Vec<Place> {
    let peers: Vec<Port> = (0..size).map(|_| Port::reserve()).collect();
    let cluster: Vec<String> = peers
        .iter()
        .enumerate()
        .map(|(index, peer)| format!("etcd{index}=http://127.0.0.1:{}", peer.number()))
        .collect();
    let cluster = cluster.join(",");
    peers
        .into_iter()
        .enumerate()
        .map(|(index, peer)| Place {
            name: format!("etcd{index}"),
            client: Port::reserve(),
            peer,
            cluster: cluster.clone(),
            flags: flags.to_vec(),
        })
        .collect()
}

pub struct EtcdCluster {
    pub members: Vec<Etcd>,
}

impl EtcdCluster {
    pub async fn start(size: usize) -> Self {
        Etcd::builder().start_cluster(size).await
    }

    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(Etcd::endpoint).collect()
    }

    /// The index of the member that leads, as any member that answers sees it.
    pub async fn leader(&self) -> Option<usize> {
        for member in &self.members {
            let Ok(mut client) = etcd_client::Client::connect([member.endpoint()], None).await else {
                continue;
            };
            let Ok(status) = client.status().await else {
                continue;
            };
            let Ok(list) = client.member_list().await else {
                continue;
            };
            let name = list
                .members()
                .iter()
                .find(|other| other.id() == status.leader())?
                .name()
                .to_owned();
            return self.members.iter().position(|member| member.place.name == name);
        }
        None
    }
}
