//! A wall clock that jumps moves no deadline: neither is a lease lost before its time, nor is it believed beyond it. The
//! program runs with a clock of its own, which jumps; those of the servers and of the machine stay as they are.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    support::{eventually, eventually::PATIENCE, folder},
    world::{World, etcd_url},
};

const DAY: i64 = 24 * 3600;

/// A clock that the test sets.
struct Clock {
    folder: TempDir,
}

impl Clock {
    async fn new() -> Self {
        let clock = Self {
            folder: folder("clock"),
        };
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(clock.library())
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clock/jump.c"))
            .arg("-ldl")
            .status()
            .await
            .unwrap();
        assert!(built.success(), "jump.c does not compile");
        clock.jump(0);
        clock
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("jump.so")
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("seconds")
    }

    /// At once and as a whole, so that nobody reads half a number.
    fn jump(&self, seconds: i64) {
        let new = self.folder.path().join("new");
        std::fs::write(&new, seconds.to_string()).unwrap();
        std::fs::rename(new, self.file()).unwrap();
    }

    /// `fencegate run` and all that it starts, under this clock.
    fn run(&self, options: &[&str], script: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fencegate"));
        command
            .args(["run", "--fence", "nightly", "--ttl", "6s"])
            .args(options)
            .args(["--", "sh", "-c", script])
            .env_remove("FENCEGATE_HELD_FENCE")
            .env("LD_PRELOAD", self.library())
            .env("JUMP", self.file())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}

/// Runs a command that lasts several TTLs, while the clock jumps a day ahead and then two back.
async fn is_kept(store: &str, locks: &str) {
    let clock = Clock::new().await;
    let file = |name: &str| clock.folder.path().join(name);
    let (begun, ahead, next, back) = (file("begun"), file("ahead"), file("next"), file("back"));
    let until = |at: &Path| format!("while ! test -e {}; do sleep 0.1; done; date +%s;", at.display());
    let script = format!(
        "date +%s; touch {}; {} sleep 7; touch {}; {} sleep 7; echo kept",
        begun.display(),
        until(&ahead),
        next.display(),
        until(&back)
    );
    let child = clock
        .run(&["--store", store, "--locks", locks], &script)
        .spawn()
        .unwrap();
    eventually(PATIENCE, async || begun.exists()).await;
    clock.jump(DAY);
    std::fs::write(ahead, "").unwrap();
    eventually(PATIENCE, async || next.exists()).await;
    clock.jump(-DAY);
    std::fs::write(back, "").unwrap();
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output());
    let output = output.await.expect("it ends").unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 4, "{said}");
    // The clock of whoever ran under it did jump.
    let times: Vec<i64> = lines[..3].iter().map(|line| line.parse().unwrap()).collect();
    assert!(times[1] - times[0] >= DAY && times[2] < times[0], "{said}");
    assert_eq!(lines[3], "kept");
}

#[tokio::test]
async fn a_lease_is_kept_over_jumps_with_sqlite() {
    let folder = folder("jumps");
    let store = format!("sqlite:{}", folder.path().join("store.db").display());
    is_kept(&store, "sqlite").await;
}

#[tokio::test]
async fn a_lease_is_kept_over_jumps_with_postgres_and_etcd() {
    let world = World::postgres_and_etcd().await;
    let store = world.postgres.as_ref().unwrap().url();
    is_kept(&store, &etcd_url(world.etcd.as_ref().unwrap())).await;
}

/// While nothing can be renewed, the clock goes back a day: whoever went by it would believe in its lease for as long.
#[tokio::test]
async fn a_lease_is_lost_in_its_time_when_the_clock_goes_back() {
    let world = World::postgres_and_etcd().await;
    let (store, etcd) = (
        world.postgres.as_ref().unwrap().url(),
        world.etcd.as_ref().unwrap(),
    );
    let (clock, locks) = (Clock::new().await, etcd_url(etcd));
    let [begun, ended] = ["begun", "ended"].map(|name| clock.folder.path().join(name));
    let script = format!(
        "trap 'touch {}; exit' TERM; touch {}; while :; do sleep 0.1; done",
        ended.display(),
        begun.display()
    );
    let options = ["--store", &store, "--locks", &locks, "--grace", "10s"];
    let child = clock.run(&options, &script).spawn().unwrap();
    eventually(PATIENCE, async || begun.exists()).await;
    etcd.stop();
    clock.jump(-DAY);
    // The TTL, and what a busy machine takes.
    eventually(Duration::from_secs(12), async || ended.exists()).await;
    etcd.cont();
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output());
    let output = output.await.expect("it ends").unwrap();
    assert_eq!(
        output.status.code(),
        Some(76),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
