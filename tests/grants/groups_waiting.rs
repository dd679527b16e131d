//! Group commit: what waits for its turn is bounded, and holds no strangers up.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fencegate::{StoreError, guard::postgres::enter, rule::Reason};

use super::groups::{a_fence_is_waited_for, all, hold, put, seal_next};
use crate::world::{World, name};

/// A sealer waits for a long transaction of an older holder, and the fence's writers wait behind it. Strangers do
/// not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_that_is_being_sealed_stalls_nobody_else() {
    let world = Arc::new(World::postgres().await);
    let (token, strangers) = (world.grant("f").await, world.grant("g").await);
    let pool = world.pool();
    let mut transaction = pool.begin().await.unwrap();
    enter(&mut transaction, &name("f"), &token.mark()).await.unwrap();
    let seal = seal_next(&world, &token);
    a_fence_is_waited_for(&pool).await;
    // More of them than fit into a batch.
    let stuck: Vec<_> = (0..1500)
        .map(|i| {
            let (world, token) = (world.clone(), token.clone());
            tokio::spawn(async move { world.put("f", &token, &format!("k{i}"), "x").await })
        })
        .collect();
    let started = Instant::now();
    let mut passed = 0;
    while !seal.is_finished() {
        world
            .put("g", &strangers, &format!("k{}", passed % 50), "x")
            .await
            .unwrap();
        passed += 1;
    }
    assert!(passed >= 4, "{passed} in {:?}", started.elapsed());
    seal.await.unwrap();
    for stuck in stuck {
        match stuck.await.unwrap() {
            // The sealer lets go once, before it ends the sessions in its way: the mark is still the token then.
            Ok(_) => {}
            Err(StoreError::Refused(refusal)) => assert_eq!(refusal.reason, Reason::Stale),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(world.put("f", &token, "late", "x").await.unwrap_err().is_stale());
}

/// While a fence is being sealed its writes do not pile up without end, and strangers still pass.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_behind_a_seal_is_bounded() {
    let world = Arc::new(World::postgres().await);
    let (token, strangers) = (world.grant("f").await, world.grant("g").await);
    let pool = world.pool();
    let mut inside = pool.begin().await.unwrap();
    enter(&mut inside, &name("f"), &token.mark()).await.unwrap();
    // A sealer with endless patience.
    let mut sealing = pool.begin().await.unwrap();
    let sealer = tokio::spawn(async move {
        let lock = "select pg_advisory_xact_lock(fencegate.lock_key('f'))";
        sqlx::query(lock).execute(&mut *sealing).await.unwrap();
        sealing.rollback().await.unwrap();
    });
    a_fence_is_waited_for(&pool).await;
    let answered = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let stuck: Vec<_> = (0..30_000)
        .map(|i| {
            let (world, token, answered) = (world.clone(), token.clone(), answered.clone());
            tokio::spawn(async move {
                let answer = world.put("f", &token, &format!("k{i}"), "x").await;
                answered.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                answer
            })
        })
        .collect();
    // The queue, as many behind the fence, and what is in two batches: no more than that waits.
    crate::support::eventually(Duration::from_secs(60), async || {
        world.put("g", &strangers, "k", "x").await.unwrap();
        answered.load(std::sync::atomic::Ordering::Relaxed) >= 30_000 - 2 * 8192 - 2 * 512
    })
    .await;
    assert!(!sealer.is_finished());
    inside.rollback().await.unwrap();
    sealer.await.unwrap();
    let mut written = 0;
    for stuck in stuck {
        match stuck.await.unwrap() {
            Ok(_) => written += 1,
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
    }
    assert!(written >= 8192, "{written}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_is_bounded() {
    let world = World::postgres().await;
    let token = world.grant("f").await;
    let held = hold(&world).await;
    let writes: Vec<_> = (0..12_000)
        .map(|i| put("f", &token, &i.to_string(), "x"))
        .collect();
    let writing = all(&world, &writes);
    let answers = tokio::join!(writing, async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        held.rollback().await.unwrap();
    })
    .0;
    let (written, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert!(
        written.len() >= 8192 && !refused.is_empty(),
        "{} written",
        written.len()
    );
    assert!(
        refused
            .into_iter()
            .all(|answer| answer.unwrap_err().is_retryable())
    );
}
