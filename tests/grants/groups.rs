//! Group commit: many writes in one statement, and each with its own answer.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use fencegate::{
    FenceName, Mark, RecordKey, Sequence, StoreError, Token,
    database::DatabaseError,
    rule::Reason,
    store::{
        Change, Condition, MergePatch, Store, Value, Version, Write, Written,
        postgres::{Batches, PostgresStore},
    },
};
use futures::future::join_all;
use proptest::prelude::*;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::task::{JoinHandle, JoinSet};

use crate::world::{World, name, next};

pub(super) fn put(fence: &str, token: &Token, key: &str, text: &str) -> Write {
    Write {
        fence: name(fence),
        token: token.mark(),
        key: key.parse().unwrap(),
        change: Change::Put(Value {
            bytes: text.into(),
            content_type: "text/plain".into(),
        }),
        condition: Condition::Always,
    }
}

pub(super) async fn all(world: &World, writes: &[Write]) -> Vec<Result<Written, StoreError>> {
    join_all(
        writes
            .iter()
            .map(|write| world.locks.store().write(write.clone())),
    )
    .await
}

/// Keeps the lanes busy until dropped, so that what is written meanwhile goes in one batch.
pub(super) async fn hold(world: &World) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut transaction = world.pool().begin().await.unwrap();
    sqlx::query("lock table fencegate.record in access exclusive mode")
        .execute(&mut *transaction)
        .await
        .unwrap();
    transaction
}

/// The next holder of the fence `f` begins to seal it.
pub(super) fn seal_next(world: &Arc<World>, token: &Token) -> JoinHandle<()> {
    let (world, newer) = (world.clone(), next(token));
    tokio::spawn(async move {
        world.locks.store().seal(&name("f"), &newer.mark()).await.unwrap();
    })
}

/// Until somebody waits for a fence: whoever seals it, or whom a sealer keeps out.
pub(super) async fn a_fence_is_waited_for(pool: &PgPool) {
    waited_for(pool, "locktype = 'advisory' and not granted").await;
}

