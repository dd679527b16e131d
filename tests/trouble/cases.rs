//! What is done to a connection, and what must come of it.

use std::time::{Duration, Instant};

use fencegate::lock::{Held, LockError};

use super::{Fixture, LONG};
use crate::support::{eventually, eventually::PATIENCE};

/// The lock is to be had, though nothing that was left behind would expire.
async fn is_free(f: &Fixture) {
    let mut held = None;
    eventually(PATIENCE, async || {
        match f
            .beside
            .acquire(&f.request(LONG, Duration::from_millis(500)))
            .await
        {
            Ok(free) => held = Some(free),
            Err(error) => println!("not yet: {error}"),
        }
        held.is_some()
    })
    .await;
    let held = held.unwrap();
    eventually(PATIENCE, async || f.beside.release(&held.claim).await.is_ok()).await;
}

/// A correct grant, or an error that says that the service could not be asked.
fn is_clear(acquired: Result<Held, LockError>) -> Option<Held> {
    match acquired {
        Ok(held) => Some(held),
        Err(LockError::Unavailable { .. }) => None,
        Err(error) => panic!("neither a grant nor a clear error: {error:?}"),
    }
}

async fn release(f: &Fixture, held: &Held) {
    eventually(PATIENCE, async || f.through.release(&held.claim).await.is_ok()).await;
}

pub async fn cut_while_acquiring(f: Fixture) {
    let mut last = 0;
    for i in 0..12u64 {
        let request = f.request(LONG, PATIENCE);
        let cut = async {
            tokio::time::sleep(Duration::from_micros(i * i * 100)).await;
            f.proxy.cut();
        };
        let (acquired, ()) = tokio::join!(f.through.acquire(&request), cut);
        if let Some(held) = is_clear(acquired) {
            assert!(held.claim.sequence.get() > last);
            last = held.claim.sequence.get();
            let inspected = f.beside.inspect(&request.name).await.unwrap();
            let holder = inspected.holder.expect("it is held");
            assert_eq!(holder.sequence, held.claim.sequence);
            release(&f, &held).await;
        }
    }
    is_free(&f).await;
}

pub async fn cut_while_renewing(f: Fixture) {
    let held = f.through.acquire(&f.request(LONG, PATIENCE)).await.unwrap();
    for i in 0..8u64 {
        let cut = async {
            tokio::time::sleep(Duration::from_micros(i * i * 150)).await;
            f.proxy.cut();
        };
        let (renewed, ()) = tokio::join!(f.through.renew(&held.claim), cut);
        if let Err(error) = renewed {
            assert!(error.is_retryable(), "{error:?}");
        }
    }
    eventually(PATIENCE, async || match f.through.renew(&held.claim).await {
        Err(LockError::Lost) => panic!("a connection that broke is no loss"),
        renewed => renewed.is_ok(),
    })
    .await;
    release(&f, &held).await;
    is_free(&f).await;
}

pub async fn cut_while_releasing(f: Fixture) {
    for i in 0..8u64 {
        let held = f.through.acquire(&f.request(LONG, PATIENCE)).await.unwrap();
        let cut = async {
            tokio::time::sleep(Duration::from_micros(i * i * 150)).await;
            f.proxy.cut();
        };
        let (released, ()) = tokio::join!(f.through.release(&held.claim), cut);
        if let Err(error) = released {
            assert!(error.is_retryable(), "{error:?}");
            release(&f, &held).await;
        }
        is_free(&f).await;
    }
}

pub async fn the_reply_to_an_acquisition_is_lost(f: Fixture) {
    let request = f.request(LONG, PATIENCE);
    let lost = f.proxy.cut_on_request(f.takes);
    let first = is_clear(f.through.acquire(&request).await);
    lost.await.unwrap();
    // Who got no answer asks again, and gets what it has.
    let again = match first {
        Some(held) => held,
        None => f.through.acquire(&request).await.unwrap(),
    };
    let holder = f.beside.inspect(&request.name).await.unwrap().holder.unwrap();
    assert_eq!(
        (holder.sequence, holder.holder),
        (again.claim.sequence, Some(again.claim.holder))
    );
    release(&f, &again).await;
    is_free(&f).await;
}

pub async fn the_reply_to_a_release_is_lost(f: Fixture) {
    let held = f.through.acquire(&f.request(LONG, PATIENCE)).await.unwrap();
    let lost = f.proxy.cut_on_request(f.frees);
    if let Err(error) = f.through.release(&held.claim).await {
        assert!(
            error.to_string().contains("may have happened") || error.is_retryable(),
            "{error:?}"
        );
    }
    lost.await.unwrap();
    // The server has acted.
    let next = f.beside.acquire(&f.request(LONG, PATIENCE)).await.unwrap();
    // And a second release does nothing to who came next.
    release(&f, &held).await;
    f.beside.renew(&next.claim).await.unwrap();
    f.beside.release(&next.claim).await.unwrap();
    is_free(&f).await;
}

