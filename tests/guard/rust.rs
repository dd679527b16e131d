//! The guard from Rust: transactions of a lease.

use std::sync::Arc;

use fencegate::{
    GuardError, Isolation, Lease, Options, database::DatabaseError, database::sqlite::SqliteFile, guard,
    retry, retry::Retry, rule::Reason,
};
use sqlx::{Executor, Row};

use super::{
    session::Session,
    traps_alone::{require_standby, set_standby},
};
use crate::{
    support::{self, PgBouncer, eventually, eventually::PATIENCE},
    world::{World, name},
};

async fn lease(world: &World, fence: &str) -> Lease {
    let options = Options {
        ttl: std::time::Duration::from_secs(30),
        wait: PATIENCE,
        ..Options::default()
    };
    world.locks.acquire_with(fence, options).await.unwrap()
}

async fn world_with_table() -> (World, sqlx::PgPool) {
    let world = World::postgres().await;
    let pool = world.pool();
    pool.execute("create table entry (n int); select fencegate.protect('entry', fence => 'f')")
        .await
        .unwrap();
    (world, pool)
}

async fn count(pool: &sqlx::PgPool) -> i64 {
    sqlx::query("select count(*) from entry")
        .fetch_one(pool)
        .await
        .unwrap()
        .get(0)
}

