//! Which etcd lease serves which lock.

use std::pin::pin;

use fencegate::lock::LockService;

use super::*;
use crate::support::Proxy;

/// A deletion that was not answered may yet come, and would take the next lock by the same lease.
#[tokio::test]
async fn a_lease_whose_key_may_yet_be_deleted_serves_nothing_else() {
    let server = Etcd::start().await;
    let proxy = Proxy::start(server.endpoint()).await;
    let locks = locks(proxy.addr()).await;
    let mut stranger = stranger(&server).await;
    let mut leases = Vec::new();
    for cut in [false, true, false] {
        let held = locks.acquire(&request()).await.unwrap();
        leases.push(keys(&mut stranger).await[0].lease());
        let mut release = pin!(locks.release(&held.claim));
        if cut {
            proxy.pause_requests();
            // All that is ready runs meanwhile: the request is on its way.
            for _ in 0..100 {
                let begun = tokio::time::timeout(Duration::ZERO, &mut release).await;
                assert!(begun.is_err(), "nothing arrives");
            }
            proxy.cut();
            proxy.resume();
        }
        release.await.unwrap();
        assert!(keys(&mut stranger).await.is_empty());
    }
    assert_eq!(leases[0], leases[1], "an answered one may");
    assert_ne!(leases[1], leases[2]);
}
