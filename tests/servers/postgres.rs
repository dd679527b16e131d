use std::time::Duration;

use sqlx::{Connection, Executor, PgConnection};

use crate::support::Postgres;

#[tokio::test]
async fn keeps_its_rows_over_kill_9_and_restart() {
    let mut server = Postgres::builder().durable().start().await;
    let mut connection = PgConnection::connect(&server.url()).await.unwrap();
    connection
        .execute("create table kept (value int); insert into kept values (42)")
        .await
        .unwrap();

    server.kill9();
    connection.execute("select 1").await.unwrap_err();
    PgConnection::connect(&server.url()).await.unwrap_err();

    server.restart().await;
    let mut connection = PgConnection::connect(&server.url()).await.unwrap();
    let value: i32 = sqlx::query_scalar("select value from kept")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(value, 42);
}

#[tokio::test]
async fn kill_9_ends_backends_that_are_busy_or_stopped() {
    let mut server = Postgres::start().await;
    let mut busy = PgConnection::connect(&server.url()).await.unwrap();
    let running = tokio::spawn(async move { busy.execute("select pg_sleep(600)").await });
    let mut stopped = PgConnection::connect(&server.url()).await.unwrap();
    let backend: i32 = sqlx::query_scalar("select pg_backend_pid()")
        .fetch_one(&mut stopped)
        .await
        .unwrap();
    let backend = rustix::process::Pid::from_raw(backend).unwrap();
    rustix::process::kill_process(backend, rustix::process::Signal::STOP).unwrap();

    server.kill9();
    running.await.unwrap().unwrap_err();
    stopped.execute("select 1").await.unwrap_err();
    server.restart().await;
}

#[tokio::test]
async fn a_new_database_is_empty_and_apart() {
    let server = Postgres::start().await;
    let (one, other) = (server.create_database().await, server.create_database().await);
    assert_ne!(one, other);
    let mut one = PgConnection::connect(&one).await.unwrap();
    one.execute("create table only_here ()").await.unwrap();
    let mut other = PgConnection::connect(&other).await.unwrap();
    other.execute("select from only_here").await.unwrap_err();
}

#[tokio::test]
async fn settings_apply_at_start_and_at_restart() {
    let mut server = Postgres::builder()
        .set("max_prepared_transactions", 7)
        .start()
        .await;
    server.set("work_mem", "5MB");
    server.restart().await;
    let mut connection = PgConnection::connect(&server.url()).await.unwrap();
    for (name, value) in [
        ("max_prepared_transactions", "7"),
        ("work_mem", "5MB"),
        ("fsync", "off"),
    ] {
        let found: String = sqlx::query_scalar("select current_setting($1)")
            .bind(name)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(found, value, "{name}");
    }
}

#[tokio::test]
async fn a_stopped_postmaster_lets_nobody_in_until_it_goes_on() {
    let server = Postgres::start().await;
    server.stop();
    let url = server.url();
    let mut connecting = tokio::spawn(async move { PgConnection::connect(&url).await });
    tokio::time::timeout(Duration::from_millis(300), &mut connecting)
        .await
        .unwrap_err();
    server.cont();
    connecting.await.unwrap().unwrap();
}
