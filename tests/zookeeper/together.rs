//! What is asked of a session at the same time goes together, and is answered each on its own.

use futures::future::join_all;
use tokio::task::JoinSet;

use super::*;
use crate::world::acquire_all;

const MANY: usize = 200;
/// Long, so that no session ends what should have been removed.
const TTL: Duration = Duration::from_secs(60);

async fn release_all(locks: &ZookeeperLocks, held: &[Held]) {
    let released = join_all(held.iter().map(|held| locks.release(&held.claim))).await;
    released.into_iter().for_each(Result::unwrap);
}

fn of_fence(number: usize) -> Request {
    Request {
        name: format!("f{number}").parse().unwrap(),
        ..waiting(TTL)
    }
}

fn queue_of(number: usize) -> String {
    format!("/fencegate/locks/f{number}")
}

/// How many contend for the first so many fences.
async fn contenders_each(stranger: &Client, fences: usize) -> Vec<usize> {
    let mut counts = Vec::new();
    for number in 0..fences {
        counts.push(stranger.list_children(&queue_of(number)).await.unwrap().len());
    }
    counts
}

/// The znodes of one transaction have one czxid.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_ask_at_once_for_one_fence_get_numbers_of_their_own() {
    let server = ZooKeeper::start().await;
    let locks = locks(server.endpoint());
    let (sender, mut granted) = tokio::sync::mpsc::unbounded_channel();
    let first = locks.acquire(&waiting(TTL)).await.unwrap();
    for _ in 0..MANY {
        let (locks, sender) = (locks.clone(), sender.clone());
        tokio::spawn(async move { sender.send(locks.acquire(&waiting(TTL)).await.unwrap()) });
    }
    contenders(&stranger(&server).await, MANY + 1).await;
    locks.release(&first.claim).await.unwrap();
    let mut last = first.claim.sequence;
    for _ in 0..MANY {
        let held = granted.recv().await.unwrap();
        assert!(held.claim.sequence > last, "{} after {last}", held.claim.sequence);
        last = held.claim.sequence;
        locks.release(&held.claim).await.unwrap();
    }
}

#[tokio::test]
async fn many_fences_are_acquired_and_released_at_once() {
    let server = ZooKeeper::start().await;
    let (locks, stranger) = (locks(server.endpoint()), stranger(&server).await);
    for _ in 0..3 {
        let held = acquire_all(&locks, (0..MANY).map(of_fence)).await;
        let held: Vec<_> = held.into_iter().map(Result::unwrap).collect();
        assert_eq!(contenders_each(&stranger, MANY).await, [1; MANY]);
        for held in &held {
            let state = locks.inspect(&held.claim.name).await.unwrap();
            assert_eq!(state.holder.unwrap().sequence, held.claim.sequence);
            locks.renew(&held.claim).await.unwrap();
        }
        release_all(&locks, &held).await;
        assert_eq!(contenders_each(&stranger, MANY).await, [0; MANY]);
    }
}

#[tokio::test]
async fn what_cannot_be_done_fails_alone() {
    let server = ZooKeeper::start().await;
    let (locks, stranger) = (locks(server.endpoint()), stranger(&server).await);
    let open = CreateMode::Persistent.with_acls(Acls::anyone_all());
    let closed = CreateMode::Persistent.with_acls(Acls::anyone_read());
    let is_closed = |number: usize| number % 10 == 5;
    for number in 0..MANY {
        let options = if is_closed(number) { &closed } else { &open };
        let (path, folder) = (queue_of(number), "/fencegate/locks");
        stranger.mkdir(folder, &open).await.unwrap();
        stranger.create(&path, b"", options).await.unwrap();
    }
    let asked = join_all((0..MANY).map(|number| {
        let locks = locks.clone();
        async move { locks.acquire(&of_fence(number)).await }
    }));
    let mut held = Vec::new();
    for (number, asked) in asked.await.into_iter().enumerate() {
        match asked {
            Ok(got) => held.push(got),
            Err(error) => assert!(is_closed(number), "f{number}: {error}"),
        }
    }
    assert_eq!(held.len(), MANY - MANY / 10);
    // Somebody else has ended some of them.
    for held in held.iter().step_by(7) {
        let path = format!("/fencegate/locks/{}", held.claim.name);
        let node = stranger.list_children(&path).await.unwrap().pop().unwrap();
        stranger.delete(&format!("{path}/{node}"), None).await.unwrap();
    }
    release_all(&locks, &held).await;
    assert_eq!(contenders_each(&stranger, MANY).await, [0; MANY]);
}

