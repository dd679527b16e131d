//! The examples run.

use std::process::Command;

use sqlx::Executor;

use crate::{support, support::postgres::command, world::World};

#[path = "../../examples/axum_handler.rs"]
#[allow(dead_code, reason = "it is also a program")]
mod axum_handler;
#[path = "../../examples/guarded_job.rs"]
#[allow(dead_code, reason = "it is also a program")]
mod guarded_job;

const FENCE: &str = "invoices:2026-11";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_paused() {
    let server = support::Postgres::start().await;
    let (first, paid_by) = guarded_job::run(&server.url()).await.unwrap();
    assert!(first.contains("lease was lost"), "{first}");
    assert_eq!(paid_by, ["second"; 3]);
}

async fn invoices(world: &World) -> sqlx::PgPool {
    let pool = world.pool();
    pool.execute(
        "create table invoice (id int primary key, paid_by text);
         insert into invoice values (1), (2)",
    )
    .await
    .unwrap();
    pool.execute("select fencegate.protect('invoice', fence => 'invoices:2026-11')")
        .await
        .unwrap();
    pool
}

async fn paid_by(pool: &sqlx::PgPool) -> Vec<Option<String>> {
    sqlx::query_scalar("select paid_by from invoice order by id")
        .fetch_all(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn python_and_psql() {
    let world = World::postgres().await;
    let url = world.postgres.as_ref().unwrap().url();
    let pool = invoices(&world).await;
    let folder = format!("{}/examples/any_language", env!("CARGO_MANIFEST_DIR"));
    let token = world.grant(FENCE).await.expose();
    let python = |token: &str| {
        // The distribution's, which has its packages.
        let mut python = Command::new("/usr/bin/python3");
        python.arg(format!("{folder}/pay.py")).args([FENCE, "1"]);
        python
            .env("DATABASE_URL", &url)
            .env("FENCEGATE_TOKEN", token)
            .output()
            .unwrap()
    };
    let psql = |token: &str| {
        let mut psql = Command::new(command("psql").get_program());
        psql.args(["-X", "-v", "ON_ERROR_STOP=1", "-v", "invoice=2", "-v"])
            .arg(format!("fence={FENCE}"));
        psql.arg("-f").arg(format!("{folder}/pay.sql")).arg(&url);
        psql.env("PGOPTIONS", format!("-c fencegate.token={token}"))
            .output()
            .unwrap()
    };
    for output in [python(&token), psql(&token)] {
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(paid_by(&pool).await, [Some("python".into()), Some("psql".into())]);
    let stale = token;
    world.grant(FENCE).await;
    let refused = python(&stale);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("stale"),
        "{refused:?}"
    );
    let refused = psql(&stale);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("stale"),
        "{refused:?}"
    );
    // What was said does not have the token in it.
    assert!(
        !String::from_utf8_lossy(&refused.stderr).contains(&stale),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_handler_of_ones_own() {
    let world = World::postgres().await;
    let pool = invoices(&world).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/invoices/1/pay", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, axum_handler::router(pool)).await });
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::new();
    let token = world.grant(FENCE).await;
    let post = async |token: &str| {
        client
            .post(&url)
            .header("Fencing-Token", token)
            .send()
            .await
            .unwrap()
            .status()
    };
    assert_eq!(client.post(&url).send().await.unwrap().status(), 428);
    assert_eq!(post("1042").await, 400);
    assert_eq!(post(&token.expose()).await, 204);
    assert_eq!(post(&token.expose()).await, 409);
    world.grant(FENCE).await;
    assert_eq!(post(&token.expose()).await, 412);
}
