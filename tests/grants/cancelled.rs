//! Callers that go away while something is under way on a connection that others will use.

use fencegate::{
    database::postgres::{PoolSize, begin, connect},
    store::{Change, Condition, Store, Value, Write, postgres::PostgresStore},
};
use sqlx::Row;

use crate::{
    support::{Proxy, eventually, eventually::PATIENCE},
    world::{World, name},
};

/// A pool of one connection behind a proxy, so that it is this one that is used next.
async fn behind_a_proxy(world: &World) -> (Proxy, sqlx::PgPool) {
    let server = world.postgres.as_ref().unwrap();
    let proxy = Proxy::start(format!("127.0.0.1:{}", server.port())).await;
    let size = PoolSize {
        connections: 1,
        ..PoolSize::default()
    };
    let pool = connect(&format!("postgres://postgres@{}/postgres", proxy.addr()), &size).unwrap();
    (proxy, pool)
}

/// Drops a `begin` whose answer is on its way.
async fn begin_half_way(proxy: &Proxy, pool: &sqlx::PgPool, world: &World) {
    sqlx::query("select 1").execute(pool).await.unwrap();
    // The pool looks at a connection once more when it comes back.
    eventually(PATIENCE, async || pool.num_idle() == 1).await;
    proxy.pause_replies();
    let mut beginning = Box::pin(begin(pool));
    let outside = world.pool();
    eventually(PATIENCE, async || {
        assert!(futures::poll!(&mut beginning).is_pending());
        let row = sqlx::query(
            "select count(*) from pg_stat_activity where application_name = 'fencegate' and state = 'idle in transaction'",
        );
        row.fetch_one(&outside).await.unwrap().get::<i64, _>(0) == 1
    })
    .await;
    drop(beginning);
    proxy.resume();
}

#[tokio::test]
async fn a_begin_that_is_dropped_half_way_leaves_no_transaction_behind() {
    let world = World::postgres().await;
    let (proxy, pool) = behind_a_proxy(&world).await;
    sqlx::query("create table entry (id int)")
        .execute(&pool)
        .await
        .unwrap();
    for id in 0..20 {
        begin_half_way(&proxy, &pool, &world).await;
        sqlx::query("insert into entry values ($1)")
            .bind(id)
            .execute(&pool)
            .await
            .unwrap();
        let row = sqlx::query("select count(*) from entry where id = $1").bind(id);
        let seen: i64 = row.fetch_one(&world.pool()).await.unwrap().get(0);
        assert_eq!(seen, 1, "the acknowledged insert {id} is not committed");
    }
}

#[tokio::test]
async fn a_write_that_is_acknowledged_is_committed_whoever_gave_up_on_its_connection() {
    let world = World::postgres().await;
    let token = world.grant("f").await;
    let (proxy, pool) = behind_a_proxy(&world).await;
    for round in 0..5 {
        begin_half_way(&proxy, &pool, &world).await;
        // Its lane keeps the connection for as long as the store is there.
        let store = PostgresStore::new(pool.clone());
        let text = format!("round {round}");
        let write = Write {
            fence: name("f"),
            token: token.mark(),
            key: "k".parse().unwrap(),
            change: Change::Put(Value {
                bytes: text.clone().into(),
                content_type: "text/plain".into(),
            }),
            condition: Condition::Always,
        };
        store.write(write).await.unwrap();
        assert_eq!(
            world.text("f", "k").await,
            Some(text),
            "acknowledged and not committed"
        );
    }
}