pub async fn dropped_while_the_server_is_silent(f: Fixture) {
    for replies_only in [true, false] {
        for patience in [0, 2, 10, 50, 300] {
            if replies_only {
                f.proxy.pause_replies();
            } else {
                f.proxy.pause();
            }
            let request = f.request(LONG, PATIENCE);
            let dropped =
                tokio::time::timeout(Duration::from_millis(patience), f.through.acquire(&request)).await;
            assert!(dropped.is_err(), "granted in silence");
            f.proxy.resume();
        }
        is_free(&f).await;
    }
}

/// What is to be given back cannot be at first, and is later.
pub async fn dropped_while_the_server_is_out_of_reach(mut f: Fixture) {
    for patience in [2, 30] {
        f.proxy.pause_replies();
        let request = f.request(LONG, PATIENCE);
        let acquiring = f.through.acquire(&request);
        assert!(
            tokio::time::timeout(Duration::from_millis(patience), acquiring)
                .await
                .is_err()
        );
        f.proxy.refuse(true).await;
        f.proxy.cut();
        f.proxy.resume();
        tokio::time::sleep(Duration::from_secs(1)).await;
        f.proxy.refuse(false).await;
        is_free(&f).await;
    }
}

pub async fn five_seconds_of_silence(f: Fixture) {
    let held = f.through.acquire(&f.request(LONG, PATIENCE)).await.unwrap();
    f.proxy.pause();
    let began = Instant::now();
    let other = fencegate::lock::Request {
        name: crate::world::name("another"),
        ..f.request(LONG, Duration::ZERO)
    };
    let (acquired, renewed, inspected) = tokio::join!(
        f.through.acquire(&other),
        f.through.renew(&held.claim),
        f.through.inspect(&held.claim.name)
    );
    for error in [acquired.map(drop), renewed.map(drop), inspected.map(drop)] {
        let error = error.expect_err("nothing comes through");
        assert!(matches!(error, LockError::Unavailable { .. }), "{error:?}");
    }
    // No caller waits much longer than the service's own limits.
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    tokio::time::sleep(Duration::from_secs(5).saturating_sub(began.elapsed())).await;
    f.proxy.resume();
    eventually(PATIENCE, async || match f.through.renew(&held.claim).await {
        Err(LockError::Lost) => panic!("silence within the TTL is no loss"),
        renewed => renewed.is_ok(),
    })
    .await;
    release(&f, &held).await;
    is_free(&f).await;
}

pub async fn nobody_believes_in_a_lock_that_another_has(f: Fixture) {
    let held = f.through.acquire(&f.request(f.ttl, PATIENCE)).await.unwrap();
    let term = f.through.renew(&held.claim).await.unwrap_or(held.term);
    f.proxy.pause();
    let next = f.beside.acquire(&f.request(f.ttl, PATIENCE)).await.unwrap();
    assert!(term.deadline.has_passed(), "two believe that they hold the lock");
    assert!(next.claim.sequence > held.claim.sequence);
    f.proxy.resume();
    // Its renewal is too late, whenever it gets through.
    eventually(PATIENCE, async || match f.through.renew(&held.claim).await {
        Ok(_) => panic!("a lock was taken back"),
        Err(error) => matches!(error, LockError::Lost),
    })
    .await;
}

pub async fn the_server_is_restarted(mut f: Fixture) {
    let held = f.through.acquire(&f.request(LONG, PATIENCE)).await.unwrap();
    let waiting = f.request(LONG, PATIENCE * 4);
    let waiter = tokio::spawn({
        let through = f.through.clone();
        async move { through.acquire(&waiting).await }
    });
    f.server.restart().await;
    // All of them keep their locks over a restart.
    eventually(PATIENCE, async || match f.through.renew(&held.claim).await {
        Err(LockError::Lost) => panic!("a restart is no loss"),
        renewed => renewed.is_ok(),
    })
    .await;
    release(&f, &held).await;
    let next = match waiter.await.unwrap() {
        Ok(held) => held,
        // Who waited while the server was away is told so, and leaves nothing.
        Err(LockError::Unavailable { .. }) => {
            let mut next = None;
            eventually(PATIENCE, async || {
                next = f.through.acquire(&f.request(LONG, PATIENCE)).await.ok();
                next.is_some()
            })
            .await;
            next.unwrap()
        }
        Err(error) => panic!("{error:?}"),
    };
    assert!(next.claim.sequence > held.claim.sequence);
    release(&f, &next).await;
    is_free(&f).await;
}