/// Whether a piece of what a client sends has several creations of locks' znodes in it.
fn creates_several(chunk: &[u8]) -> bool {
    let creations = chunk.windows(16).filter(|window| *window == b"fencegate_holder");
    creations.count() > 5
}

/// How many removals of locks' znodes are in it.
fn removes_several(chunk: &[u8]) -> bool {
    let names = chunk.windows(6).filter(|window| *window == b"-lock-");
    names.count() > 5 && !creates_several(chunk)
}

#[tokio::test]
async fn a_lost_answer_leaves_each_one_znode_and_then_none() {
    const FENCES: usize = 40;
    let server = ZooKeeper::start().await;
    let proxy = Proxy::start(server.endpoint()).await;
    let (locks, other, stranger) = (
        locks(proxy.addr()),
        locks(server.endpoint()),
        stranger(&server).await,
    );
    // The fences' znodes are there, so that nothing but the connection fails.
    let before = acquire_all(&other, (0..FENCES).map(of_fence)).await;
    let before: Vec<_> = before.into_iter().map(Result::unwrap).collect();
    release_all(&other, &before).await;

    let lost = proxy.cut_on_request(creates_several);
    let held = acquire_all(&locks, (0..FENCES).map(of_fence)).await;
    let held: Vec<_> = held.into_iter().map(Result::unwrap).collect();
    lost.await.unwrap();
    assert_eq!(contenders_each(&stranger, FENCES).await, [1; FENCES]);
    for held in &held {
        let state = other.inspect(&held.claim.name).await.unwrap();
        assert_eq!(state.holder.unwrap().sequence, held.claim.sequence);
        let request = Request {
            name: held.claim.name.clone(),
            ..request(TTL)
        };
        let refused = other.acquire(&request).await;
        assert!(matches!(refused, Err(LockError::Busy { .. })), "{refused:?}");
    }

    let lost = proxy.cut_on_request(removes_several);
    for released in join_all(held.iter().map(|held| locks.release(&held.claim))).await {
        assert!(
            matches!(released, Ok(()) | Err(LockError::Unavailable { .. })),
            "{released:?}"
        );
    }
    lost.await.unwrap();
    eventually(SOON, async || {
        contenders_each(&stranger, FENCES).await == [0; FENCES]
    })
    .await;
}

/// They wait in this process, behind those whose answers do not come.
#[tokio::test]
async fn callers_that_go_away_before_they_are_sent_leave_nothing() {
    const FENCES: usize = 40;
    let server = ZooKeeper::start().await;
    let proxy = Proxy::start(server.endpoint()).await;
    let (locks, stranger) = (locks(proxy.addr()), stranger(&server).await);
    let held = acquire_all(&locks, (0..FENCES).map(of_fence)).await;
    let held: Vec<_> = held.into_iter().map(Result::unwrap).collect();
    release_all(&locks, &held).await;
    for _ in 0..3 {
        proxy.pause();
        let mut gone = JoinSet::new();
        for number in 0..FENCES {
            let locks = locks.clone();
            gone.spawn(async move { locks.acquire(&of_fence(number)).await });
            // Each is asked for before the next, so that some are under way and others wait.
            tokio::task::yield_now().await;
        }
        gone.shutdown().await;
        proxy.resume();
        eventually(SOON, async || {
            contenders_each(&stranger, FENCES).await == [0; FENCES]
        })
        .await;
    }
    // What was sent late would be there by now.
    let held = acquire_all(&locks, (0..FENCES).map(of_fence)).await;
    assert!(held.iter().all(Result::is_ok));
    assert_eq!(contenders_each(&stranger, FENCES).await, [1; FENCES]);
}

/// A program may have several, and its locks outlive the one that used them first.
#[tokio::test]
async fn a_runtime_that_ends_takes_nothing_with_it() {
    let server = ZooKeeper::start().await;
    let locks = locks(server.endpoint());
    let held = locks.acquire(&request(TTL)).await.unwrap();
    let elsewhere = |locks: ZookeeperLocks, held: Held| {
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                locks.release(&held.claim).await.unwrap();
                locks.acquire(&request(TTL)).await.unwrap()
            })
        };
        tokio::task::spawn_blocking(work)
    };
    let mut held = held;
    for _ in 0..3 {
        held = elsewhere(locks.clone(), held).await.unwrap();
    }
    locks.release(&held.claim).await.unwrap();
}
