//! Curator's `InterProcessMutex`, kazoo's `Lock` and ours exclude each other.

use std::{path::Path, process::Stdio, time::Duration};

use fencegate::{
    Holder, Sequence,
    lock::{LockError, LockService, Request, zookeeper::ZookeeperLocks},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::support::{ZooKeeper, eventually, eventually::PATIENCE, programs};

const LOCK: &str = "/fencegate/locks/a";
const MINUTE: Duration = Duration::from_secs(60);

/// A program with a lock of another library.
struct Foreign {
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

macro_rules! with {
    ($($library:ident)*) => {
        $(
            mod $library {
                #[tokio::test]
                async fn theirs_excludes_ours() {
                    super::theirs_excludes_ours(super::$library).await;
                }

                #[tokio::test]
                async fn ours_excludes_theirs() {
                    super::ours_excludes_theirs(super::$library).await;
                }

                #[tokio::test]
                async fn all_take_turns_under_contention() {
                    super::all_take_turns_under_contention(super::$library).await;
                }

                #[tokio::test]
                async fn theirs_is_confirmed_while_it_lasts() {
                    super::theirs_is_confirmed_while_it_lasts(super::$library).await;
                }
            }
        )*
    };
}
with! { curator kazoo }

fn kazoo(server: &ZooKeeper) -> Command {
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

fn curator(server: &ZooKeeper) -> Command {
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

impl Foreign {
    fn start(mut command: Command) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        Self {
            commands: process.stdin.take().unwrap(),
            answers: BufReader::new(process.stdout.take().unwrap()).lines(),
            _process: process,
        }
    }

    async fn tell(&mut self, command: &str) {
        self.commands
            .write_all(format!("{command}\n").as_bytes())
            .await
            .unwrap();
    }

    async fn answer(&mut self) -> String {
        self.answers
            .next_line()
            .await
            .unwrap()
            .expect("the program still runs")
    }

    async fn ask(&mut self, command: &str) -> String {
        self.tell(command).await;
        self.answer().await
    }
}

async fn start(foreign: fn(&ZooKeeper) -> Command) -> (ZooKeeper, ZookeeperLocks, Foreign) {
    let server = ZooKeeper::start().await;
    let locks = ZookeeperLocks::new(&format!("zookeeper://{}", server.endpoint())).unwrap();
    let foreign = Foreign::start(foreign(&server));
    (server, locks, foreign)
}

fn request(wait: Duration) -> Request {
    Request {
        name: crate::world::name("a"),
        holder: Holder::random(),
        label: "worker-7".into(),
        ttl: MINUTE,
        wait,
        floor: 0,
    }
}

async fn theirs_excludes_ours(foreign: fn(&ZooKeeper) -> Command) {
    let (_server, locks, mut theirs) = start(foreign).await;
    assert_eq!(theirs.ask(&format!("acquire {LOCK} 0")).await, "acquired");
    let error = locks.acquire(&request(Duration::ZERO)).await.unwrap_err();
    assert!(matches!(error, LockError::Busy { .. }), "{error}");

    let waiter = tokio::spawn({
        let locks = locks.clone();
        async move { locks.acquire(&request(MINUTE)).await }
    });
    waits(&locks).await;
    assert!(!waiter.is_finished());
    assert_eq!(theirs.ask("release").await, "released");
    waiter.await.unwrap().unwrap();
    assert_eq!(theirs.ask(&format!("acquire {LOCK} 0")).await, "busy");
}

async fn ours_excludes_theirs(foreign: fn(&ZooKeeper) -> Command) {
    let (_server, locks, mut theirs) = start(foreign).await;
    let held = locks.acquire(&request(Duration::ZERO)).await.unwrap();
    assert_eq!(theirs.ask(&format!("acquire {LOCK} 0")).await, "busy");
    theirs.tell(&format!("acquire {LOCK} 30")).await;
    waits(&locks).await;
    locks.renew(&held.claim).await.unwrap();
    locks.release(&held.claim).await.unwrap();
    assert_eq!(theirs.answer().await, "acquired");
    assert!(matches!(locks.renew(&held.claim).await, Err(LockError::Lost)));
    // A late release must not free the other's.
    locks.release(&held.claim).await.unwrap();
    assert!(locks.acquire(&request(Duration::ZERO)).await.is_err());
}

async fn all_take_turns_under_contention(foreign: fn(&ZooKeeper) -> Command) {
    let (_server, locks, mut theirs) = start(foreign).await;
    let mut last = 0;
    for _ in 0..10 {
        assert_eq!(theirs.ask(&format!("acquire {LOCK} 30")).await, "acquired");
        let their: i64 = theirs.ask("czxid").await.parse().unwrap();
        assert!(their > last);
        // Two, so that the second is handed the lock by the first, unless somebody stands between.
        let ours = [(); 2].map(|()| {
            let locks = locks.clone();
            tokio::spawn(async move {
                let held = locks.acquire(&request(MINUTE)).await.unwrap();
                locks.release(&held.claim).await.unwrap();
                held.claim.sequence.get()
            })
        });
        assert_eq!(theirs.ask("release").await, "released");
        last = their;
        for ours in ours {
            let sequence = ours.await.unwrap();
            assert!(sequence > their);
            last = last.max(sequence);
        }
    }
}

async fn theirs_is_confirmed_while_it_lasts(foreign: fn(&ZooKeeper) -> Command) {
    let (_server, locks, mut theirs) = start(foreign).await;
    let identity = locks.identity().await.unwrap();
    assert_eq!(theirs.ask(&format!("acquire {LOCK} 30")).await, "acquired");
    let czxid = Sequence::new(theirs.ask("czxid").await.parse().unwrap()).unwrap();
    let name = crate::world::name("a");
    assert_eq!(locks.confirm(&name, czxid).await.unwrap(), Some(identity));
    assert_eq!(theirs.ask("release").await, "released");
    assert_eq!(locks.confirm(&name, czxid).await.unwrap(), None);
}

/// Until somebody waits for the lock.
async fn waits(locks: &ZookeeperLocks) {
    let name = crate::world::name("a");
    eventually(PATIENCE, async || {
        locks
            .inspect(&name)
            .await
            .is_ok_and(|state| state.waiting == Some(1))
    })
    .await;
}
