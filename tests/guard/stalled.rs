//! Holders that stop in the middle of a transaction: the next one does not wait for them.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use fencegate::{Options, Token, connect};

use super::session::Session;
use crate::{
    support::{Process, eventually, eventually::PATIENCE, folder, postgres::command},
    world::{World, name},
};

const TTL: Duration = Duration::from_millis(600);

/// A holder: `psql` in a process of its own, which enters the fence, writes, and goes on with `then`.
fn holder(world: &World, token: &Token, then: &str) -> (Process, tempfile::TempDir) {
    let folder = folder("holder");
    let script = folder.path().join("script.sql");
    let text = format!(
        "\\set ON_ERROR_STOP on\nbegin;\nselect fencegate.enter('f', current_setting('test.token'));\n\
         insert into t values (1);\n{then}\ncommit;\n"
    );
    std::fs::write(&script, text).unwrap();
    let program = command("psql").get_program().to_owned();
    let mut psql = Command::new(program);
    psql.args(["-X", "-f"])
        .arg(&script)
        .arg(world.postgres.as_ref().unwrap().url());
    psql.env("PGOPTIONS", format!("-c test.token={}", token.expose()))
        .env("PGAPPNAME", "holder");
    (Process::spawn("psql", psql, &folder.path().join("log")), folder)
}

async fn world() -> (World, Session) {
    let world = World::postgres().await;
    let mut admin = Session::open(&world.postgres.as_ref().unwrap().url()).await;
    admin.run("create table t (n int)").await.unwrap();
    (world, admin)
}

/// How long after the lock's expiry the successor has its grant.
async fn succession(world: &World, granted: Instant) -> Duration {
    let options = Options {
        ttl: PATIENCE,
        wait: PATIENCE,
        ..Options::default()
    };
    world.locks.grant(&name("f"), options).await.unwrap();
    granted.elapsed().saturating_sub(TTL)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_successor_does_not_wait() {
    let loop_of_selects = "select 1;\n".repeat(200_000);
    for (then, doing, stop) in [
        ("\\! sleep 60", "idle in transaction", true),
        ("select pg_sleep(60);", "active", false),
        (&*loop_of_selects, "", false),
    ] {
        let (world, mut admin) = world().await;
        let token = world.grant("f").await;
        let granted = Instant::now();
        let (mut psql, _folder) = holder(&world, &token, then);
        let entered = format!(
            "select from pg_stat_activity a join pg_locks l using (pid)
              where application_name = 'holder' and locktype = 'advisory' and a.state like '{doing}%'
                and backend_xid is not null"
        );
        eventually(PATIENCE, async || admin.run(&entered).await == Ok(1)).await;
        if stop {
            psql.stop();
        }
        let took = succession(&world, granted).await;
        // An acquisition that started after the expiry counts from there.
        assert!(
            took < Duration::from_secs(2),
            "{doing}: {took:?} after the lock's expiry"
        );
        assert_eq!(admin.run("select from t").await, Ok(0), "{doing}");
        if stop {
            psql.cont();
            assert_eq!(
                admin
                    .run("select from pg_stat_activity where application_name = 'holder'")
                    .await,
                Ok(0)
            );
        } else {
            eventually(PATIENCE, async || psql.ended().is_some()).await;
            assert!(!psql.ended().unwrap().success(), "{}", psql.log());
            assert!(psql.log().contains("terminating connection"), "{}", psql.log());
        }
        assert_eq!(admin.run("select from t").await, Ok(0), "{doing}");
    }
}

/// The owner of the schema may not end other sessions: they end by themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_signal_the_time_out_does_it() {
    let world = World::postgres().await;
    let server = world.postgres.as_ref().unwrap();
    let mut admin = Session::open(&server.url()).await;
    admin
        .run("create role owner login; create role app login; grant fencegate_writer to app")
        .await
        .unwrap();
    let database = server.create_database().await;
    let name_of_it = database.rsplit('/').next().unwrap();
    admin
        .run(&format!("alter database {name_of_it} owner to owner"))
        .await
        .unwrap();
    let locks = connect(&database.replace("postgres@", "owner@"), None)
        .await
        .unwrap();
    locks.store().migrate().await.unwrap();

    let options = Options {
        ttl: Duration::from_secs(1),
        wait: PATIENCE,
        ..Options::default()
    };
    let lease = locks.acquire_with("f", options.clone()).await.unwrap();
    let app = sqlx::PgPool::connect(&database.replace("postgres@", "app@"))
        .await
        .unwrap();
    let mut transaction = lease.begin(&app).await.unwrap();
    let limit: String = sqlx::query_scalar("show idle_in_transaction_session_timeout")
        .fetch_one(&mut *transaction)
        .await
        .unwrap();
    assert_eq!(limit, "1s", "a time to live");
    // As if the holder were stopped: the lock expires, and the transaction stays open.
    let token = lease.token().clone();
    locks
        .service()
        .release(&fencegate::lock::Claim {
            name: name("f"),
            sequence: token.sequence,
            holder: token.holder.hash(),
        })
        .await
        .unwrap();
    let started = Instant::now();
    let longer = Options {
        ttl: PATIENCE,
        ..options
    };
    locks.grant(&name("f"), longer).await.unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
    transaction.commit().await.unwrap_err();
}

/// Whoever renews is left alone, however long its transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_renews_is_not_cut_off() {
    let (world, mut admin) = world().await;
    let pool = world.pool();
    let lease = world.locks.acquire("f", TTL).await.unwrap();
    let mut transaction = lease.begin(&pool).await.unwrap();
    sqlx::query("insert into t values (1)")
        .execute(&mut *transaction)
        .await
        .unwrap();
    let others = Options {
        ttl: TTL,
        wait: TTL * 4,
        ..Options::default()
    };
    let locks = world.locks.clone();
    let waiting = tokio::spawn(async move { locks.grant(&name("f"), others).await });
    // Longer than the lock would last, busy and idle.
    sqlx::query("select pg_sleep(1.3)")
        .execute(&mut *transaction)
        .await
        .unwrap();
    assert!(waiting.await.unwrap().is_err());
    transaction.commit().await.unwrap();
    assert_eq!(admin.run("select from t").await, Ok(1));
}
