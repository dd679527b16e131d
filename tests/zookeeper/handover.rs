//! The lock goes to the next one of the same process at once, and to nobody else before.

use super::*;

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
