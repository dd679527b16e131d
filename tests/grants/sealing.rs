//! Transactions that are open while the mark is raised, on real Postgres.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use fencegate::{
    Epoch, FenceName, Holder, Mark, Sequence, StoreError, Token,
    database::DatabaseError,
    guard::postgres::enter,
    store::{self, Once, SealOutcome},
};
use futures::future::BoxFuture;
use sqlx::{PgPool, Postgres, Transaction};

use super::groups;
use crate::{
    guard::{
        session::Session,
        traps_alone::{require_standby, set_standby},
    },
    support::{self, eventually, eventually::PATIENCE},
    world::{World, name},
};

/// A transaction of a program's own that has entered the fence.
async fn entered(pool: &PgPool, fence: &FenceName, token: &Token) -> Transaction<'static, Postgres> {
    let mut transaction = pool.begin().await.unwrap();
    enter(&mut transaction, fence, &token.mark()).await.unwrap();
    transaction
}

async fn table(pool: &PgPool) {
    sqlx::query("create table entry (id bigserial, sequence bigint)")
        .execute(pool)
        .await
        .unwrap();
}

async fn insert(transaction: &mut Transaction<'static, Postgres>, token: &Token) -> Result<(), sqlx::Error> {
    sqlx::query("insert into entry (sequence) values ($1)")
        .bind(token.sequence.get())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

async fn count(pool: &PgPool, token: &Token) -> i64 {
    sqlx::query_scalar("select count(*) from entry where sequence = $1")
        .bind(token.sequence.get())
        .fetch_one(pool)
        .await
        .unwrap()
}

fn next(token: &Token, by: i64) -> Token {
    Token {
        sequence: Sequence::new(token.sequence.get() + by).unwrap(),
        ..token.clone()
    }
}

/// The old holder's transaction commits at some moment around the seal: it is there when the seal has returned,
/// or never.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_is_before_the_seal_or_not_at_all() {
    let world = Arc::new(World::postgres().await);
    let pool = world.pool();
    table(&pool).await;
    let fence = name("f");
    let mut token = world.grant("f").await;
    let (mut before, mut never) = (0, 0);
    for i in 0..24u64 {
        let mut transaction = entered(&pool, &fence, &token).await;
        let old = token.clone();
        let late = tokio::spawn(async move {
            insert(&mut transaction, &old).await?;
            tokio::time::sleep(Duration::from_millis(i * 40)).await;
            transaction.commit().await
        });
        let newer = next(&token, 1);
        assert_eq!(
            world.locks.store().seal(&fence, &newer.mark()).await.unwrap(),
            SealOutcome::Sealed
        );
        let seen = count(&pool, &token).await;
        let committed = late.await.unwrap().is_ok();
        assert_eq!(
            count(&pool, &token).await,
            seen,
            "a stale commit after the seal had returned"
        );
        assert_eq!(seen == 1, committed, "round {i}");
        if committed {
            before += 1
        } else {
            never += 1
        }
        token = newer;
    }
    assert!(
        before > 0 && never > 0,
        "{before} before, {never} never: one of the two orders was not tried"
    );
}

/// Two connections hold the fence by turns, without a gap, under the old token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overlapping_transactions_do_not_starve_a_seal() {
    let world = World::postgres().await;
    let pool = world.pool();
    let fence = name("f");
    let token = world.grant("f").await;
    let refused = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..2)
        .map(|i| {
            let (pool, fence, token, refused) = (pool.clone(), fence.clone(), token.clone(), refused.clone());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(25 * i)).await;
                while !refused.load(Ordering::Relaxed) {
                    let mut transaction = pool.begin().await.unwrap();
                    match enter(&mut transaction, &fence, &token.mark()).await {
                        Ok(()) => tokio::time::sleep(Duration::from_millis(50)).await,
                        Err(_) => refused.store(true, Ordering::Relaxed),
                    }
                    let _ = transaction.commit().await;
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!refused.load(Ordering::Relaxed));
    let started = Instant::now();
    world
        .locks
        .store()
        .seal(&fence, &next(&token, 1).mark())
        .await
        .unwrap();
    let took = started.elapsed();
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(took < Duration::from_secs(1), "the seal took {took:?}");
}