#[tokio::test]
async fn a_lease_writes_until_it_is_over() {
    let (world, pool) = world_with_table().await;
    let first = lease(&world, "f").await;
    for level in [
        Isolation::ReadCommitted,
        Isolation::RepeatableRead,
        Isolation::Serializable,
    ] {
        let mut transaction = first.begin_with(&pool, level).await.unwrap();
        transaction.execute("insert into entry values (1)").await.unwrap();
        transaction.commit().await.unwrap();
        let mut transaction = first.begin_with(&pool, level).await.unwrap();
        transaction.execute("insert into entry values (1)").await.unwrap();
        transaction.rollback().await.unwrap();
        drop(first.begin_with(&pool, level).await.unwrap());
    }
    assert_eq!(count(&pool).await, 3);

    let token = first.token().clone();
    let mut transaction = first.begin(&pool).await.unwrap();
    transaction.execute("insert into entry values (1)").await.unwrap();
    drop(first);
    assert!(matches!(transaction.commit().await, Err(GuardError::LeaseLost)));
    assert_eq!(count(&pool).await, 3);

    let second = lease(&world, "f").await;
    let refused = guard::begin(&pool, &name("f"), &token, Isolation::default()).await;
    let Err(GuardError::Refused(refusal)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(refusal.reason, Reason::Stale);
    assert_eq!(refusal.mark, Some(second.token().mark()));
    assert_eq!(refusal.presented, token.mark());
    second.begin(&pool).await.unwrap().commit().await.unwrap();
}

#[tokio::test]
async fn a_lease_writes_to_sqlite_until_it_is_over() {
    let folder = support::folder("store");
    let path = folder.path().join("store.db");
    let locks = fencegate::connect(&format!("sqlite:{}", path.display()), None)
        .await
        .unwrap();
    let file = SqliteFile::open(&path).await.unwrap();
    file.pool().execute("create table entry (n int)").await.unwrap();
    let lease = locks
        .acquire("f", std::time::Duration::from_secs(30))
        .await
        .unwrap();
    let mut transaction = lease.begin(&file).await.unwrap();
    transaction.execute("insert into entry values (1)").await.unwrap();
    transaction.commit().await.unwrap();
    let mut transaction = lease.begin(&file).await.unwrap();
    transaction.execute("insert into entry values (2)").await.unwrap();
    let token = lease.token().clone();
    drop(lease);
    assert!(matches!(transaction.commit().await, Err(GuardError::LeaseLost)));
    // The release goes on in the background.
    eventually(PATIENCE, async || {
        match guard::begin(&file, &name("f"), &token, Isolation::default()).await {
            Ok(transaction) => {
                transaction.rollback();
                false
            }
            Err(GuardError::Refused(refusal)) => refusal.reason == Reason::HolderMismatch,
            Err(error) => panic!("{error}"),
        }
    })
    .await;
    let rows: i64 = sqlx::query_scalar("select count(*) from entry")
        .fetch_one(file.pool())
        .await
        .unwrap();
    assert_eq!(rows, 1);
}

/// Postgres answers such a commit with a rollback and no error.
#[tokio::test]
async fn a_commit_after_an_error_is_no_success() {
    let (world, pool) = world_with_table().await;
    let lease = lease(&world, "f").await;
    let mut transaction = lease.begin(&pool).await.unwrap();
    transaction.execute("insert into entry values (1)").await.unwrap();
    transaction.execute("select 1 / 0").await.unwrap_err();
    let error = transaction.commit().await.unwrap_err();
    assert!(error.to_string().contains("nothing was committed"), "{error}");
    assert!(!error.is_retryable());
    assert_eq!(count(&pool).await, 0);
    // The connection is as good as before.
    lease.begin(&pool).await.unwrap().commit().await.unwrap();
}

/// The commit waits for a standby that is not there when its session is ended.
#[tokio::test]
async fn a_commit_whose_outcome_is_unknown() {
    let (world, pool) = world_with_table().await;
    let lease = lease(&world, "f").await;
    let url = world.postgres.as_ref().unwrap().url();
    let mut admin = Session::open(&url).await;
    admin.run("set synchronous_commit = local").await.unwrap();
    let mut transaction = lease.begin(&pool).await.unwrap();
    transaction.execute("insert into entry values (1)").await.unwrap();
    require_standby(&mut admin, &url).await;
    eventually(PATIENCE, async || {
        let shown: String = sqlx::query_scalar("show synchronous_standby_names")
            .fetch_one(&mut *transaction)
            .await
            .unwrap();
        shown == "nobody"
    })
    .await;
    let commit = tokio::spawn(transaction.commit());
    eventually(PATIENCE, async || {
        admin
            .run("select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'")
            .await
            == Ok(1)
    })
    .await;
    let outcome = commit.await.unwrap();
    assert!(
        matches!(
            outcome,
            Err(GuardError::Database(DatabaseError::OutcomeUnknown(_)))
        ),
        "{outcome:?}"
    );
    assert_eq!(admin.run("select from entry").await, Ok(1));
    set_standby(&mut admin, "").await;
}

/// Read, add, write, from eight tasks at once: none is lost, although none locks what it reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflicts_are_tried_again() {
    let (world, pool) = world_with_table().await;
    let lease = Arc::new(lease(&world, "f").await);
    pool.execute("create table counter (n int); insert into counter values (0)")
        .await
        .unwrap();
    for level in [Isolation::RepeatableRead, Isolation::Serializable] {
        pool.execute("update counter set n = 0").await.unwrap();
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let (lease, pool) = (lease.clone(), pool.clone());
                tokio::spawn(async move {
                    let policy = Retry {
                        tries: 50,
                        ..Retry::default()
                    };
                    retry(&policy, || async {
                        let mut transaction = lease.begin_with(&pool, level).await?;
                        let n: i32 = sqlx::query_scalar("select n from counter")
                            .fetch_one(&mut *transaction)
                            .await?;
                        sqlx::query("update counter set n = $1")
                            .bind(n + 1)
                            .execute(&mut *transaction)
                            .await?;
                        transaction.commit().await
                    })
                    .await
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        let n: i32 = sqlx::query_scalar("select n from counter")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(n, 8, "{level:?}");
    }
}

/// What fails for another reason is not.
#[tokio::test]
async fn refusals_are_not_tried_again() {
    let mut tries = 0;
    let refused: Result<(), _> = retry(&Retry::default(), || {
        tries += 1;
        std::future::ready(Err(GuardError::LeaseLost))
    })
    .await;
    assert!(refused.is_err() && tries == 1);
    let mut tries = 0;
    let conflict: Result<(), _> = retry(&Retry::default(), || {
        tries += 1;
        std::future::ready(Err(DatabaseError::Conflict(String::new())))
    })
    .await;
    assert!(conflict.is_err() && tries == 10);
}

/// Several fences in one transaction, entered after it has written: what counts is that they are held at its end.
#[tokio::test]
async fn a_transaction_of_ones_own_enters_two() {
    let (world, pool) = world_with_table().await;
    let (f, g) = (world.grant("f").await, world.grant("g").await);
    for level in super::session::LEVELS {
        let begin = sqlx::AssertSqlSafe(format!("begin isolation level {level}"));
        let mut transaction = pool.begin_with(begin).await.unwrap();
        transaction
            .execute("create temp table mine on commit drop as select 1")
            .await
            .unwrap();
        guard::enter(&mut transaction, &name("g"), &g).await.unwrap();
        guard::enter(&mut transaction, &name("f"), &f).await.unwrap();
        guard::enter(&mut transaction, &name("f"), &f).await.unwrap();
        transaction.execute("insert into entry values (1)").await.unwrap();
        let fences: Vec<(String, String)> =
            sqlx::query_as("select fence, token from fencegate.current_fences()")
                .fetch_all(&mut *transaction)
                .await
                .unwrap();
        assert_eq!(fences, [("f".into(), f.to_string()), ("g".into(), g.to_string())]);
        transaction.commit().await.unwrap();
    }
    assert_eq!(count(&pool).await, 3);
}

/// Each transaction gets any of two connections, and nothing of one is left for the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_pgbouncer_in_transaction_mode() {
    let (world, direct) = world_with_table().await;
    let bouncer = PgBouncer::start(world.postgres.as_ref().unwrap(), 2).await;
    let pool = sqlx::PgPool::connect(&bouncer.url()).await.unwrap();
    let lease = Arc::new(lease(&world, "f").await);
    let tasks: Vec<_> = (0..6)
        .map(|_| {
            let (lease, pool) = (lease.clone(), pool.clone());
            tokio::spawn(async move {
                for _ in 0..5 {
                    let mut transaction = lease.begin(&pool).await.unwrap();
                    sqlx::query("insert into entry values ($1)")
                        .persistent(false)
                        .bind(1)
                        .execute(&mut *transaction)
                        .await
                        .unwrap();
                    transaction.commit().await.unwrap();
                    let stranger = pool.execute("insert into entry values (2)").await;
                    assert_eq!(super::session::code(stranger.unwrap_err()), "ZF004");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(count(&direct).await, 30);
}
