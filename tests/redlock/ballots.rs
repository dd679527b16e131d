//! Ballots are unique and rise, whatever the instances do.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fencegate::lock::{Held, LockError, LockService, Request, redlock::Redlock};

use super::{SOON, cycle, locks, proxied, proxies, request, three, waiting};
use crate::support::{Proxy, eventually};

/// What the holders of a fence saw, in the order in which they held it.
#[derive(Clone, Default)]
struct History(Arc<Mutex<Vec<i64>>>);

impl History {
    /// While the lock is surely held.
    fn enter(&self, held: &Held) {
        let mut history = self.0.lock().unwrap();
        let (last, now) = (history.last().copied().unwrap_or(0), held.claim.sequence.get());
        assert!(now > last, "{now} came after {last}");
        history.push(now);
    }
}

async fn contend(locks: Redlock, history: History, times: usize) {
    for _ in 0..times {
        // An instance that fails in the middle may cost an attempt.
        let held = loop {
            match locks.acquire(&waiting("a")).await {
                Ok(held) => break held,
                Err(LockError::Unavailable { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error) => panic!("{error}"),
            }
        };
        history.enter(&held);
        tokio::task::yield_now().await;
        while locks.release(&held.claim).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contenders_get_unique_and_rising_ballots() {
    let instances = three().await;
    let processes = [locks(&instances), locks(&instances), locks(&instances)];
    processes[0].identity().await.unwrap();
    let history = History::default();
    let contenders = (0..8).map(|i| tokio::spawn(contend(processes[i % 3].clone(), history.clone(), 50)));
    for contender in contenders.collect::<Vec<_>>() {
        contender.await.unwrap();
    }
    assert_eq!(history.0.lock().unwrap().len(), 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ballots_rise_while_instances_fail_one_after_the_other() {
    let instances = three().await;
    let proxies = proxies(&instances).await;
    let processes = [proxied(&proxies), proxied(&proxies)];
    processes[0].identity().await.unwrap();
    let (history, done) = (History::default(), Arc::new(AtomicBool::new(false)));
    let weather = tokio::spawn({
        let done = done.clone();
        async move {
            for fault in 0.. {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                trouble(&proxies[fault % 3], fault / 3 % 4).await;
            }
        }
    });
    let contenders = (0..4).map(|i| tokio::spawn(contend(processes[i % 2].clone(), history.clone(), 50)));
    for contender in contenders.collect::<Vec<_>>() {
        contender.await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    weather.await.unwrap();
    assert_eq!(history.0.lock().unwrap().len(), 200);
}

/// One kind of trouble on one instance, for a while.
async fn trouble(proxy: &Proxy, kind: usize) {
    let while_ = Duration::from_millis(60);
    match kind {
        0 => proxy.cut(),
        1 => {
            proxy.pause_replies();
            tokio::time::sleep(while_).await;
            proxy.resume();
        }
        2 => {
            proxy.pause();
            tokio::time::sleep(while_).await;
            proxy.cut();
            proxy.resume();
        }
        _ => {
            proxy.delay(Duration::from_millis(30));
            tokio::time::sleep(while_).await;
            proxy.delay(Duration::ZERO);
        }
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
}

#[tokio::test]
async fn a_ballot_that_a_majority_knows_is_passed_with_any_other_majority() {
    let mut instances = three().await;
    let locks = locks(&instances);
    locks.identity().await.unwrap();
    // The third has never heard of the high ballot.
    instances[2].kill9();
    let floor = 1_000_000;
    let high = Request {
        floor,
        ..request("a")
    };
    let held = locks.acquire(&high).await.unwrap();
    assert_eq!(held.claim.sequence.get(), floor + 1);
    locks.release(&held.claim).await.unwrap();
    instances[2].restart().await;
    for down in [0, 1] {
        instances[down].kill9();
        assert!(cycle(&locks, "a").await > floor + 1);
        instances[down].restart().await;
    }
}

#[tokio::test]
async fn a_ballot_that_is_used_up_is_an_error_and_takes_no_lock() {
    let instances = three().await;
    let locks = locks(&instances);
    let floor = i64::MAX - 2;
    let held = locks
        .acquire(&Request {
            floor,
            ..request("a")
        })
        .await
        .unwrap();
    assert_eq!(held.claim.sequence.get(), floor + 1);
    locks.release(&held.claim).await.unwrap();
    assert_eq!(cycle(&locks, "a").await, i64::MAX);
    let error = locks.acquire(&request("a")).await.unwrap_err();
    assert!(matches!(error, LockError::Unexpected { .. }), "{error}");
    for instance in &instances {
        eventually(SOON, async || !super::has_lock(instance, "a").await).await;
    }
}
