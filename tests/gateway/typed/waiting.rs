//! Waiting for a fence: how long a lease that was waited for lasts, and what is left when nobody waits any more.

use std::time::Duration;

use fencegate::{client::AcquireOptions, lock::given_back};

use super::{World, client, fence, long, of, patiently};
use crate::support::{eventually, eventually::PATIENCE};

on_every_store! {
    a_lease_that_was_waited_for_is_a_whole_one
    who_stops_waiting_leaves_nothing_behind
}

async fn a_lease_that_was_waited_for_is_a_whole_one(world: World) {
    let gateway = world.gateway().await;
    let (client, a) = (client(gateway.port), fence("a"));
    let ttl = Duration::from_secs(3);
    let first = client.acquire(&a, long()).await.unwrap();
    let busy = client.acquire(&a, long()).await.unwrap_err();
    assert!(busy.is_busy() && busy.is_retryable(), "{busy}");
    let waiting = {
        let (client, a) = (client.clone(), a.clone());
        let options = AcquireOptions {
            wait: Some(Duration::from_secs(60)),
            ..of(ttl)
        };
        tokio::spawn(async move { client.acquire(&a, options).await })
    };
    // For longer than the lease that is waited for lasts.
    tokio::time::sleep(ttl + Duration::from_millis(500)).await;
    assert!(!waiting.is_finished());
    first.release().await.unwrap();
    let lease = waiting.await.unwrap().unwrap();
    // Counted from when it was asked for, it would be over.
    assert!(!lease.is_lost() && lease.remaining() <= lease.ttl());
    lease.renew().await.unwrap();
    lease.release().await.unwrap();
}

async fn who_stops_waiting_leaves_nothing_behind(world: World) {
    let gateway = world.gateway().await;
    let (client, a) = (client(gateway.port), fence("a"));
    // Dropped at any moment of an acquisition.
    for moment in (0..15).map(|n| Duration::from_millis(2 * n)) {
        let _ = tokio::time::timeout(moment, client.acquire(&a, long())).await;
        given_back().await;
    }
    let holder = client.acquire(&a, patiently()).await.unwrap();
    let waiting = {
        let (client, a) = (client.clone(), a.clone());
        tokio::spawn(async move { client.acquire(&a, patiently()).await })
    };
    if world.locks.is_some() {
        eventually(PATIENCE, async || {
            client.fence(&a).await.unwrap().unwrap().waiting == Some(1)
        })
        .await;
    } else {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    waiting.abort();
    let _ = waiting.await;
    given_back().await;
    holder.release().await.unwrap();
    client.acquire(&a, patiently()).await.unwrap();
}