/// Two grants of a fence that has no mark yet, of which the newer one is sealed first: the statement of the older one
/// began before there was a mark.
#[tokio::test]
async fn a_seal_that_comes_too_late_learns_which_mark_stands_against_it() {
    let world = World::postgres().await;
    let (pool, fence) = (world.pool(), name("f"));
    let mark = |sequence| Mark {
        epoch: Epoch::FIRST,
        sequence: Sequence::new(sequence).unwrap(),
        holder: Holder::random().hash(),
    };
    let (older, newer) = (mark(5), mark(6));
    let mut before = pool.begin().await.unwrap();
    sqlx::query("select pg_advisory_xact_lock(fencegate.lock_key('f'))")
        .execute(&mut *before)
        .await
        .unwrap();
    let mut seals = Vec::new();
    for mark in [newer, older] {
        let (store, fence) = (world.locks.store().clone(), fence.clone());
        let seal = tokio::spawn(async move { store.seal(&fence, &mark).await });
        let waiting = seals.len() as i64 + 1;
        eventually(PATIENCE, async || {
            let seen: i64 = sqlx::query_scalar(
                "select count(*) from pg_locks where locktype = 'advisory' and not granted",
            )
            .fetch_one(&pool)
            .await
            .unwrap();
            // On a machine that stands still, the first one loses its patience and ends what it waits for.
            seen == waiting || seal.is_finished()
        })
        .await;
        seals.push(seal);
    }
    let _ = before.commit().await;
    let mut outcomes = Vec::new();
    for seal in seals {
        outcomes.push(seal.await.unwrap().unwrap());
    }
    assert_eq!(outcomes, [SealOutcome::Sealed, SealOutcome::NotHigher(newer)]);
}

/// A seal and a release are read committed, whatever transactions are here unless they say so.
#[tokio::test]
async fn leases_are_granted_where_sessions_are_serializable() {
    let server = support::Postgres::builder()
        .set("default_transaction_isolation", "serializable")
        .start()
        .await;
    let world = World::on(server).await;
    let first = world.grant("f").await;
    world.put("f", &first, "a", "1").await.unwrap();
    assert!(world.locks.release(&name("f"), &first).await.unwrap());
    assert!(!world.locks.release(&name("f"), &first).await.unwrap());
    let second = world.grant("f").await;
    assert!(world.put("f", &first, "a", "2").await.is_err());
    world.put("f", &second, "a", "3").await.unwrap();
}

/// A client that went to sleep in its transaction, or keeps it busy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sessions_of_the_dead_are_ended() {
    let world = World::postgres().await;
    let pool = world.pool();
    table(&pool).await;
    let fence = name("f");
    let mut token = world.grant("f").await;
    for busy in ["", "select 1", "select pg_sleep(60)"] {
        let mut transaction = entered(&pool, &fence, &token).await;
        insert(&mut transaction, &token).await.unwrap();
        let dead = tokio::spawn(async move {
            if busy.is_empty() {
                tokio::time::sleep(Duration::from_secs(2)).await;
            } else {
                while sqlx::query(busy).execute(&mut *transaction).await.is_ok() {}
            }
            transaction.commit().await
        });
        let (started, newer) = (Instant::now(), next(&token, 1));
        world.locks.store().seal(&fence, &newer.mark()).await.unwrap();
        assert!(
            started.elapsed() < Duration::from_millis(1500),
            "{busy:?}: {:?}",
            started.elapsed()
        );
        assert!(dead.await.unwrap().is_err(), "{busy:?}");
        assert_eq!(count(&pool, &token).await, 0, "{busy:?}");
        token = newer;
    }
}

/// As a gateway's batch: when the seal's first wait has run out, and before it ends the dead one's session, who waited
/// behind it has the lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_transaction_that_got_in_between_is_not_ended() {
    let world = World::postgres().await;
    let (pool, fence) = (world.pool(), name("f"));
    let mut token = world.grant("f").await;
    // On a machine that stands still a short transaction is a long one, though not each time.
    for _ in 0..5 {
        let dead = entered(&pool, &fence, &token).await;
        let newer = next(&token, 1);
        let (store, of, mark) = (world.locks.store().clone(), fence.clone(), newer.mark());
        let seal = tokio::spawn(async move { store.seal(&of, &mark).await });
        groups::a_fence_is_waited_for(&pool).await;
        let short = sqlx::query(
            "select case when pg_advisory_xact_lock_shared(fencegate.lock_key('f')) is not null then pg_sleep(0.03) end",
        )
        .execute(&pool)
        .await;
        assert_eq!(seal.await.unwrap().unwrap(), SealOutcome::Sealed);
        assert!(dead.commit().await.is_err());
        if short.is_ok() {
            return;
        }
        token = newer;
    }
    panic!("its session was ended each time");
}

