//! A program with a lock of another library, and what it and ours do to each other.

use std::{any::Any, process::Stdio, sync::Arc, time::Duration};

use fencegate::{
    Holder, Sequence,
    lock::{LockError, LockService, Request},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::{
    gateway::Gateway,
    support::{eventually, eventually::PATIENCE},
};

const MINUTE: Duration = Duration::from_secs(60);

/// A program with a lock of another library. It is told line by line what to do: `acquire LOCK SECONDS_TO_WAIT`,
/// `release`, `sequence`.
pub struct Foreign {
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

/// A server on which both meet.
pub struct Meeting {
    pub ours: Arc<dyn LockService>,
    pub theirs: Foreign,
    /// What the other library calls the lock of our fence `a`.
    pub lock: String,
    /// Where ours are, for a gateway.
    pub url: String,
    pub _server: Box<dyn Any>,
}

/// A module for each way of meeting, with every case in it.
macro_rules! meet {
    ($($meeting:ident)*) => {
        $(
            mod $meeting {
                #[tokio::test]
                async fn theirs_excludes_ours() {
                    crate::interop::foreign::theirs_excludes_ours(super::$meeting().await).await;
                }

                #[tokio::test]
                async fn ours_excludes_theirs() {
                    crate::interop::foreign::ours_excludes_theirs(super::$meeting().await).await;
                }

                #[tokio::test]
                async fn all_take_turns_under_contention() {
                    crate::interop::foreign::all_take_turns_under_contention(super::$meeting().await).await;
                }

                #[tokio::test]
                async fn theirs_is_confirmed_while_it_lasts() {
                    crate::interop::foreign::theirs_is_confirmed_while_it_lasts(super::$meeting().await).await;
                }

                #[tokio::test]
                async fn theirs_writes_through_a_gateway_while_it_lasts() {
                    crate::interop::foreign::theirs_writes_through_a_gateway_while_it_lasts(super::$meeting().await).await;
                }
            }
        )*
    };
}
pub(crate) use meet;

impl Foreign {
    pub fn start(mut command: Command) -> Self {
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

    pub async fn tell(&mut self, command: &str) {
        self.commands
            .write_all(format!("{command}\n").as_bytes())
            .await
            .unwrap();
    }

    pub async fn answer(&mut self) -> String {
        self.answers
            .next_line()
            .await
            .unwrap()
            .expect("the program still runs")
    }

    pub async fn ask(&mut self, command: &str) -> String {
        self.tell(command).await;
        self.answer().await
    }
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

pub async fn theirs_excludes_ours(meeting: Meeting) {
    let Meeting {
        ours: locks,
        mut theirs,
        lock,
        _server,
        ..
    } = meeting;
    assert_eq!(theirs.ask(&format!("acquire {lock} 0")).await, "acquired");
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
    assert_eq!(theirs.ask(&format!("acquire {lock} 0")).await, "busy");
}

pub async fn ours_excludes_theirs(meeting: Meeting) {
    let Meeting {
        ours: locks,
        mut theirs,
        lock,
        _server,
        ..
    } = meeting;
    // It may take its time to start, and nobody renews ours.
    assert_eq!(theirs.ask(&format!("acquire {lock} 30")).await, "acquired");
    assert_eq!(theirs.ask("release").await, "released");
    let held = locks.acquire(&request(Duration::ZERO)).await.unwrap();
    assert_eq!(theirs.ask(&format!("acquire {lock} 0")).await, "busy");
    theirs.tell(&format!("acquire {lock} 30")).await;
    waits(&locks).await;
    locks.renew(&held.claim).await.unwrap();
    locks.release(&held.claim).await.unwrap();
    assert_eq!(theirs.answer().await, "acquired");
    assert!(matches!(locks.renew(&held.claim).await, Err(LockError::Lost)));
    // A late release must not free the other's.
    locks.release(&held.claim).await.unwrap();
    assert!(locks.acquire(&request(Duration::ZERO)).await.is_err());
}

pub async fn all_take_turns_under_contention(meeting: Meeting) {
    let Meeting {
        ours: locks,
        mut theirs,
        lock,
        _server,
        ..
    } = meeting;
    let mut last = 0;
    for _ in 0..10 {
        assert_eq!(theirs.ask(&format!("acquire {lock} 30")).await, "acquired");
        let their: i64 = theirs.ask("sequence").await.parse().unwrap();
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

pub async fn theirs_is_confirmed_while_it_lasts(meeting: Meeting) {
    let Meeting {
        ours: locks,
        mut theirs,
        lock,
        _server,
        ..
    } = meeting;
    let identity = locks.identity().await.unwrap();
    assert_eq!(theirs.ask(&format!("acquire {lock} 30")).await, "acquired");
    let sequence = Sequence::new(theirs.ask("sequence").await.parse().unwrap()).unwrap();
    let name = crate::world::name("a");
    assert_eq!(locks.confirm(&name, sequence).await.unwrap(), Some(identity));
    assert_eq!(theirs.ask("release").await, "released");
    assert_eq!(locks.confirm(&name, sequence).await.unwrap(), None);
}

/// With nothing but the number that its own library knows.
pub async fn theirs_writes_through_a_gateway_while_it_lasts(meeting: Meeting) {
    let Meeting {
        mut theirs,
        lock,
        url,
        _server,
        ..
    } = meeting;
    let folder = crate::support::folder("interop");
    let store = format!("sqlite:{}", folder.path().join("store.db").display());
    let gateway = Gateway::start(&store, Some(&url), fencegate::gateway::Config::default()).await;
    let client = gateway.client();
    let before = client.acquire("a").await;
    client.put("a", "k", &before, "ours").await.expect(201);
    client.release("a", &before).await.expect(204);

    assert_eq!(theirs.ask(&format!("acquire {lock} 30")).await, "acquired");
    let number = theirs.ask("sequence").await;
    client.check("a", &number).await.expect(200);
    client.put("a", "k", &number, "theirs").await.expect(200);
    client
        .put("a", "k", &before, "late")
        .await
        .problem(412, "token-stale");
    assert_eq!(theirs.ask("release").await, "released");
    client
        .put("a", "k", &number, "late")
        .await
        .problem(412, "token-unsealed");

    let after = client.acquire("a").await;
    client.put("a", "k", &after, "ours again").await.expect(200);
    client
        .put("a", "k", &number, "late")
        .await
        .problem(412, "token-stale");
    assert_eq!(client.value("a", "k").await.as_deref(), Some("ours again"));
}

/// Until somebody waits for the lock.
async fn waits(locks: &Arc<dyn LockService>) {
    let name = crate::world::name("a");
    eventually(PATIENCE, async || {
        locks
            .inspect(&name)
            .await
            .is_ok_and(|state| state.waiting == Some(1))
    })
    .await;
}
