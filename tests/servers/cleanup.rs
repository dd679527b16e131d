//! Nothing outlives a test, whatever becomes of it.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Signal, kill_process};

use crate::support::eventually::PATIENCE;
use crate::support::process::{descendants, is_alive, pid};
use crate::support::{Etcd, Postgres, Process, ZooKeeper, eventually, folder, ports};

#[tokio::test]
async fn a_killed_test_leaves_no_process_and_no_folder() {
    let folder = folder("cleanup");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "servers::cleanup::victim", "--ignored", "--nocapture"]);
    let victim = Process::spawn("victim", command, &folder.path().join("log"));
    let announced = || {
        victim
            .log()
            .lines()
            .find_map(|line| line.strip_prefix("all is in ").map(str::to_owned))
    };
    eventually(PATIENCE, async || announced().is_some()).await;
    let theirs = announced().unwrap();
    let started = descendants(victim.id());
    assert!(started.len() > 8, "{started:?}");

    // The victim alone: its servers are to hear of it by themselves.
    kill_process(pid(victim.id()), Signal::KILL).unwrap();
    eventually(PATIENCE, async || !Path::new(&theirs).exists()).await;
    eventually(PATIENCE, async || !started.iter().any(|id| is_alive(*id))).await;
}

/// One server of each way to end, one of them stopped.
#[tokio::test]
#[ignore = "the test above runs and kills it"]
async fn victim() {
    let (_postgres, etcd, stopped) = (
        Postgres::start().await,
        Etcd::start().await,
        Postgres::start().await,
    );
    let _zookeeper = ZooKeeper::start().await;
    etcd.stop();
    stopped.stop();
    println!("\nall is in {}", folder("any").path().parent().unwrap().display());
    tokio::time::sleep(PATIENCE).await;
}

#[tokio::test]
async fn kill_9_reaches_descendants_in_groups_of_their_own() {
    let folder = folder("cleanup");
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "setsid sh -c 'trap \"\" TERM; while :; do sleep 600; done' & echo up; wait",
    ]);
    let mut process = Process::spawn("tree", command, &folder.path().join("log"));
    eventually(PATIENCE, async || descendants(process.id()).len() == 2).await;
    let below = descendants(process.id());
    process.kill9();
    assert!(!below.iter().any(|id| is_alive(*id)));
}

#[tokio::test]
async fn a_server_that_does_not_start_says_why() {
    let failure = tokio::spawn(Postgres::builder().set("no_such_setting", 1).start())
        .await
        .err()
        .unwrap();
    let message = failure.into_panic().downcast::<String>().unwrap();
    assert!(
        message.contains("unrecognized configuration parameter \"no_such_setting\""),
        "{message}"
    );
}

#[tokio::test]
async fn a_port_that_a_stranger_took_is_replaced() {
    let folder = folder("stranger");
    let attempts = AtomicUsize::new(0);
    let last = ports::with_free_ports(|| async {
        let attempt = attempts.fetch_add(1, Ordering::Relaxed);
        let script = ["echo 'bind: Address already in use'; exit 1", "sleep 600"][attempt];
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let mut process = Process::spawn("server", command, &folder.path().join("log"));
        let serves = attempt == 1;
        process
            .ready(|| async move { serves.then_some(()).ok_or("not yet".into()) })
            .await?;
        Ok(attempt)
    })
    .await;
    assert_eq!(last, 1);
}
