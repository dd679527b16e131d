//! What is asked of etcd at the same time goes together, and is answered each on its own.

use std::collections::HashSet;

use fencegate::lock::{Held, LockError, LockService};
use tokio::task::JoinSet;

use super::*;
use crate::world::acquire_all;

const MANY: usize = 200;

async fn release(locks: &EtcdLocks, held: Vec<Held>) {
    let mut releasing = JoinSet::new();
    for held in held {
        let locks = locks.clone();
        releasing.spawn(async move { locks.release(&held.claim).await.unwrap() });
    }
    releasing.join_all().await;
}

fn of_fence(number: usize) -> Request {
    Request {
        name: format!("f{number}").parse().unwrap(),
        ..request()
    }
}

/// etcd compares for all of a transaction before it does any of it.
#[tokio::test]
async fn of_many_who_ask_at_once_for_one_fence_one_gets_it() {
    const OTHERS: usize = 20;
    let server = Etcd::start().await;
    let locks = locks(server.endpoint()).await;
    let mut stranger = stranger(&server).await;
    for _ in 0..3 {
        let mut held = Vec::new();
        // The first few are sent by themselves: they are of other fences.
        let others = (0..OTHERS).map(of_fence);
        for asked in acquire_all(&locks, others.chain((0..MANY).map(|_| request()))).await {
            match asked {
                Ok(got) => held.push(got),
                Err(LockError::Busy { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(held.len(), OTHERS + 1, "with those who hold one lock");
        assert_eq!(keys(&mut stranger).await.len(), 1);
        release(&locks, held).await;
        assert!(keys(&mut stranger).await.is_empty());
    }
}

#[tokio::test]
async fn many_fences_are_acquired_and_released_at_once() {
    let server = Etcd::start().await;
    let locks = locks(server.endpoint()).await;
    for _ in 0..3 {
        let held = acquire_all(&locks, (0..MANY).map(of_fence)).await;
        let held: Vec<_> = held.into_iter().map(Result::unwrap).collect();
        for held in &held {
            let state = locks.inspect(&held.claim.name).await.unwrap();
            assert_eq!(state.holder.unwrap().sequence, held.claim.sequence);
            locks.renew(&held.claim).await.unwrap();
        }
        release(&locks, held).await;
    }
}

/// A lease that etcd has forgotten makes it refuse the whole of a transaction.
#[tokio::test]
async fn what_cannot_be_done_fails_alone() {
    let server = Etcd::start().await;
    let locks = locks(server.endpoint()).await;
    let mut stranger = stranger(&server).await;
    let held = acquire_all(&locks, (0..MANY).map(of_fence)).await;
    let held: Vec<_> = held.into_iter().map(Result::unwrap).collect();
    release(&locks, held).await;
    // They wait for their next use.
    let leases = stranger.leases().await.unwrap();
    let leases: Vec<_> = leases.leases().iter().map(|lease| lease.id()).collect();
    assert!(leases.len() >= MANY / 10, "{}", leases.len());
    for lease in leases.iter().step_by(5) {
        stranger.lease_revoke(*lease).await.unwrap();
    }
    let held = acquire_all(&locks, (0..MANY).map(of_fence)).await;
    assert_eq!(held.into_iter().filter(Result::is_ok).count(), MANY);
}

/// A program may have several, and what gathers transactions outlives the one that asked first.
#[test]
fn a_runtime_that_ends_takes_nothing_with_it() {
    let runtime = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap()
    };
    let of_the_connection = tokio::runtime::Runtime::new().unwrap();
    let server = of_the_connection.block_on(Etcd::start());
    let locks = of_the_connection.block_on(locks(server.endpoint()));
    for _ in 0..3 {
        let held = runtime().block_on(async {
            let asked = (0..MANY).map(|number| {
                let locks = locks.clone();
                async move { locks.acquire(&of_fence(number)).await.unwrap() }
            });
            futures::future::join_all(asked).await
        });
        // What is put in one transaction has one revision.
        let transactions: HashSet<_> = held.iter().map(|held| held.claim.sequence).collect();
        assert!(
            transactions.len() < MANY / 2,
            "{} went together",
            transactions.len()
        );
        let released = held.iter().map(|held| locks.release(&held.claim));
        let released = runtime().block_on(futures::future::join_all(released));
        released.into_iter().for_each(Result::unwrap);
    }
}
