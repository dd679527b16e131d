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
    let jars = [
        "curator-recipes",
        "curator-framework",
        "curator-client",
        "guava",
        "zookeeper",
        "zookeeper-jute",
    ]
    .map(|jar| format!("/usr/share/java/{jar}.jar"));
    let packages = "libcurator-recipes-java default-jdk-headless";
    for jar in &jars {
        programs::require(Path::new(jar), packages);
    }
    let log = "/usr/share/java/slf4j-api.jar:/usr/share/java/slf4j-nop.jar";
    // Java compiles a program of one file by itself, if it has its compiler.
    programs::find("javac", packages, &[]);
    let mut command = Command::new(programs::find("java", packages, &[]));
    command.args(["-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-cp"]);
    command.arg(format!("{}:{log}", jars.join(":")));
    command.arg(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/interop/CuratorLock.java"
    ));
    command.arg(server.endpoint());
    command
}
