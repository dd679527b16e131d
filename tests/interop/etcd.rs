//! Go's `concurrency.Mutex` and ours exclude each other.

use std::sync::Arc;

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
    let folder = folder("go");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/etcd_mutex.go");
    let program = programs::compile_go(source.as_ref(), folder.path()).await;
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
