//! One instance of three, or two, that is down, slow or silent.

use std::time::{Duration, Instant};

use fencegate::lock::{LockError, LockService, Request};

use super::{SOON, assert_unavailable, cycle, has_lock, locks, proxied, proxies, request, three, waiting};
use crate::support::eventually;

#[tokio::test]
async fn tokens_rise_with_each_of_three_down_in_turn() {
    let mut instances = three().await;
    let (one, other) = (locks(&instances), locks(&instances));
    let identity = one.identity().await.unwrap();
    let mut last = 0;
    for down in [0, 1, 2, 0, 1, 2] {
        instances[down].kill9();
        // One that has just been started too, with an instance down from its beginning.
        for locks in [&one, &other, &locks(&instances)] {
            let held = locks.acquire(&request("a")).await.unwrap();
            assert!(
                held.claim.sequence.get() > last,
                "{} after {last}",
                held.claim.sequence
            );
            last = held.claim.sequence.get();
            assert_eq!(held.identity, identity);
            assert!(matches!(
                other.acquire(&request("a")).await,
                Err(LockError::Busy { .. })
            ));
            locks.renew(&held.claim).await.unwrap();
            locks.release(&held.claim).await.unwrap();
            assert!(matches!(locks.renew(&held.claim).await, Err(LockError::Lost)));
        }
        assert_eq!(locks(&instances).identity().await.unwrap(), identity);
        instances[down].restart().await;
    }
}

#[tokio::test]
async fn a_lock_outlives_one_instance() {
    let mut instances = three().await;
    let locks = locks(&instances);
    let held = locks.acquire(&request("a")).await.unwrap();
    for instance in &mut instances {
        instance.kill9();
        locks.renew(&held.claim).await.unwrap();
        assert!(matches!(
            locks.acquire(&request("a")).await,
            Err(LockError::Busy { .. })
        ));
        let seen = locks.inspect(&held.claim.name).await.unwrap().holder.unwrap();
        assert_eq!(seen.sequence, held.claim.sequence);
        instance.restart().await;
    }
}

#[tokio::test]
async fn with_two_down_nothing_is_granted_and_nothing_kept() {
    let mut instances = three().await;
    let locks = locks(&instances);
    let held = locks.acquire(&request("held")).await.unwrap();
    for up in 0..3 {
        for down in (0..3).filter(|down| *down != up) {
            instances[down].kill9();
        }
        assert_unavailable(locks.acquire(&request("a")).await);
        assert_unavailable(locks.renew(&held.claim).await);
        eventually(SOON, async || !has_lock(&instances[up], "a").await).await;
        for down in (0..3).filter(|down| *down != up) {
            instances[down].restart().await;
        }
    }
    locks.renew(&held.claim).await.unwrap();
    locks.acquire(&request("a")).await.unwrap();
}

#[tokio::test]
async fn a_lock_that_two_have_is_given_back_by_who_has_one() {
    let instances = three().await;
    let (one, other) = (locks(&instances), locks(&instances));
    one.identity().await.unwrap();
    // The third took no part in it.
    instances[2].stop();
    let held = one.acquire(&request("a")).await.unwrap();
    instances[2].cont();
    assert!(matches!(
        other.acquire(&request("a")).await,
        Err(LockError::Busy { .. })
    ));
    eventually(SOON, async || {
        // The first holder's, if it came late; never the other's.
        other.acquire(&request("a")).await.is_err()
            && has_lock(&instances[0], "a").await
            && has_lock(&instances[1], "a").await
    })
    .await;
    one.release(&held.claim).await.unwrap();
    other.acquire(&waiting("a")).await.unwrap();
}

#[tokio::test]
async fn a_slow_or_silent_instance_costs_nothing() {
    let instances = three().await;
    let proxies = proxies(&instances).await;
    for proxy in &proxies {
        // Connections that stand have yet to deliver what was held up before.
        let locks = proxied(&proxies);
        cycle(&locks, "a").await;
        proxy.delay(Duration::from_secs(2));
        let started = Instant::now();
        for _ in 0..10 {
            cycle(&locks, "a").await;
        }
        assert!(
            started.elapsed() < Duration::from_secs(1),
            "{:?}",
            started.elapsed()
        );
        proxy.delay(Duration::ZERO);

        let locks = proxied(&proxies);
        cycle(&locks, "a").await;
        proxy.pause();
        let started = Instant::now();
        for _ in 0..10 {
            cycle(&locks, "a").await;
        }
        assert!(
            started.elapsed() < Duration::from_secs(1),
            "{:?}",
            started.elapsed()
        );
        proxy.resume();
    }
    // What was held up arrives in its order, and leaves nothing.
    for instance in &instances {
        eventually(SOON, async || !has_lock(instance, "a").await).await;
    }
}

#[tokio::test]
async fn two_silent_instances_cost_a_bounded_time_and_leave_nothing() {
    let instances = three().await;
    let proxies = proxies(&instances).await;
    let locks = proxied(&proxies);
    cycle(&locks, "a").await;
    proxies[0].pause_replies();
    proxies[1].pause_replies();
    let started = Instant::now();
    assert_unavailable(locks.acquire(&request("a")).await);
    // A round, and giving back.
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
    for instance in &instances {
        eventually(SOON, async || !has_lock(instance, "a").await).await;
    }
}

#[tokio::test]
async fn a_dropped_acquisition_leaves_no_lock() {
    let instances = three().await;
    let proxies = proxies(&instances).await;
    let locks = proxied(&proxies);
    cycle(&locks, "a").await;
    for patience in (0..40).map(|step| Duration::from_micros(step * 100)) {
        let request = waiting("a");
        if let Ok(held) = tokio::time::timeout(patience, locks.acquire(&request)).await {
            locks.release(&held.unwrap().claim).await.unwrap();
        }
    }
    for proxy in &proxies {
        proxy.pause_replies();
    }
    let request = request("a");
    let acquiring = tokio::time::timeout(Duration::from_millis(50), locks.acquire(&request));
    assert!(acquiring.await.is_err());
    for instance in &instances {
        eventually(SOON, async || !has_lock(instance, "a").await).await;
    }
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again() {
    let instances = three().await;
    let proxies = proxies(&instances).await;
    let locks = proxied(&proxies);
    let first = cycle(&locks, "a").await;
    let lost: Vec<_> = proxies
        .iter()
        .map(|proxy| {
            proxy.cut_on_request(|request| String::from_utf8_lossy(request).contains("fencegate/locks/a"))
        })
        .collect();
    let request = request("a");
    let held = locks.acquire(&request).await.unwrap();
    futures::future::join_all(lost).await;
    assert_eq!(held.claim.sequence.get(), first + 1);
    // And one that was lost for good, with its holder: the same acquisition.
    assert_eq!(locks.acquire(&request).await.unwrap().claim, held.claim);
}

#[tokio::test]
async fn a_lock_that_is_too_short_for_its_rounds_is_given_back() {
    let instances = three().await;
    let proxies = proxies(&instances).await;
    let locks = proxied(&proxies);
    cycle(&locks, "a").await;
    for proxy in &proxies {
        proxy.delay(Duration::from_millis(20));
    }
    let brief = Request {
        ttl: Duration::from_millis(60),
        ..request("a")
    };
    assert_unavailable(locks.acquire(&brief).await);
    for instance in &instances {
        eventually(SOON, async || !has_lock(instance, "a").await).await;
    }
}
