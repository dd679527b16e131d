//! Foreign tokens: what a bare sequence is worth, tried by those who should get nothing for it.

use std::time::Duration;

use etcd_client::{Client, PutOptions};
use fencegate::{FenceName, GrantError, LockError, Locks, Sequence, rule::Reason};

use crate::{
    support::{Etcd, Postgres, eventually, eventually::PATIENCE},
    world::{World, name},
};

/// A program that locks with etcd alone, in the layout of Go's `concurrency.Mutex`.
pub struct Stranger {
    client: Client,
    lease: i64,
}

impl Stranger {
    pub async fn at(etcd: &Etcd) -> Self {
        let mut client = Client::connect([etcd.endpoint()], None).await.unwrap();
        let lease = client.lease_grant(600, None).await.unwrap().id();
        Self { client, lease }
    }

    /// Takes its place in the queue; it has the lock once it is the first.
    pub async fn queue_up(&mut self, fence: &FenceName) -> Sequence {
        let key = format!("fencegate/locks/{fence}/{:x}", self.lease);
        let options = PutOptions::new().with_lease(self.lease);
        self.client.put(key.clone(), "", Some(options)).await.unwrap();
        let kv = self.client.get(key, None).await.unwrap().take_kvs().remove(0);
        Sequence::new(kv.create_revision()).unwrap()
    }

    pub async fn release(&mut self, fence: &FenceName) {
        let key = format!("fencegate/locks/{fence}/{:x}", self.lease);
        self.client.delete(key, None).await.unwrap();
    }
}

fn refused(confirmed: Result<fencegate::Mark, GrantError>) -> Reason {
    match confirmed {
        Err(GrantError::Refused(refusal)) => refusal.reason,
        Err(GrantError::Unconfirmed { refusal, .. }) => refusal.reason,
        other => panic!("{other:?}"),
    }
}

async fn mark(locks: &Locks) -> Option<fencegate::Mark> {
    locks
        .store()
        .fence(&name("f"))
        .await
        .unwrap()
        .map(|fence| fence.mark)
}

#[tokio::test]
async fn a_sequence_is_its_first_clients_while_its_lock_lasts() {
    let world = World::postgres_and_etcd().await;
    let (locks, f) = (&world.locks, name("f"));
    let mut stranger = Stranger::at(world.etcd.as_ref().unwrap()).await;
    let sequence = stranger.queue_up(&f).await;
    let first = locks.confirm(&f, sequence, "alice").await.unwrap();
    assert_eq!(mark(locks).await, Some(first));
    assert_eq!(locks.confirm(&f, sequence, "alice").await.unwrap(), first);
    // Another client has read the number somewhere; nor is it nobody's.
    for other in ["bob", "", "alic", "alicee"] {
        assert_eq!(
            refused(locks.confirm(&f, sequence, other).await),
            Reason::HolderMismatch
        );
    }
    assert_eq!(mark(locks).await, Some(first));
    // The lock of one fence says nothing of another.
    let unconfirmed = locks.confirm(&name("g"), sequence, "alice").await;
    assert_eq!(refused(unconfirmed), Reason::Unsealed);

    stranger.release(&f).await;
    assert_eq!(
        refused(locks.confirm(&f, sequence, "alice").await),
        Reason::Unsealed
    );
    let lease = locks.acquire("f", world.ttl).await.unwrap();
    assert_eq!(refused(locks.confirm(&f, sequence, "alice").await), Reason::Stale);
    lease.release().await.unwrap();
    assert_eq!(refused(locks.confirm(&f, sequence, "alice").await), Reason::Stale);
}

#[tokio::test]
async fn guessed_numbers_move_nothing() {
    let world = World::postgres_and_etcd().await;
    let (locks, f) = (&world.locks, name("f"));
    let mut stranger = Stranger::at(world.etcd.as_ref().unwrap()).await;
    let guess = |number: i64| Sequence::new(number).unwrap();
    for number in [1, 2, 1_000_000, i64::MAX] {
        let confirmed = locks.confirm(&f, guess(number), "mallory").await;
        assert_eq!(refused(confirmed), Reason::Unsealed);
    }
    assert_eq!(mark(locks).await, None);

    let sequence = stranger.queue_up(&f).await;
    for number in [sequence.get() - 1, sequence.get() + 1, i64::MAX] {
        let confirmed = locks.confirm(&f, guess(number), "mallory").await;
        assert_eq!(refused(confirmed), Reason::Unsealed);
    }
    // Who waits does not hold, however surely its number is to come.
    let mut second = Stranger::at(world.etcd.as_ref().unwrap()).await;
    let next = second.queue_up(&f).await;
    assert_eq!(refused(locks.confirm(&f, next, "bob").await), Reason::Unsealed);
    stranger.release(&f).await;
    locks.confirm(&f, next, "bob").await.unwrap();
}

