//! A Postgres that is started again under a pool of idle connections. All of them are dead then, and nobody who reads is to
//! notice.

use std::sync::Arc;

use fencegate::{
    Locks,
    database::postgres::{PoolSize, connect},
    lock::postgres::PostgresLocks,
    store::postgres::PostgresStore,
};
use futures::future::{BoxFuture, join_all};
use sqlx::{Connection, PgPool};

use crate::{
    support::{Postgres, eventually, eventually::PATIENCE},
    world::name,
};

const CONNECTIONS: u32 = 4;

/// As many idle connections as it may have, all of them alive.
async fn fill(pool: &PgPool) {
    eventually(PATIENCE, async || {
        let connections = join_all((0..CONNECTIONS).map(|_| pool.acquire())).await;
        let asked = connections
            .into_iter()
            .map(async |connection| connection.unwrap().ping().await);
        join_all(asked).await.iter().all(Result::is_ok)
    })
    .await;
    eventually(PATIENCE, async || pool.num_idle() == CONNECTIONS as usize).await;
}

type Read<'a> = (&'static str, BoxFuture<'a, Result<(), String>>);

/// Every call that only reads, or that may be made twice.
fn reads(locks: &Locks) -> Vec<Read<'_>> {
    let (store, service) = (locks.store(), locks.service());
    macro_rules! reads {
        ($($on:ident.$call:ident($($with:expr),*)),+ $(,)?) => {
            vec![$((stringify!($call), Box::pin(async move {
                $on.$call($($with),*).await.map(drop).map_err(|error| error.to_string())
            }))),+]
        };
    }
    reads![
        store.check(),
        store.epoch(),
        store.epoch_as_stored(),
        store.quarantine(),
        store.replication(),
        store.audit(1),
        store.fence(&name("f")),
        store.fences("", "", 1),
        store.records(&name("f"), "", "", 1),
        store.read(&name("f"), &"k".parse().unwrap()),
        store.rejections(None, None, 1),
        store.forget_keys(),
        service.identity(),
        service.inspect(&name("f")),
    ]
}

#[tokio::test]
async fn reads_find_a_connection_that_lives() {
    let mut server = Postgres::start().await;
    let size = PoolSize {
        connections: CONNECTIONS,
        ..PoolSize::default()
    };
    let pool = connect(&server.url(), &size).unwrap();
    let locks = Locks::new(
        Arc::new(PostgresLocks::new(pool.clone())),
        Arc::new(PostgresStore::new(pool.clone())),
    );
    locks.migrate().await.unwrap();
    let mut failed = Vec::new();
    for (call, read) in reads(&locks) {
        fill(&pool).await;
        server.restart().await;
        if let Err(error) = read.await {
            failed.push(format!("{call}: {error}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[tokio::test]
async fn a_server_that_stays_away_is_told_of() {
    let mut server = Postgres::start().await;
    let size = PoolSize {
        connections: CONNECTIONS,
        acquire_timeout: std::time::Duration::from_millis(500),
    };
    let pool = connect(&server.url(), &size).unwrap();
    let locks = Locks::new(
        Arc::new(PostgresLocks::new(pool.clone())),
        Arc::new(PostgresStore::new(pool.clone())),
    );
    locks.migrate().await.unwrap();
    fill(&pool).await;
    server.kill9();
    for (call, read) in reads(&locks) {
        let error = read.await.unwrap_err();
        assert!(
            error.contains("out of reach") || error.contains("did not answer"),
            "{call}: {error}"
        );
    }
}
