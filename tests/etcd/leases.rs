//! etcd leases serve one acquisition after the other.

use fencegate::lock::LockService;

use super::*;

/// etcd grants no less than its minimum, two seconds here. What was asked for counts when it is asked for again.
#[tokio::test]
async fn one_that_etcd_made_longer_is_used_again() {
    let server = Etcd::start().await;
    let locks = locks(server.endpoint()).await;
    let mut stranger = stranger(&server).await;
    let brief = || Request {
        ttl: Duration::from_secs(1),
        ..request()
    };
    for _ in 0..50 {
        let held = locks.acquire(&brief()).await.unwrap();
        assert!(held.term.ttl > Duration::from_secs(1), "it was not made longer");
        locks.release(&held.claim).await.unwrap();
    }
    let leases = stranger.leases().await.unwrap();
    assert!(leases.leases().len() < 10, "{}", leases.leases().len());
}
