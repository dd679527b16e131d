//! Which tokens write, on every kind of store.

use std::time::Duration;

use fencegate::{
    Epoch, GrantError, Holder, Options, Sequence, StoreError, Token,
    lock::Request,
    rule::Reason,
    store::{Condition, Rebase, SealOutcome, Version},
};

use crate::world::{World, name};

macro_rules! on_every_store {
    ($($case:ident)*) => {
        mod sqlite {
            $(#[tokio::test] async fn $case() { super::$case(&super::World::sqlite().await).await; })*
        }
        mod postgres {
            $(#[tokio::test] async fn $case() { super::$case(&super::World::postgres().await).await; })*
        }
        mod postgres_and_etcd {
            $(#[tokio::test] async fn $case() { super::$case(&super::World::postgres_and_etcd().await).await; })*
        }
    };
}

on_every_store! {
    the_newest_holder_writes
    a_paused_holder_is_refused_before_the_next_one_has_written
    a_number_with_another_holder_is_refused
    a_number_that_was_made_up_is_refused_and_moves_nothing
    a_released_token_is_dead_at_once
    an_expired_token_writes_until_the_next_grant
    tokens_of_other_fences_are_refused
    deleting_a_record_keeps_the_mark
    a_version_never_comes_back
    a_refused_grant_gives_the_lock_back
    a_grant_that_is_ended_by_force_under_way_is_not_sealed
    nor_is_the_first_grant_of_all
    a_mark_that_a_sealer_made_up_is_named_and_mended_by_a_rebase
}

fn refused(result: Result<impl std::fmt::Debug, StoreError>) -> Reason {
    match result {
        Err(StoreError::Refused(refusal)) => refusal.reason,
        other => panic!("expected a refusal, not {other:?}"),
    }
}

async fn the_newest_holder_writes(world: &World) {
    let token = world.grant("f").await;
    let written = world.put("f", &token, "a", "one").await.unwrap();
    assert!(!written.existed);
    let again = world.put("f", &token, "a", "two").await.unwrap();
    assert!(again.existed && again.version > written.version);
    assert_eq!(world.text("f", "a").await.as_deref(), Some("two"));
    assert!(world.delete("f", &token, "a").await.unwrap().existed);
    assert_eq!(world.text("f", "a").await, None);
}

async fn a_paused_holder_is_refused_before_the_next_one_has_written(world: &World) {
    let paused = world.grant("f").await;
    world.put("f", &paused, "a", "before").await.unwrap();
    // Granted when the first has expired; it has not written anything yet.
    let next = world.grant("f").await;
    assert_eq!(refused(world.put("f", &paused, "a", "late").await), Reason::Stale);
    assert_eq!(refused(world.delete("f", &paused, "a").await), Reason::Stale);
    assert_eq!(world.text("f", "a").await.as_deref(), Some("before"));
    world.put("f", &next, "a", "after").await.unwrap();
}

async fn a_number_with_another_holder_is_refused(world: &World) {
    let token = world.grant("f").await;
    let other = Token {
        holder: Holder::random(),
        ..token.clone()
    };
    assert_eq!(
        refused(world.put("f", &other, "a", "x").await),
        Reason::HolderMismatch
    );
    world.put("f", &token, "a", "y").await.unwrap();
}

async fn a_number_that_was_made_up_is_refused_and_moves_nothing(world: &World) {
    let token = world.grant("f").await;
    let (epoch, sequence) = (token.epoch.get(), token.sequence.get());
    for (epoch, sequence) in [
        (epoch, sequence + 1),
        (epoch, i64::MAX),
        (epoch + 1, 1),
        (i64::MAX, i64::MAX),
    ] {
        let (epoch, sequence) = (Epoch::new(epoch).unwrap(), Sequence::new(sequence).unwrap());
        let forged = Token {
            epoch,
            sequence,
            holder: token.holder.clone(),
        };
        assert_eq!(refused(world.put("f", &forged, "a", "x").await), Reason::Unsealed);
        assert_eq!(
            refused(world.put("never sealed", &forged, "a", "x").await),
            Reason::Unsealed
        );
    }
    assert_eq!(
        world.locks.store().fence(&name("f")).await.unwrap().unwrap().mark,
        token.mark()
    );
    assert!(
        world
            .locks
            .store()
            .fence(&name("never sealed"))
            .await
            .unwrap()
            .is_none()
    );
    world.put("f", &token, "a", "y").await.unwrap();
    let next = world.grant("f").await;
    world.put("f", &next, "a", "z").await.unwrap();
}

async fn a_released_token_is_dead_at_once(world: &World) {
    let token = world.grant("f").await;
    world.put("f", &token, "a", "one").await.unwrap();
    world.locks.release(&name("f"), &token).await.unwrap();
    assert_eq!(
        refused(world.put("f", &token, "a", "late").await),
        Reason::HolderMismatch
    );
    world.locks.release(&name("f"), &token).await.unwrap();
    let next = world.grant("f").await;
    assert!(next.sequence > token.sequence);
    // Neither does a late release do anything to the next holder.
    world.locks.release(&name("f"), &token).await.unwrap();
    world.put("f", &next, "a", "two").await.unwrap();
}

async fn an_expired_token_writes_until_the_next_grant(world: &World) {
    let token = world.grant("f").await;
    tokio::time::sleep(world.ttl * 2).await;
    assert!(world.locks.renew(&name("f"), &token).await.unwrap_err().is_lost());
    world.put("f", &token, "a", "one").await.unwrap();
    let next = world.grant("f").await;
    assert_eq!(refused(world.put("f", &token, "a", "two").await), Reason::Stale);
    world.put("f", &next, "a", "two").await.unwrap();
}

async fn tokens_of_other_fences_are_refused(world: &World) {
    let (one, two) = (world.grant("one").await, world.grant("two").await);
    for (fence, token) in [("one", &two), ("two", &one)] {
        refused(world.put(fence, token, "a", "x").await);
        assert_eq!(world.text(fence, "a").await, None);
    }
    world.put("one", &one, "a", "x").await.unwrap();
    world.put("two", &two, "a", "x").await.unwrap();
}

async fn deleting_a_record_keeps_the_mark(world: &World) {
    let old = world.grant("f").await;
    let token = world.grant("f").await;
    world.put("f", &token, "a", "x").await.unwrap();
    world.delete("f", &token, "a").await.unwrap();
    assert_eq!(refused(world.put("f", &old, "a", "x").await), Reason::Stale);
    assert_eq!(
        world.locks.store().fence(&name("f")).await.unwrap().unwrap().mark,
        token.mark()
    );
}

async fn a_version_never_comes_back(world: &World) {
    let token = world.grant("f").await;
    let first = world.put("f", &token, "a", "x").await.unwrap().version.unwrap();
    world.delete("f", &token, "a").await.unwrap();
    let second = world.put("f", &token, "a", "y").await.unwrap().version.unwrap();
    assert!(second > first);
    let conditional = |version: Version| fencegate::store::Write {
        fence: name("f"),
        token: token.mark(),
        key: "a".parse().unwrap(),
        change: fencegate::store::Change::Delete,
        condition: Condition::Version(version),
    };
    let store = world.locks.store();
    assert!(matches!(
        store.write(conditional(first)).await,
        Err(StoreError::Condition { current: Some(current) }) if current == second
    ));
    store.write(conditional(second)).await.unwrap();
}

async fn a_refused_grant_gives_the_lock_back(world: &World) {
    let token = world.grant("f").await;
    world.locks.release(&name("f"), &token).await.unwrap();
    // A mark that no sequence of this service can reach: as if its history had gone back.
    let far = Token {
        sequence: Sequence::new(i64::MAX).unwrap(),
        ..token.clone()
    };
    world.locks.store().seal(&name("f"), &far.mark()).await.unwrap();
    for _ in 0..3 {
        let options = fencegate::Options {
            ttl: world.ttl * 20,
            ..Default::default()
        };
        let error = world.locks.grant(&name("f"), options).await.unwrap_err();
        assert!(!error.is_retryable(), "{error}");
    }
    let mark = world.locks.store().fence(&name("f")).await.unwrap().unwrap().mark;
    assert_eq!(mark, far.mark());
}

async fn a_grant_that_is_ended_by_force_under_way_is_not_sealed(world: &World) {
    let first = world.grant("f").await;
    world.locks.release(&name("f"), &first).await.unwrap();
    ended_by_force_under_way(world, first.sequence.get()).await;
}

/// Nothing has bound the epoch to a lock service then.
async fn nor_is_the_first_grant_of_all(world: &World) {
    assert_eq!(world.locks.store().epoch().await.unwrap().bound, None);
    ended_by_force_under_way(world, 0).await;
}

/// An operator ends it when it has the lock, and before it has sealed its number.
async fn ended_by_force_under_way(world: &World, floor: i64) {
    let holder = Holder::random();
    let request = Request {
        name: name("f"),
        holder: holder.clone(),
        label: String::new(),
        ttl: world.ttl,
        wait: Duration::from_secs(20),
        floor,
    };
    let epoch = world.locks.store().epoch().await.unwrap().epoch;
    let held = world.locks.service().acquire(&request).await.unwrap();
    world.locks.force_release(&name("f")).await.unwrap();
    let token = Token {
        epoch,
        sequence: held.claim.sequence,
        holder,
    };
    let sealed = world.locks.store().seal(&name("f"), &token.mark()).await.unwrap();
    assert!(matches!(sealed, SealOutcome::NotHigher(_)), "{sealed:?}");
    assert_eq!(
        refused(world.put("f", &token, "a", "late").await),
        Reason::HolderMismatch
    );
    // The next one is above it.
    let next = world.grant("f").await;
    world.put("f", &next, "a", "next").await.unwrap();
}

/// Whoever may seal can raise a mark as far as it likes. No lock service is to count on from there.
async fn a_mark_that_a_sealer_made_up_is_named_and_mended_by_a_rebase(world: &World) {
    let token = world.grant("f").await;
    world.locks.release(&name("f"), &token).await.unwrap();
    for highest in [i64::MAX - 1, i64::MAX] {
        let made_up = Token {
            sequence: Sequence::new(highest).unwrap(),
            ..token.clone()
        };
        let sealed = world
            .locks
            .store()
            .seal(&name("f"), &made_up.mark())
            .await
            .unwrap();
        assert_eq!(sealed, SealOutcome::Sealed);
        let error = world
            .locks
            .grant(&name("f"), Options::default())
            .await
            .unwrap_err();
        assert!(matches!(error, GrantError::Regressed { .. }), "{error}");
        assert!(error.to_string().contains("fencegate rebase"), "{error}");
    }
    let rebase = Rebase {
        who: "somebody".into(),
        reason: "a mark was made up".into(),
        expected: None,
    };
    world.locks.store().rebase(&rebase).await.unwrap();
    let next = world.grant("f").await;
    world.put("f", &next, "k", "v").await.unwrap();
}
