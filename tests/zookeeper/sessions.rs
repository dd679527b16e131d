//! Sessions are shared by leases, and their end is the end of these.

use futures::{StreamExt, stream::FuturesUnordered};

use super::*;

#[tokio::test]
async fn leases_share_a_session_and_expire_by_themselves() {
    let server = ZooKeeper::start().await;
    let (locks, other) = (locks(server.endpoint()), locks(server.endpoint()));
    let ttl = Duration::from_secs(2);
    let mut claims = Vec::new();
    for i in 0..20 {
        let request = Request {
            name: format!("f{i}").parse().unwrap(),
            ..request(ttl)
        };
        claims.push(locks.acquire(&request).await.unwrap().claim);
    }
    let connections = server.ask("cons").await.unwrap();
    // One of them is the question's own.
    let sessions = connections
        .lines()
        .filter(|line| line.contains("sid=0x1"))
        .count();
    assert_eq!(sessions, 1, "{connections}");

    // Their process lives, and renews one of them only.
    let abandoned = Request {
        name: "f0".parse().unwrap(),
        ..waiting(ttl)
    };
    let renewing = async {
        loop {
            locks.renew(&claims[1]).await.unwrap();
            tokio::time::sleep(ttl / 5).await;
        }
    };
    tokio::select! {
        next = other.acquire(&abandoned) => assert!(next.unwrap().claim.sequence > claims[0].sequence),
        () = renewing => unreachable!(),
    }
    locks.renew(&claims[1]).await.unwrap();
    assert!(matches!(locks.renew(&claims[0]).await, Err(LockError::Lost)));
}

#[tokio::test]
async fn the_granted_ttl_is_what_the_server_allows() {
    let server = ZooKeeper::builder()
        .set("minSessionTimeout", 1500)
        .set("maxSessionTimeout", 8000)
        .start()
        .await;
    let locks = locks(server.endpoint());
    for (asked, granted) in [(100, 1500), (2000, 2000), (3000, 5000), (60_000, 8000)] {
        let held = locks
            .acquire(&request(Duration::from_millis(asked)))
            .await
            .unwrap();
        assert_eq!(
            held.term.ttl,
            Duration::from_millis(granted),
            "asked for {asked} ms"
        );
        assert!(held.term.deadline.remaining() <= held.term.ttl);
        locks.release(&held.claim).await.unwrap();
    }
}