/// Until the server has such a lock.
async fn waited_for(pool: &PgPool, which: &str) {
    let count = format!("select count(*) from pg_locks where {which}");
    crate::support::eventually(Duration::from_secs(10), async || {
        let count = sqlx::query_scalar::<_, i64>(AssertSqlSafe(&*count));
        count.fetch_one(pool).await.unwrap() > 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hot_record_gets_every_write() {
    let world = World::postgres().await;
    let token = world.grant("f").await;
    let clients = (0..100).map(|i| {
        let (world, token) = (&world, &token);
        async move {
            let mut versions = Vec::new();
            for n in 0..20 {
                versions.push(
                    world
                        .put("f", token, "hot", &format!("{i}/{n}"))
                        .await
                        .unwrap()
                        .version
                        .unwrap(),
                );
            }
            assert!(versions.is_sorted());
            (versions, format!("{i}/19"))
        }
    });
    let done = join_all(clients).await;
    let versions: HashSet<Version> = done.iter().flat_map(|(versions, _)| versions).copied().collect();
    assert_eq!(versions.len(), 2000, "two writes share a version");
    let record = world
        .locks
        .store()
        .read(&name("f"), &"hot".parse().unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(Some(&record.version), versions.iter().max());
    let text = String::from_utf8(record.value.bytes).unwrap();
    let (last, _) = done
        .iter()
        .find(|(versions, _)| versions.contains(&record.version))
        .unwrap();
    assert!(
        done.iter()
            .any(|(versions, end)| *end == text && versions == last),
        "{text} has another's version"
    );
}

/// Each of them waits for the same record, on a connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_transactions_leave_others_their_connections() {
    let world = Arc::new(World::postgres().await);
    let token = world.grant("f").await;
    let lease = world.locks.acquire("g", Duration::from_secs(60)).await.unwrap();
    world.put("f", &token, "hot", "{}").await.unwrap();
    let mut patches = JoinSet::new();
    for n in 0..1500 {
        let world = world.clone();
        let patch = Write {
            change: Change::Merge(
                MergePatch::new(format!(r#"{{"n{n}": {n}}}"#).as_bytes(), 1 << 20).unwrap(),
            ),
            ..put("f", &token, "hot", "")
        };
        patches.spawn(async move { world.locks.store().write(patch).await });
    }
    let mut slowest = Duration::ZERO;
    while patches.len() > 300 {
        let begun = Instant::now();
        lease.renew().await.unwrap();
        slowest = slowest.max(begun.elapsed());
        while let Some(done) = patches.try_join_next() {
            let done = done.unwrap();
            assert!(
                matches!(
                    done,
                    Ok(_)
                        | Err(StoreError::Database(DatabaseError::Overloaded))
                        | Err(StoreError::Database(DatabaseError::Conflict(_)))
                ),
                "{done:?}"
            );
        }
    }
    assert!(slowest < Duration::from_secs(4), "a renewal took {slowest:?}");
}

/// The next batch has another connection: nothing of it was sent on the one that is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_whose_session_is_ended_fails_alone() {
    let world = World::postgres().await;
    let token = world.grant("f").await;
    let one_lane = Batches {
        lanes: 1,
        ..Batches::default()
    };
    let store = Arc::new(PostgresStore::with_batches(world.pool(), one_lane));
    for round in 0..5 {
        let held = hold(&world).await;
        let write = |text: &str| {
            let (store, write) = (store.clone(), put("f", &token, "k", text));
            tokio::spawn(async move { store.write(write).await })
        };
        let first = write("first");
        waited_for(&world.pool(), "locktype = 'relation' and not granted").await;
        let second = write("second");
        let end = "select count(pg_terminate_backend(pid)) from pg_locks where locktype = 'relation' and not granted";
        let ended: i64 = sqlx::query_scalar(end).fetch_one(&world.pool()).await.unwrap();
        assert_eq!(ended, 1);
        held.rollback().await.unwrap();
        let first = first.await.unwrap();
        assert!(
            matches!(first, Err(StoreError::Database(DatabaseError::OutcomeUnknown(_)))),
            "{first:?}"
        );
        let second = second.await.unwrap();
        assert!(second.is_ok(), "round {round}: {second:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_refusal_neither_fails_nor_passes_the_others() {
    let world = World::postgres().await;
    let (stale, token, other) = (
        world.grant("f").await,
        world.grant("f").await,
        world.grant("g").await,
    );
    let made_up = Token {
        sequence: Sequence::new(i64::MAX).unwrap(),
        ..token.clone()
    };
    let held = hold(&world).await;
    let writes = [
        put("f", &stale, "a", "stale"),
        put("f", &token, "a", "good"),
        put("f", &stale, "a", "stale again"),
        put("f", &made_up, "b", "made up"),
        put("g", &token, "a", "another fence's"),
        put("g", &other, "a", "good"),
        Write {
            condition: Condition::Present,
            ..put("f", &token, "c", "absent")
        },
        Write {
            change: Change::Delete,
            ..put("f", &token, "d", "")
        },
        put("nobody", &token, "a", "never sealed"),
    ];
    let answers = tokio::join!(all(&world, &writes), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        held.rollback().await.unwrap();
    })
    .0;
    let told: Vec<_> = answers
        .iter()
        .map(|answer| match answer {
            Ok(_) => "written",
            Err(StoreError::Refused(refusal)) => refusal.reason.as_str(),
            Err(StoreError::Condition { current: None }) => "condition",
            Err(error) => panic!("{error}"),
        })
        .collect();
    let swapped = if token.sequence < other.sequence {
        "stale"
    } else {
        "unsealed"
    };
    let same = token.sequence == other.sequence;
    let swapped = if same { "holder-mismatch" } else { swapped };
    assert_eq!(
        told,
        [
            "stale",
            "written",
            "stale",
            "unsealed",
            swapped,
            "written",
            "condition",
            "written",
            "unsealed"
        ]
    );
    assert_eq!(world.text("f", "a").await.as_deref(), Some("good"));
    assert_eq!(world.text("f", "b").await, None);
    assert_eq!(world.text("g", "a").await.as_deref(), Some("good"));
}

/// Enough of both that some share a batch, whichever lanes their records are in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_and_accepted_writes_share_a_batch() {
    let world = World::postgres().await;
    let (stale, token) = (world.grant("f").await, world.grant("f").await);
    let held = hold(&world).await;
    let writes: Vec<_> = (0..80)
        .map(|i| {
            let (token, text) = if i % 2 == 0 {
                (&token, "good")
            } else {
                (&stale, "stale")
            };
            put("f", token, &format!("k{i}"), text)
        })
        .collect();
    let answers = tokio::join!(all(&world, &writes), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        held.rollback().await.unwrap();
    })
    .0;
    for (i, answer) in answers.iter().enumerate() {
        assert_eq!(answer.is_ok(), i % 2 == 0, "{i}: {answer:?}");
        let text = world.text("f", &format!("k{i}")).await;
        assert_eq!(text.as_deref(), (i % 2 == 0).then_some("good"), "{i}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_postgres_refuses_fails_alone() {
    let world = World::postgres().await;
    let token = world.grant("f").await;
    sqlx::query("alter table fencegate.record add check (value <> 'poison'::bytea)")
        .execute(&world.pool())
        .await
        .unwrap();
    let held = hold(&world).await;
    let writes: Vec<_> = (0..100)
        .map(|i| {
            let text = if i % 33 == 7 {
                "poison".into()
            } else {
                i.to_string()
            };
            // The last record is written by several, of which one is poison.
            put("f", &token, &format!("k{:02}", i.min(95)), &text)
        })
        .collect();
    let answers = tokio::join!(all(&world, &writes), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        held.rollback().await.unwrap();
    })
    .0;
    for (i, answer) in answers.iter().enumerate() {
        assert_eq!(answer.is_err(), i % 33 == 7, "{i}: {answer:?}");
    }
    assert_eq!(world.text("f", "k95").await.as_deref(), Some("99"));
}

/// A stale write costs the database nothing once the mark is known, and nobody is ever admitted that way, nor refused
/// across epochs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_known_to_be_stale_costs_no_database() {
    let world = World::postgres().await;
    let (stale, token) = (world.grant("f").await, world.grant("f").await);
    assert!(world.put("f", &stale, "k", "x").await.unwrap_err().is_stale());
    let held = hold(&world).await;
    let again = tokio::time::timeout(Duration::from_secs(10), world.put("f", &stale, "k", "x"));
    match again.await.expect("it waits for nothing in the database") {
        Err(StoreError::Refused(refusal)) => {
            assert_eq!(refusal.reason, Reason::Stale);
            assert_eq!(refusal.mark, Some(token.mark()));
            assert_eq!(refusal.presented, stale.mark());
        }
        other => panic!("{other:?}"),
    }
    // The holder's own write is the database's to decide, and so is a forged one of the same number.
    let forged = Token {
        holder: fencegate::Holder::random(),
        ..token.clone()
    };
    for undecided in [&token, &forged] {
        let asked = tokio::time::timeout(Duration::from_millis(300), world.put("f", undecided, "k", "x"));
        assert!(asked.await.is_err(), "it was decided without the database");
    }
    held.rollback().await.unwrap();
    world.put("f", &token, "k", "good").await.unwrap();
    let refused = world.put("f", &forged, "k", "x").await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused(refusal) if refusal.reason == Reason::HolderMismatch));

    // A new epoch begins below every number of the old one.
    let reborn = Token {
        epoch: fencegate::Epoch::new(2).unwrap(),
        sequence: Sequence::FIRST,
        ..token.clone()
    };
    sqlx::query("update fencegate.epoch set number = 2")
        .execute(&world.pool())
        .await
        .unwrap();
    world
        .locks
        .store()
        .seal(&name("f"), &reborn.mark())
        .await
        .unwrap();
    world.put("f", &reborn, "k", "reborn").await.unwrap();
    assert!(world.put("f", &token, "k", "x").await.unwrap_err().is_stale());
    world.put("f", &reborn, "k", "still").await.unwrap();
    assert_eq!(world.text("f", "k").await.as_deref(), Some("still"));
}

/// The statement for a single put decides and answers as that for a batch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_stands_alone_is_fenced_as_one_in_a_batch() {
    let world = World::postgres().await;
    let other = fencegate::connect(&world.postgres.as_ref().unwrap().url(), None)
        .await
        .unwrap();
    let (stale, token) = (world.grant("f").await, world.grant("f").await);
    let first = world.put("f", &token, "k", "1").await.unwrap();
    let second = world.put("f", &token, "k", "2").await.unwrap();
    assert!(!first.existed && second.existed && second.version > first.version);
    let reasons = [
        (stale.clone(), "f", "stale"),
        (token.clone(), "nobody", "unsealed"),
        (
            Token {
                holder: fencegate::Holder::random(),
                ..token.clone()
            },
            "f",
            "holder-mismatch",
        ),
        (
            Token {
                sequence: Sequence::new(i64::MAX).unwrap(),
                ..token.clone()
            },
            "f",
            "unsealed",
        ),
    ];
    for (shown, fence, expected) in reasons {
        match world.put(fence, &shown, "k", "x").await {
            Err(StoreError::Refused(refusal)) => assert_eq!(refusal.reason.as_str(), expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
    // The mark moves while the write waits for its record, which another transaction has locked: it has passed the
    // guard then, so the seal waits for it.
    let pool = world.pool();
    let mut blocking = pool.begin().await.unwrap();
    sqlx::query("select from fencegate.record where fence = 'f' and key = 'k' for update")
        .execute(&mut *blocking)
        .await
        .unwrap();
    let world = Arc::new(world);
    let writing = tokio::spawn({
        let (world, token) = (world.clone(), token.clone());
        async move { world.put("f", &token, "k", "3").await }
    });
    waited_for(&pool, "not granted").await;
    let seal = seal_next(&world, &token);
    a_fence_is_waited_for(&pool).await;
    // Behind a seal that waits, the next write is passed over, and is stale when its turn comes.
    let late = tokio::spawn({
        let token = token.clone();
        async move { other.store().write(put("f", &token, "k", "late")).await }
    });
    blocking.rollback().await.unwrap();
    let written = writing.await.unwrap();
    seal.await.unwrap();
    // The sealer ends sessions that are in its way for half a second: then nobody knows whether it was written.
    match (written, world.text("f", "k").await.as_deref()) {
        (Ok(_), Some("3")) | (Err(_), Some("2" | "3")) => {}
        other => panic!("{other:?}"),
    }
    if let Err(error) = late.await.unwrap() {
        assert!(error.is_stale(), "{error}");
    }
    assert!(world.put("f", &token, "k", "x").await.unwrap_err().is_stale());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditional_increments_are_never_lost() {
    let world = Arc::new(World::postgres().await);
    let token = world.grant("f").await;
    world.put("f", &token, "n", "0").await.unwrap();
    // Two stores of one database, as two gateways have.
    let other = fencegate::connect(&world.postgres.as_ref().unwrap().url(), None)
        .await
        .unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|i| {
            let store = if i % 2 == 0 {
                world.locks.store()
            } else {
                other.store()
            }
            .clone();
            let token = token.clone();
            tokio::spawn(async move {
                let (fence, key) = (name("f"), "n".parse::<RecordKey>().unwrap());
                let mut done = 0;
                while done < 10 {
                    let record = store.read(&fence, &key).await.unwrap().unwrap();
                    let n: i64 = String::from_utf8(record.value.bytes).unwrap().parse().unwrap();
                    let write = Write {
                        condition: Condition::Version(record.version),
                        ..put("f", &token, "n", &(n + 1).to_string())
                    };
                    match store.write(write).await {
                        Ok(_) => done += 1,
                        Err(StoreError::Condition { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(world.text("f", "n").await.as_deref(), Some("80"));
}

/// A write of the random schedule: its record, what it does, and its condition.
type Step = (u8, Option<u8>, u8);

/// What the writes do when each waits for the one before it.
#[derive(Default)]
struct Model(BTreeMap<u8, u8>);

impl Model {
    /// Whether it is written, and whether there was a record.
    fn apply(&mut self, &(key, value, condition): &Step) -> (bool, bool) {
        let existed = self.0.contains_key(&key);
        let holds = match condition {
            1 => !existed,
            2 => existed,
            _ => true,
        };
        if holds {
            match value {
                Some(value) => self.0.insert(key, value),
                None => self.0.remove(&key),
            };
        }
        (holds, existed)
    }
}

fn write_of((key, value, condition): &Step, fence: &FenceName, token: &Mark) -> Write {
    let change = match value {
        Some(value) => Change::Put(Value {
            bytes: vec![*value],
            content_type: "a/b".into(),
        }),
        None => Change::Delete,
    };
    let condition = match condition {
        1 => Condition::Absent,
        2 => Condition::Present,
        _ => Condition::Always,
    };
    Write {
        fence: fence.clone(),
        token: *token,
        key: key.to_string().parse().unwrap(),
        change,
        condition,
    }
}

/// Writes of one fence that are gathered do what they would do one after the other.
#[test]
fn a_batch_does_what_its_writes_do_in_turn() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let world = runtime.block_on(World::postgres());
    let counter = std::cell::Cell::new(0);
    let step = (0u8..4, proptest::option::weighted(0.7, 0u8..100), 0u8..5);
    let cases = ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(cases, |(steps in proptest::collection::vec(step, 1..40))| {
        counter.set(counter.get() + 1);
        let fence = name(&format!("f{}", counter.get()));
        runtime.block_on(async {
            let token = world.grant(fence.as_str()).await.mark();
            let writes: Vec<_> = steps.iter().map(|step| write_of(step, &fence, &token)).collect();
            let answers = all(&world, &writes).await;
            let mut model = Model::default();
            let mut versions = HashSet::new();
            for (step, answer) in steps.iter().zip(answers) {
                let (written, existed) = model.apply(step);
                match answer {
                    Ok(done) => {
                        assert!(written, "{step:?}");
                        assert_eq!(done.existed, existed, "{step:?}");
                        assert_eq!(done.version.is_some(), step.1.is_some());
                        assert!(done.version.is_none_or(|version| versions.insert((step.0, version))));
                    }
                    Err(StoreError::Condition { current }) => {
                        assert!(!written, "{step:?}");
                        assert_eq!(current.is_some(), existed, "{step:?}");
                    }
                    Err(error) => panic!("{step:?}: {error}"),
                }
            }
            for key in 0..4u8 {
                let key_name = key.to_string().parse().unwrap();
                let stored = world.locks.store().read(&fence, &key_name).await.unwrap();
                assert_eq!(stored.map(|record| record.value.bytes[0]), model.0.get(&key).copied());
            }
        });
    });
}
