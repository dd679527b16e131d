//! The lock goes to the next one of the same process at once, and to nobody else before.

use fencegate::{Options, connect};
use tokio::task::{JoinHandle, JoinSet};

use super::*;
use crate::support::folder;

/// Long, so that what was heard of the server a second ago still counts.
const TTL: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_next_one_of_the_process_does_not_wait_for_the_server() {
    let server = ZooKeeper::start().await;
    let proxy = Proxy::start(server.endpoint()).await;
    let (locks, other, stranger) = (
        locks(proxy.addr()),
        locks(server.endpoint()),
        stranger(&server).await,
    );
    let held = locks.acquire(&request(TTL)).await.unwrap();
    let next = acquire(&locks, waiting(TTL));
    contenders(&stranger, 2).await;
    let last = acquire(&other, waiting(TTL));
    contenders(&stranger, 3).await;
    // The server has heard of it just now; of the release it does not hear.
    locks.renew(&held.claim).await.unwrap();
    proxy.pause();
    let release = tokio::spawn({
        let (locks, claim) = (locks.clone(), held.claim.clone());
        async move { locks.release(&claim).await }
    });
    let next = tokio::time::timeout(SOON / 10, next)
        .await
        .expect("handed over")
        .unwrap()
        .unwrap();
    assert!(next.claim.sequence > held.claim.sequence);
    assert!(next.term.deadline > held.term.deadline);
    assert!(!release.is_finished() && !last.is_finished());
    proxy.resume();
    release.await.unwrap().unwrap();
    contenders(&stranger, 2).await;
    locks.renew(&next.claim).await.unwrap();
    assert!(matches!(locks.renew(&held.claim).await, Err(LockError::Lost)));
    assert!(!last.is_finished());
    locks.release(&next.claim).await.unwrap();
    assert!(last.await.unwrap().unwrap().claim.sequence > next.claim.sequence);
}

#[tokio::test]
async fn a_session_that_may_have_ended_hands_nothing_over() {
    let server = ZooKeeper::start().await;
    let proxy = Proxy::start(server.endpoint()).await;
    let (locks, other, stranger) = (
        locks(proxy.addr()),
        locks(server.endpoint()),
        stranger(&server).await,
    );
    let ttl = Duration::from_secs(1);
    let held = locks.acquire(&request(ttl)).await.unwrap();
    let next = acquire(&locks, waiting(ttl));
    contenders(&stranger, 2).await;
    proxy.pause();
    let taken = other.acquire(&waiting(ttl)).await.unwrap();
    let released = tokio::time::timeout(ttl / 2, locks.release(&held.claim)).await;
    assert!(!next.is_finished(), "{released:?}");
    renewed(other, taken.claim.clone()).await.unwrap();
    proxy.resume();
    // It has lost its place in the queue, not its patience.
    let next = next.await.unwrap().unwrap();
    assert!(next.claim.sequence > taken.claim.sequence);
}

#[tokio::test]
async fn who_stands_between_is_not_passed() {
    let server = ZooKeeper::start().await;
    let (locks, stranger) = (locks(server.endpoint()), stranger(&server).await);
    let held = locks.acquire(&request(TTL)).await.unwrap();
    let (between, _) = queue_up(&stranger).await;
    let next = acquire(&locks, waiting(TTL));
    contenders(&stranger, 3).await;
    locks.release(&held.claim).await.unwrap();
    contenders(&stranger, 2).await;
    assert!(matches!(
        locks.acquire(&request(TTL)).await,
        Err(LockError::Busy { .. })
    ));
    assert!(!next.is_finished());
    stranger.delete(&between, None).await.unwrap();
    next.await.unwrap().unwrap();
}

#[tokio::test]
async fn who_gave_up_in_the_queue_holds_nobody_up() {
    let server = ZooKeeper::start().await;
    let (locks, stranger) = (locks(server.endpoint()), stranger(&server).await);
    let held = locks.acquire(&request(TTL)).await.unwrap();
    let gone = acquire(&locks, waiting(TTL));
    contenders(&stranger, 2).await;
    let next = acquire(&locks, waiting(TTL));
    contenders(&stranger, 3).await;
    gone.abort();
    locks.release(&held.claim).await.unwrap();
    next.await.unwrap().unwrap();
}

/// Its sessions last so long that what was heard of the server many handovers ago still counts.
async fn patient_server() -> ZooKeeper {
    let longest = LONG.as_millis();
    ZooKeeper::builder()
        .set("maxSessionTimeout", longest)
        .start()
        .await
}

const LONG: Duration = Duration::from_secs(1800);

