//! Go's `concurrency.Mutex` and ours exclude each other.

use std::{path::Path, sync::Arc};

use fencegate::lock::etcd::EtcdLocks;
use tokio::process::Command;

use super::foreign::{Foreign, Meeting, meet};
use crate::{
    support::{Etcd, folder, programs},
    world::etcd_url,
};

meet! { go }

async fn go() -> Meeting {
    let server = Etcd::start().await;
    let packages = "golang-go golang-etcd-server-dev";
    programs::require(Path::new("/usr/share/gocode/src/go.etcd.io/etcd"), packages);
    let folder = folder("go");
    let program = folder.path().join("etcd_mutex");
    let built = Command::new(programs::find("go", packages, &[]))
        // Debian's libraries, from before there were modules.
        .env("GO111MODULE", "off")
        .env("GOPATH", "/usr/share/gocode")
        .arg("build")
        .arg("-o")
        .arg(&program)
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/interop/etcd_mutex.go"
        ))
        .status()
        .await
        .unwrap();
    assert!(built.success());
    let mut command = Command::new(program);
    command.arg(server.endpoint());
    Meeting {
        ours: Arc::new(EtcdLocks::connect(&etcd_url(&server)).await.unwrap()),
        theirs: Foreign::start(command),
        lock: "fencegate/locks/a".into(),
        url: etcd_url(&server),
        _server: Box::new((server, folder)),
    }
}