#[tokio::test]
async fn a_lock_that_fencegate_granted_is_never_confirmed() {
    let world = World::postgres_and_etcd().await;
    let (locks, f) = (&world.locks, name("f"));
    let lease = locks.acquire("f", Duration::from_secs(60)).await.unwrap();
    let sequence = lease.token().sequence;
    let confirmed = locks.confirm(&f, sequence, "mallory").await;
    assert_eq!(refused(confirmed), Reason::HolderMismatch);
    world.put("f", lease.token(), "a", "x").await.unwrap();

    // Held and not sealed, as between the two steps of a grant: the mark does not refuse it yet.
    let request = fencegate::lock::Request {
        name: name("g"),
        holder: fencegate::Holder::random(),
        label: String::new(),
        ttl: Duration::from_secs(60),
        wait: Duration::ZERO,
        floor: 0,
    };
    let held = locks.service().acquire(&request).await.unwrap();
    let confirmed = locks.confirm(&name("g"), held.claim.sequence, "mallory").await;
    assert_eq!(refused(confirmed), Reason::Unsealed);
    assert_eq!(locks.store().fence(&name("g")).await.unwrap(), None);
}

#[tokio::test]
async fn services_whose_clients_have_no_sequence_confirm_nothing() {
    for world in [World::sqlite().await, World::postgres().await] {
        let first = Sequence::FIRST;
        let error = world.locks.confirm(&name("f"), first, "alice").await.unwrap_err();
        assert!(matches!(error, GrantError::Unconfirmed { .. }), "{error}");
        let lease = world.locks.acquire("f", Duration::from_secs(60)).await.unwrap();
        let confirmed = world
            .locks
            .confirm(&name("f"), lease.token().sequence, "alice")
            .await;
        assert_eq!(refused(confirmed), Reason::HolderMismatch);
    }
}

/// The first use seals as a grant does: an older holder's open transaction has ended when it returns.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_use_ends_what_older_holders_have_open() {
    let world = World::postgres_and_etcd().await;
    let (locks, f, pool) = (&world.locks, name("f"), world.pool());
    let old = locks.acquire("f", Duration::from_secs(600)).await.unwrap();
    let mut open = old.begin(&pool).await.unwrap();
    sqlx::query("create table t as select 1 as n")
        .execute(&mut *open)
        .await
        .unwrap();
    // Its lock is taken away, and it is not told.
    let claim = fencegate::lock::Claim {
        name: f.clone(),
        sequence: old.token().sequence,
        holder: old.token().holder.hash(),
    };
    locks.service().release(&claim).await.unwrap();
    let mut stranger = Stranger::at(world.etcd.as_ref().unwrap()).await;
    let sequence = stranger.queue_up(&f).await;
    locks.confirm(&f, sequence, "alice").await.unwrap();
    open.commit().await.unwrap_err();
    let tables: i64 = sqlx::query_scalar("select count(*) from pg_tables where tablename = 't'")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(tables, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_confirmed_without_the_lock_service() {
    let mut world = World::postgres_and_etcd().await;
    let f = name("f");
    let mut stranger = Stranger::at(world.etcd.as_ref().unwrap()).await;
    let sequence = stranger.queue_up(&f).await;
    world.locks.confirm(&f, sequence, "alice").await.unwrap();
    world.etcd.as_mut().unwrap().kill9();
    // Also not what was confirmed a moment ago.
    let error = world.locks.confirm(&f, sequence, "alice").await.unwrap_err();
    assert!(
        matches!(error, GrantError::Lock(LockError::Unavailable { .. })),
        "{error}"
    );
    world.etcd.as_mut().unwrap().restart().await;
    let locks = &world.locks;
    eventually(PATIENCE, async || {
        locks.confirm(&f, sequence, "alice").await.is_ok()
    })
    .await;
}

/// Another etcd, with other numbers.
#[tokio::test]
async fn a_lock_of_another_history_is_not_confirmed() {
    let (postgres, etcd, other) = tokio::join!(Postgres::start(), Etcd::start(), Etcd::start());
    let connect = async |etcd: &Etcd| {
        let url = crate::world::etcd_url(etcd);
        fencegate::connect(&postgres.url(), Some(&url)).await.unwrap()
    };
    let (locks, elsewhere) = (connect(&etcd).await, connect(&other).await);
    locks.migrate().await.unwrap();
    let f = name("f");
    // The first use binds the epoch, as the first grant does.
    let sequence = Stranger::at(&etcd).await.queue_up(&f).await;
    locks.confirm(&f, sequence, "alice").await.unwrap();
    let mut stranger = Stranger::at(&other).await;
    stranger.queue_up(&name("g")).await;
    stranger.queue_up(&name("h")).await;
    let sequence = stranger.queue_up(&f).await;
    let error = elsewhere.confirm(&f, sequence, "alice").await.unwrap_err();
    assert!(
        matches!(error, GrantError::OtherHistory { .. } | GrantError::Refused(_)),
        "{error}"
    );
    let sequence = stranger.queue_up(&name("i")).await;
    let error = elsewhere
        .confirm(&name("i"), sequence, "alice")
        .await
        .unwrap_err();
    assert!(matches!(error, GrantError::OtherHistory { .. }), "{error}");
}