/// Hands the lock over so often, while the server hears of nothing: all those znodes stand before the holder's. The releases
/// end when it hears again.
async fn hand_over(
    locks: &ZookeeperLocks,
    held: Held,
    waiters: impl IntoIterator<Item = JoinHandle<Result<Held, LockError>>>,
) -> (Held, JoinSet<Result<(), LockError>>) {
    let (mut held, mut releases) = (held, JoinSet::new());
    for next in waiters {
        let (locks, claim) = (locks.clone(), held.claim.clone());
        releases.spawn(async move { locks.release(&claim).await });
        held = tokio::time::timeout(SOON, next)
            .await
            .expect("handed over")
            .unwrap()
            .unwrap();
    }
    (held, releases)
}

#[tokio::test]
async fn behind_many_that_were_handed_over_a_holder_is_found() {
    let server = patient_server().await;
    let proxy = Proxy::start(server.endpoint()).await;
    let (locks, other, stranger) = (
        locks(proxy.addr()),
        locks(server.endpoint()),
        stranger(&server).await,
    );
    locks.advertise("http://gateway");
    let first = locks.acquire(&request(LONG)).await.unwrap();
    let mut waiters = Vec::new();
    let mut last = waiting(LONG);
    for count in 0..10 {
        last = waiting(LONG);
        waiters.push(acquire(&locks, last.clone()));
        contenders(&stranger, 2 + count).await;
    }
    locks.renew(&first.claim).await.unwrap();
    proxy.pause();
    let (holder, mut releases) = hand_over(&locks, first, waiters).await;
    // Here it is known who is on the way out; elsewhere the oldest of them is taken for the holder.
    let gateway =
        |error| matches!(error, Err(LockError::Elsewhere { gateway: Some(url) }) if url == "http://gateway");
    assert!(gateway(other.renew(&holder.claim).await.map(|_| ())));
    let again = tokio::time::timeout(SOON / 2, other.acquire(&last)).await;
    assert!(gateway(
        again.expect("the holder that asks again is sent on").map(|_| ())
    ));
    contenders(&stranger, 11).await;
    other.release(&holder.claim).await.unwrap();
    contenders(&stranger, 10).await;
    proxy.resume();
    while let Some(released) = releases.join_next().await {
        released.unwrap().unwrap();
    }
    contenders(&stranger, 0).await;
}

#[tokio::test]
async fn so_many_are_handed_over_and_then_the_server_is_waited_for() {
    let server = patient_server().await;
    let proxy = Proxy::start(server.endpoint()).await;
    let (locks, stranger) = (locks(proxy.addr()), stranger(&server).await);
    let first = locks.acquire(&request(LONG)).await.unwrap();
    let mut waiters = Vec::new();
    for count in 0..66 {
        waiters.push(acquire(&locks, waiting(LONG)));
        contenders(&stranger, 2 + count).await;
    }
    let (last, next) = (waiters.pop().unwrap(), waiters.pop().unwrap());
    locks.renew(&first.claim).await.unwrap();
    proxy.pause();
    let (held, mut releases) = hand_over(&locks, first, waiters).await;
    releases.spawn({
        let (locks, claim) = (locks.clone(), held.claim.clone());
        async move { locks.release(&claim).await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!next.is_finished(), "65 znodes stand before its own");
    proxy.resume();
    let held = next.await.unwrap().unwrap();
    locks.release(&held.claim).await.unwrap();
    last.await.unwrap().unwrap();
    while let Some(released) = releases.join_next().await {
        released.unwrap().unwrap();
    }
}

/// By a gateway that takes a znode of a lock that was handed over for the holder's.
#[tokio::test]
async fn a_release_by_force_finds_who_was_handed_the_lock() {
    let (server, folder) = (patient_server().await, folder("store"));
    let proxy = Proxy::start(server.endpoint()).await;
    let store = format!("sqlite:{}", folder.path().join("store.db").display());
    let url = |endpoint: String| format!("zookeeper://{endpoint}");
    let here = connect(&store, Some(&url(proxy.addr().to_string())))
        .await
        .unwrap();
    let there = connect(&store, Some(&url(server.endpoint()))).await.unwrap();
    let stranger = stranger(&server).await;
    let options = Options {
        ttl: LONG,
        wait: SOON,
        ..Options::default()
    };
    let first = here.grant(&name(), options.clone()).await.unwrap();
    let next = tokio::spawn({
        let (here, options) = (here.clone(), options.clone());
        async move { here.grant(&name(), options).await }
    });
    contenders(&stranger, 2).await;
    here.renew(&name(), &first.token).await.unwrap();
    proxy.pause();
    let released = tokio::spawn({
        let here = here.clone();
        async move { here.release(&name(), &first.token).await }
    });
    let next = next.await.unwrap().unwrap();
    there.force_release(&name()).await.unwrap();
    contenders(&stranger, 0).await;
    proxy.resume();
    released.await.unwrap().unwrap();
    assert!(here.renew(&name(), &next.token).await.unwrap_err().is_lost());
}
