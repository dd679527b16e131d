//! Answers that are lost or late: no lock may be left to nobody, and none be given twice.

use std::time::Duration;

use fencegate::lock::{LockError, LockService, redis::RedisLocks};
use redis::AsyncCommands;

use super::{beside, is_free, locks, request, scripts, waiting};
use crate::support::{Proxy, Redis, eventually};

const SOON: Duration = Duration::from_secs(20);

/// A server, with one service through a proxy and one directly.
async fn proxied() -> (Redis, Proxy, RedisLocks, RedisLocks) {
    let server = Redis::start().await;
    let proxy = Proxy::start(server.endpoint()).await;
    let through = locks(&format!("redis://{}", proxy.addr()));
    // So that the connection stands and has the scripts.
    through.identity().await.unwrap();
    let directly = locks(&server.url());
    (server, proxy, through, directly)
}

/// Whether a request runs a script for this fence.
fn about(fence: &'static str) -> impl FnMut(&[u8]) -> bool + Send {
    move |request| String::from_utf8_lossy(request).contains(&format!("fencegate/locks/{fence}\r\n"))
}

#[tokio::test]
async fn a_lost_answer_to_acquire_is_asked_for_again() {
    let (_server, proxy, through, directly) = proxied().await;
    let lost = proxy.cut_on_request(about("a"));
    let held = through.acquire(&request("a")).await.unwrap();
    lost.await.unwrap();
    assert_eq!(held.claim.sequence.get(), 1, "the second script counted again");
    let state = directly.inspect(&held.claim.name).await.unwrap();
    assert_eq!(state.holder.unwrap().holder, Some(held.claim.holder));
    through.renew(&held.claim).await.unwrap();
}

#[tokio::test]
async fn an_acquisition_without_an_answer_leaves_no_lock() {
    let (_server, proxy, through, directly) = proxied().await;
    proxy.pause_replies();
    let error = through.acquire(&request("a")).await.unwrap_err();
    assert!(matches!(error, LockError::Unavailable { .. }), "{error}");
    // Long before its TTL, and without the network getting better.
    eventually(SOON, async || is_free(&directly, "a").await).await;
    let next = directly.acquire(&request("a")).await.unwrap();
    assert_eq!(next.claim.sequence.get(), 2, "the first had taken it");
    proxy.resume();
    through.acquire(&request("b")).await.unwrap();
}

#[tokio::test]
async fn a_dropped_acquisition_leaves_no_lock() {
    let (_server, proxy, through, directly) = proxied().await;
    proxy.pause_replies();
    let request = request("a");
    let acquiring = tokio::time::timeout(Duration::from_millis(100), through.acquire(&request));
    assert!(acquiring.await.is_err());
    eventually(SOON, async || is_free(&directly, "a").await).await;
}

#[tokio::test]
async fn the_same_holder_may_ask_again_before_the_first_attempt_is_undone() {
    let (server, proxy, through, directly) = proxied().await;
    let request = request("a");
    let mut beside = beside(&server).await;
    proxy.pause_replies();
    let mut acquiring = Box::pin(through.acquire(&request));
    let taken = eventually(SOON, async || !is_free(&directly, "a").await);
    tokio::select! {
        _ = &mut acquiring => panic!("there is no answer"),
        () = taken => {}
    }
    // The undoing of the first attempt is held up, and comes after the second one.
    proxy.pause_requests();
    drop(acquiring);
    let held = directly.acquire(&request).await.unwrap();
    assert_eq!(held.claim.sequence.get(), 1);
    let before = scripts(&mut beside).await;
    proxy.resume();
    eventually(SOON, async || scripts(&mut beside).await > before).await;
    directly.renew(&held.claim).await.unwrap();
}