#[tokio::test]
async fn a_session_that_expires_is_the_loss_of_its_leases_and_is_replaced() {
    let server = ZooKeeper::start().await;
    let proxy = Proxy::start(server.endpoint()).await;
    let (cut_off, other) = (locks(proxy.addr()), locks(server.endpoint()));
    let ttl = Duration::from_secs(1);
    let held = cut_off.acquire(&request(ttl)).await.unwrap();
    proxy.pause();
    let next = other.acquire(&waiting(ttl)).await.unwrap();
    assert!(
        held.term.deadline.has_passed(),
        "two holders believe that they hold the lock"
    );
    assert!(next.claim.sequence > held.claim.sequence);
    other.release(&next.claim).await.unwrap();
    proxy.resume();
    assert!(matches!(cut_off.renew(&held.claim).await, Err(LockError::Lost)));
    // Its new session, without a restart.
    eventually(SOON, async || match cut_off.acquire(&request(ttl)).await {
        Ok(again) => again.claim.sequence > next.claim.sequence,
        Err(error) => {
            assert!(matches!(error, LockError::Unavailable { .. }), "{error}");
            false
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_stops_longer_than_the_session_ends_it() {
    let server = ZooKeeper::start().await;
    let locks = locks(server.endpoint());
    let held = locks.acquire(&request(Duration::from_secs(1))).await.unwrap();
    server.stop();
    let renewal = locks.renew(&held.claim).await;
    assert!(
        matches!(renewal, Err(LockError::Unavailable { .. } | LockError::Lost)),
        "{renewal:?}"
    );
    eventually(SOON, async || held.term.deadline.has_passed()).await;
    server.cont();
    let renewal = renewed(locks.clone(), held.claim.clone()).await;
    assert!(matches!(renewal, Err(LockError::Lost)), "{renewal:?}");
    let next = locks.acquire(&waiting(Duration::from_secs(1))).await.unwrap();
    assert!(next.claim.sequence > held.claim.sequence);
}

#[tokio::test]
async fn a_short_disconnect_is_no_loss() {
    let server = ZooKeeper::start().await;
    let mut proxy = Proxy::start(server.endpoint()).await;
    let (locks, other) = (locks(proxy.addr()), locks(server.endpoint()));
    let ttl = Duration::from_secs(10);
    let held = locks.acquire(&request(ttl)).await.unwrap();
    let waiter = acquire(&locks, waiting(ttl));
    contenders(&stranger(&server).await, 2).await;
    for _ in 0..3 {
        proxy.refuse(true).await;
        proxy.cut();
        let renewal = tokio::spawn(renewed(locks.clone(), held.claim.clone()));
        tokio::time::sleep(Duration::from_millis(700)).await;
        proxy.refuse(false).await;
        renewal.await.unwrap().unwrap();
        assert!(matches!(
            other.acquire(&request(ttl)).await,
            Err(LockError::Busy { .. })
        ));
        assert!(!waiter.is_finished());
    }
    // Who waits on the connection that broke still hears of the release.
    other.release(&held.claim).await.unwrap();
    let next = waiter.await.unwrap().unwrap();
    assert!(next.claim.sequence > held.claim.sequence);
}

/// The client asks for all its watches anew, in one request as long as they fit into one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_disconnect_is_no_loss_to_many() {
    const MANY: usize = 700;
    let server = ZooKeeper::start().await;
    let proxy = Proxy::start(server.endpoint()).await;
    let (locks, ttl) = (locks(proxy.addr()), Duration::from_secs(60));
    let request = Request {
        name: "f".repeat(FenceName::LONGEST).parse().unwrap(),
        wait: SOON * 3,
        ..request(ttl)
    };
    let held = locks.acquire(&request).await.unwrap();
    let mut waiters = Vec::new();
    for _ in 0..MANY {
        let request = Request {
            holder: Holder::random(),
            ..request.clone()
        };
        waiters.push(acquire(&locks, request));
    }
    let watched = async || {
        let summary = server.ask("wchs").await.unwrap();
        let total = summary.trim().rsplit("watches:").next();
        total.unwrap().trim().parse::<usize>().unwrap()
    };
    // As many as there is room for, and no more.
    let mut before = 0;
    eventually(SOON, async || {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = watched().await;
        now > 100 && now == std::mem::replace(&mut before, now)
    })
    .await;
    proxy.cut();
    let renewal = renewed(locks.clone(), held.claim.clone()).await;
    assert!(renewal.is_ok(), "{renewal:?}");
    assert_eq!(watched().await, before);
    // Also whom no watch tells hears of those before him that have gone.
    let (gone, left): (Vec<_>, Vec<_>) = waiters.into_iter().enumerate().partition(|(n, _)| n % 3 > 0);
    for (_, waiter) in &gone {
        waiter.abort();
    }
    locks.release(&held.claim).await.unwrap();
    let mut left: FuturesUnordered<_> = left.into_iter().map(|(_, waiter)| waiter).collect();
    while let Some(held) = left.next().await {
        locks.release(&held.unwrap().unwrap().claim).await.unwrap();
    }
}

#[tokio::test]
async fn a_restart_of_the_server_is_no_loss() {
    let mut server = ZooKeeper::start().await;
    let locks = locks(server.endpoint());
    let ttl = Duration::from_secs(20);
    let held = locks.acquire(&request(ttl)).await.unwrap();
    server.restart().await;
    eventually(SOON, async || match locks.renew(&held.claim).await {
        Ok(term) => term.deadline > held.term.deadline,
        Err(error) => {
            assert!(error.is_retryable(), "{error}");
            false
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_lost_its_data_renews_nothing_and_is_another_one() {
    let mut server = ZooKeeper::start().await;
    let locks = locks(server.endpoint());
    // Far from expired. The server refuses the old session's connections, since it is behind what that has seen.
    let ttl = Duration::from_secs(600);
    let held = locks.acquire(&request(ttl)).await.unwrap();
    server.restart_empty().await;
    eventually(SOON * 2, async || {
        let renewed = locks.renew(&held.claim).await;
        assert!(renewed.is_err(), "renewed what is gone");
        match locks.acquire(&request(ttl)).await {
            Ok(again) => again.identity != held.identity,
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                false
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_down_is_named_and_may_come_up_later() {
    let mut server = ZooKeeper::start().await;
    server.kill9();
    let locks = locks(server.endpoint());
    let started = std::time::Instant::now();
    match locks.acquire(&waiting(Duration::from_secs(10))).await {
        Err(LockError::Unavailable { service, .. }) => {
            assert!(service.contains(&server.endpoint()), "{service}")
        }
        other => panic!("{other:?}"),
    }
    assert!(started.elapsed() < SOON / 2);
    server.restart().await;
    locks.acquire(&request(Duration::from_secs(10))).await.unwrap();
}
