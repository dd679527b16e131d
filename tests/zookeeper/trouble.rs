//! Replies that are lost, and callers that go away.

use super::*;

const TTL: Duration = Duration::from_secs(2);

/// Whether a piece of what a client sends has a creation of a lock's znode in it.
fn creates(chunk: &[u8]) -> bool {
    chunk.windows(16).any(|window| window == b"fencegate_holder")
}

/// Whether it begins with a removal.
fn deletes(chunk: &[u8]) -> bool {
    chunk
        .get(8..12)
        .is_some_and(|operation| operation == 2i32.to_be_bytes())
}

#[tokio::test]
async fn a_lost_reply_to_the_creation_leaves_one_znode() {
    let server = ZooKeeper::start().await;
    let proxy = Proxy::start(server.endpoint()).await;
    let (locks, stranger) = (locks(proxy.addr()), stranger(&server).await);
    // The fence's znode is there, so that the first creation succeeds.
    locks
        .release(&locks.acquire(&waiting(TTL)).await.unwrap().claim)
        .await
        .unwrap();
    for mut request in [request(TTL), waiting(TTL)] {
        let lost = proxy.cut_on_request(creates);
        let held = locks.acquire(&request).await.unwrap();
        lost.await.unwrap();
        contenders(&stranger, 1).await;
        // Who got no answer asks again.
        request.wait = SOON;
        assert_eq!(locks.acquire(&request).await.unwrap().claim, held.claim);
        assert_eq!(stranger.list_children(LOCK).await.unwrap().len(), 1);
        locks.release(&held.claim).await.unwrap();
        contenders(&stranger, 0).await;
    }
}

/// Asks, and loses patience.
async fn goes_away(locks: &ZookeeperLocks) {
    let request = waiting(TTL);
    let gone = tokio::time::timeout(Duration::from_millis(300), locks.acquire(&request));
    gone.await.unwrap_err();
}

#[tokio::test]
async fn a_caller_that_goes_away_before_the_reply_leaves_nothing() {
    let server = ZooKeeper::start().await;
    let proxy = Proxy::start(server.endpoint()).await;
    let (locks, stranger) = (locks(proxy.addr()), stranger(&server).await);
    locks
        .release(&locks.acquire(&waiting(TTL)).await.unwrap().claim)
        .await
        .unwrap();

    // The server acts, nobody hears of it.
    proxy.pause_replies();
    goes_away(&locks).await;
    contenders(&stranger, 1).await;
    proxy.resume();
    contenders(&stranger, 0).await;

    // The reply is lost, and the caller goes away while the connection is made again.
    let lost = proxy.cut_on_request(creates);
    let acquisition = acquire(&locks, waiting(TTL));
    lost.await.unwrap();
    acquisition.abort();
    contenders(&stranger, 0).await;

    // The request waits in the client.
    proxy.pause();
    goes_away(&locks).await;
    proxy.resume();
    contenders(&stranger, 0).await;
    // What was held up may arrive only now, and is removed then.
    let held = locks.acquire(&waiting(TTL)).await.unwrap();
    locks.release(&held.claim).await.unwrap();
}

#[tokio::test]
async fn a_lost_reply_to_the_release_still_frees_the_lock() {
    let server = ZooKeeper::start().await;
    let proxy = Proxy::start(server.endpoint()).await;
    let (locks, other) = (locks(proxy.addr()), locks(server.endpoint()));
    let held = locks.acquire(&waiting(TTL)).await.unwrap();
    let lost = proxy.cut_on_request(deletes);
    let released = locks.release(&held.claim).await;
    assert!(
        matches!(released, Ok(()) | Err(LockError::Unavailable { .. })),
        "{released:?}"
    );
    lost.await.unwrap();
    other.acquire(&request(TTL)).await.unwrap();
    locks.release(&held.claim).await.unwrap();
}

#[tokio::test]
async fn a_release_that_does_not_get_through_is_made_up_for() {
    let server = ZooKeeper::start().await;
    let proxy = Proxy::start(server.endpoint()).await;
    let (locks, other) = (locks(proxy.addr()), locks(server.endpoint()));
    // A session much longer than the test.
    let ttl = Duration::from_secs(60);
    let held = locks.acquire(&waiting(ttl)).await.unwrap();
    proxy.pause();
    let released = tokio::time::timeout(Duration::from_millis(300), locks.release(&held.claim));
    released.await.unwrap_err();
    proxy.resume();
    other.acquire(&waiting(ttl)).await.unwrap();
}

#[tokio::test]
async fn silence_is_an_error_and_not_a_wait_for_ever() {
    let server = ZooKeeper::start().await;
    let proxy = Proxy::start(server.endpoint()).await;
    let locks = locks(proxy.addr());
    let held = locks.acquire(&waiting(SOON)).await.unwrap();
    let other = "other".parse().unwrap();
    proxy.pause();
    let started = std::time::Instant::now();
    let request = Request {
        name: other,
        ..request(SOON)
    };
    let (acquired, renewed, inspected) = tokio::join!(
        locks.acquire(&request),
        locks.renew(&held.claim),
        locks.inspect(&held.claim.name)
    );
    assert!(
        matches!(acquired, Err(LockError::Unavailable { .. })),
        "{acquired:?}"
    );
    assert!(
        matches!(renewed, Err(LockError::Unavailable { .. })),
        "{renewed:?}"
    );
    assert!(
        matches!(inspected, Err(LockError::Unavailable { .. })),
        "{inspected:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(8));
    proxy.resume();
    eventually(SOON, async || locks.renew(&held.claim).await.is_ok()).await;
}