#[tokio::test]
async fn lost_answers_to_renew_and_release_are_asked_for_again() {
    let (_server, proxy, through, directly) = proxied().await;
    let held = through.acquire(&request("a")).await.unwrap();
    let lost = proxy.cut_on_request(about("a"));
    through.renew(&held.claim).await.unwrap();
    lost.await.unwrap();
    let lost = proxy.cut_on_request(about("a"));
    through.release(&held.claim).await.unwrap();
    lost.await.unwrap();
    assert!(is_free(&directly, "a").await);
}

#[tokio::test]
async fn silence_ends_in_an_error_and_then_all_works_again() {
    let (_server, proxy, through, _directly) = proxied().await;
    let held = through.acquire(&request("a")).await.unwrap();
    proxy.pause();
    for _ in 0..3 {
        let error = through.renew(&held.claim).await.unwrap_err();
        assert!(matches!(error, LockError::Unavailable { .. }), "{error}");
    }
    proxy.resume();
    eventually(SOON, async || through.renew(&held.claim).await.is_ok()).await;
}

#[tokio::test]
async fn a_grant_that_comes_after_its_deadline_is_given_back() {
    let (_server, proxy, through, directly) = proxied().await;
    proxy.delay(Duration::from_millis(150));
    let brief = fencegate::lock::Request {
        ttl: Duration::from_millis(200),
        ..request("a")
    };
    let error = through.acquire(&brief).await.unwrap_err();
    assert!(matches!(error, LockError::Unavailable { .. }), "{error}");
    eventually(SOON, async || is_free(&directly, "a").await).await;
}

#[tokio::test]
async fn waiters_survive_a_cut() {
    let (server, proxy, through, directly) = proxied().await;
    let held = directly.acquire(&request("a")).await.unwrap();
    let waiter = tokio::spawn({
        let through = through.clone();
        async move { through.acquire(&waiting("a")).await }
    });
    let mut beside = beside(&server).await;
    eventually(SOON, async || listeners(&mut beside).await == 1).await;
    proxy.cut();
    eventually(SOON, async || listeners(&mut beside).await == 0).await;
    eventually(SOON, async || listeners(&mut beside).await == 1).await;
    directly.release(&held.claim).await.unwrap();
    waiter.await.unwrap().unwrap();
}

async fn listeners(beside: &mut redis::aio::MultiplexedConnection) -> i64 {
    let channels: Vec<String> = redis::cmd("PUBSUB")
        .arg("CHANNELS")
        .query_async(beside)
        .await
        .unwrap();
    i64::try_from(channels.len()).unwrap()
}

#[tokio::test]
async fn a_server_that_is_down_shows_with_the_first_call_and_without_the_password() {
    let mut server = Redis::builder().set("requirepass", "hunter2").start().await;
    let wrong = locks(&format!("redis://:hunter1@{}", server.endpoint()));
    let right = locks(&format!("redis://:hunter2@{}", server.endpoint()));
    right.identity().await.unwrap();
    let error = wrong.identity().await.unwrap_err();
    assert!(matches!(error, LockError::Unavailable { .. }), "{error}");

    server.kill9();
    for (locks, password) in [(&wrong, "hunter1"), (&right, "hunter2")] {
        let error = locks.acquire(&request("a")).await.unwrap_err();
        assert!(matches!(error, LockError::Unavailable { .. }), "{error}");
        let shown = format!("{error} {error:?} {locks:?}");
        assert!(
            shown.contains(&server.endpoint()) && !shown.contains(password),
            "{shown}"
        );
    }

    server.restart().await;
    eventually(SOON, async || right.acquire(&request("a")).await.is_ok()).await;
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_sent_again() {
    let server = Redis::start().await;
    let locks = locks(&server.url());
    let held = locks.acquire(&request("a")).await.unwrap();
    let mut beside = beside(&server).await;
    let () = redis::cmd("SCRIPT")
        .arg("FLUSH")
        .query_async(&mut beside)
        .await
        .unwrap();
    locks.renew(&held.claim).await.unwrap();
    locks.release(&held.claim).await.unwrap();
    assert!(!beside.exists::<_, bool>("fencegate/locks/a").await.unwrap());
}