/// The dead one's transactions go on beginning: those that are let in when a wait of the seal runs out stay, as the first did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_in_while_a_seal_loses_its_patience_is_ended_too() {
    let world = World::postgres().await;
    let fence = name("f");
    let token = world.grant("f").await;
    let dead = entered(&world.pool(), &fence, &token).await;
    let (started, newer) = (Instant::now(), next(&token, 1));
    let (store, of, mark) = (world.locks.store().clone(), fence.clone(), newer.mark());
    let seal = tokio::spawn(async move { store.seal(&of, &mark).await });
    groups::a_fence_is_waited_for(&world.pool()).await;
    let mut others = Vec::new();
    while started.elapsed() < Duration::from_millis(700) {
        let (pool, fence, token) = (world.pool(), fence.clone(), token.clone());
        others.push(tokio::spawn(async move {
            let mut transaction = pool.begin().await?;
            enter(&mut transaction, &fence, &token.mark())
                .await
                .map_err(|_| sqlx::Error::RowNotFound)?;
            sqlx::query("select pg_sleep(60)")
                .execute(&mut *transaction)
                .await
                .map(drop)
        }));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(seal.await.unwrap().unwrap(), SealOutcome::Sealed);
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    assert!(dead.commit().await.is_err());
    for other in others {
        assert!(other.await.unwrap().is_err());
    }
}

/// Asked again, because the answer was lost, while the first one still waits for the dead: both end them, and one of them finds
/// its work done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_seals_of_one_token_that_lose_their_patience_both_seal_it() {
    let world = World::postgres().await;
    let fence = name("f");
    let mut token = world.grant("f").await;
    for apart in [10, 50, 90] {
        let dead = entered(&world.pool(), &fence, &token).await;
        token = next(&token, 1);
        let seals: Vec<_> = (0..2)
            .map(|n| {
                let (store, fence, mark) = (world.locks.store().clone(), fence.clone(), token.mark());
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(n * apart)).await;
                    store.seal(&fence, &mark).await
                })
            })
            .collect();
        for seal in seals {
            assert_eq!(
                seal.await.unwrap().unwrap(),
                SealOutcome::Sealed,
                "{apart} ms apart"
            );
        }
        assert!(dead.commit().await.is_err());
    }
}

/// Where commits wait for a standby, and the session of one that waits is ended: it is committed here, and may not be there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_again_waits_for_the_standby_too() {
    let world = World::postgres().await;
    let fence = name("f");
    let token = world.grant("f").await;
    let url = world.postgres.as_ref().unwrap().url();
    let mut admin = Session::open(&url).await;
    admin.run("set synchronous_commit = local").await.unwrap();
    let newer = next(&token, 1).mark();
    let (sealing, retiring) = (world.locks.store().clone(), world.locks.store().clone());
    let (of, and_of) = (fence.clone(), fence.clone());
    let calls: [(&str, BoxFuture<'static, bool>); 2] = [
        (
            "seal",
            Box::pin(async move { sealing.seal(&of, &newer).await.unwrap() == SealOutcome::Sealed }),
        ),
        // The second time it is dead already.
        (
            "retire",
            Box::pin(async move { !retiring.retire(&and_of, &newer).await.unwrap() }),
        ),
    ];
    for (what, call) in calls {
        require_standby(&mut admin, &url).await;
        let call = tokio::spawn(call);
        for time in 1..=3 {
            eventually(PATIENCE, async || {
                assert!(
                    !call.is_finished(),
                    "{what}: answered after its session was ended {time} times"
                );
                let end =
                    "select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'";
                admin.run(end).await == Ok(1)
            })
            .await;
        }
        set_standby(&mut admin, "").await;
        assert!(call.await.unwrap(), "{what}");
    }
}

