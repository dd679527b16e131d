//! Curator's `InterProcessMutex`, kazoo's `Lock` and ours exclude each other.

use std::{path::Path, sync::Arc};

use fencegate::lock::zookeeper::ZookeeperLocks;
use tokio::process::Command;

use super::foreign::{Foreign, Meeting, meet};
use crate::support::{ZooKeeper, programs};

meet! { curator kazoo }

async fn curator() -> Meeting {
    start(curator_command).await
}

async fn kazoo() -> Meeting {
    start(kazoo_command).await
}

async fn start(command: fn(&ZooKeeper) -> Command) -> Meeting {
    let server = ZooKeeper::start().await;
    let url = format!("zookeeper://{}", server.endpoint());
    Meeting {
        ours: Arc::new(ZookeeperLocks::new(&url).unwrap()),
        url,
        theirs: Foreign::start(command(&server)),
        lock: "/fencegate/locks/a".into(),
        _server: Box::new(server),
    }
}

fn kazoo_command(server: &ZooKeeper) -> Command {
    programs::require(Path::new("/usr/lib/python3/dist-packages/kazoo"), "python3-kazoo");
    // Debian's, which sees Debian's packages.
    let mut command = Command::new("/usr/bin/python3");
    command.arg(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/interop/kazoo_lock.py"
    ));
    command.arg(server.endpoint());
    command
}

fn curator_command(server: &ZooKeeper) -> Command {
    let (java, class_path) = programs::java_with_curator();
    let mut command = Command::new(java);
    command.args(["-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-cp", &class_path]);
    command.arg(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/interop/CuratorLock.java"
    ));
    command.arg(server.endpoint());
    command
}