/// The client was told that the outcome is unknown, and to repeat it under its key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_had_happened_is_acknowledged_when_the_standby_has_it() {
    let world = World::postgres().await;
    let token = world.grant("f").await;
    let url = world.postgres.as_ref().unwrap().url();
    let mut admin = Session::open(&url).await;
    admin.run("set synchronous_commit = local").await.unwrap();
    require_standby(&mut admin, &url).await;
    let once = Once::new("client", "PUT", &["f", "k"], "key", Duration::from_secs(60));
    let write = store::Transaction::from(groups::put("f", &token, "k", "v"));
    let ask = || {
        let (store, write, once) = (world.locks.store().clone(), write.clone(), once.clone());
        tokio::spawn(async move { store.transact(&write, Some(&once)).await })
    };
    let mut call = ask();
    for time in 0..3 {
        eventually(PATIENCE, async || {
            assert!(
                !call.is_finished(),
                "acknowledged when asked for the {time}. time again"
            );
            let end = "select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'";
            admin.run(end).await == Ok(1)
        })
        .await;
        let ended = call.await.unwrap();
        assert!(
            matches!(ended, Err(StoreError::Database(DatabaseError::OutcomeUnknown(_)))),
            "{ended:?}"
        );
        call = ask();
    }
    set_standby(&mut admin, "").await;
    assert!(call.await.unwrap().unwrap().replayed);
}

/// Whoever is the mark may take as long as it likes: neither an older grant that comes late nor its own
/// second seal ends its sessions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sessions_of_the_living_are_not() {
    let world = World::postgres().await;
    let pool = world.pool();
    table(&pool).await;
    let fence = name("f");
    let first = world.grant("f").await;
    let (late, holder) = (next(&first, 1), next(&first, 2));
    let store = world.locks.store();
    store.seal(&fence, &holder.mark()).await.unwrap();
    let mut transaction = entered(&pool, &fence, &holder).await;
    insert(&mut transaction, &holder).await.unwrap();
    let other = Mark {
        holder: fencegate::Holder::random().hash(),
        ..holder.mark()
    };
    assert_eq!(
        store.seal(&fence, &late.mark()).await.unwrap(),
        SealOutcome::NotHigher(holder.mark())
    );
    assert_eq!(
        store.seal(&fence, &other).await.unwrap(),
        SealOutcome::NotHigher(holder.mark())
    );
    assert_eq!(
        store.seal(&fence, &holder.mark()).await.unwrap(),
        SealOutcome::Sealed
    );
    assert!(!store.retire(&fence, &late.mark()).await.unwrap());
    assert!(!store.retire(&fence, &other).await.unwrap());
    transaction.commit().await.unwrap();
    assert_eq!(count(&pool, &holder).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_lands_after_a_release_has_returned() {
    let world = World::postgres().await;
    let pool = world.pool();
    table(&pool).await;
    let fence = name("f");
    for delay in [0, 100, 2_000] {
        let token = world.grant("f").await;
        let mut transaction = entered(&pool, &fence, &token).await;
        insert(&mut transaction, &token).await.unwrap();
        let writer = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            transaction.commit().await
        });
        world.locks.release(&fence, &token).await.unwrap();
        let seen = count(&pool, &token).await;
        let committed = writer.await.unwrap().is_ok();
        assert_eq!(count(&pool, &token).await, seen);
        assert_eq!(seen == 1, committed, "a commit after {delay} ms");
    }
}

/// A rebase that is not committed yet: the seal must not make a fence under the epoch that it leaves.
#[tokio::test]
async fn a_seal_waits_for_an_epoch_that_is_being_raised() {
    let world = World::postgres().await;
    let pool = world.pool();
    let token = world.grant("f").await;
    let mut raising = pool.begin().await.unwrap();
    sqlx::query("update fencegate.epoch set number = 2")
        .execute(&mut *raising)
        .await
        .unwrap();
    let store = world.locks.store().clone();
    let mut seal = tokio::spawn(async move { store.seal(&name("new"), &token.mark()).await });
    let waits = eventually(PATIENCE, async || {
        let waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'";
        sqlx::query_scalar::<_, i64>(waiting)
            .fetch_one(&pool)
            .await
            .unwrap()
            == 1
    });
    tokio::select! {
        sealed = &mut seal => panic!("under an epoch that is being left: {sealed:?}"),
        () = waits => {}
    }
    raising.commit().await.unwrap();
    let outcome = seal.await.unwrap().unwrap();
    assert!(
        matches!(outcome, SealOutcome::EpochChanged(epoch) if epoch.get() == 2),
        "{outcome:?}"
    );
    assert!(world.locks.store().fence(&name("new")).await.unwrap().is_none());
}
