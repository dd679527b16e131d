//! Connections to the database that are cut when the commit is on its way: what has happened is found out by asking
//! again.

use std::time::Duration;

use futures::future::join_all;
use reqwest::Method;
use serde_json::json;
use sqlx::PgPool;

use super::{Answer, Client, Gateway, client::record};
use crate::support::{Postgres, Proxy, eventually, eventually::PATIENCE};

const GATEWAYS: usize = 4;
/// Of each gateway's connections.
const CUTS: usize = 125;

/// The request number `i` of gateway `g`: of each kind in turn, and one that does not pass twice.
fn request(client: &Client, token: &str, g: usize, i: usize) -> reqwest::RequestBuilder {
    let (path, version) = (record("a", &format!("{g}/{i}")), "if-none-match");
    let request = match i % 3 {
        0 => client
            .request(Method::PUT, &path)
            .header(version, "*")
            .body("once"),
        1 => {
            let put = |key: String| json!({"op": "put", "fence": "a", "key": key, "value": "once", "if_none_match": "*"});
            let operations = json!([put(format!("{g}/{i}")), put(format!("{g}/{i}/too"))]);
            let body = json!({"tokens": {"a": token}, "operations": operations});
            client
                .request(Method::POST, "/v1/transactions")
                .body(body.to_string())
        }
        _ => {
            let path = record("a", &format!("{g}/counter"));
            client
                .request(Method::PATCH, &path)
                .header("content-type", "application/merge-patch+json")
                .body(json!({ i.to_string(): "once" }).to_string())
        }
    };
    request
        .header("fencing-token", token)
        .header("idempotency-key", format!("{g}-{i}"))
}

async fn cut_and_repeat(
    (client, proxy, server): (&Client, &Proxy, &PgPool),
    token: &str,
    g: usize,
    i: usize,
) {
    let cut = proxy.cut_on_request(|chunk| chunk.windows(7).any(|at| at == b"COMMIT\0"));
    Answer::to(request(client, token, g, i))
        .await
        .problem(503, "outcome-unknown");
    // The proxy cuts first, and tells then.
    let told = tokio::time::timeout(PATIENCE, cut).await;
    told.expect("in time")
        .expect("the commit was sent, and its answer lost");
    let mut told = None;
    // The server may still be at it.
    eventually(PATIENCE, async || {
        let answer = Answer::to(request(client, token, g, i)).await;
        let in_flight = answer.status == 409;
        if in_flight {
            answer.problem(409, "idempotency-key-in-flight");
        } else {
            told = Some(answer);
        }
        !in_flight
    })
    .await;
    let told = told.unwrap();
    assert!([200, 201].contains(&told.status), "{told:?}");
    assert_eq!(told.header("idempotency-replayed"), Some("true"), "{told:?}");
    let (key, version) = match i % 3 {
        0 => (format!("{g}/{i}"), told.json()["version"].clone()),
        1 => (
            format!("{g}/{i}/too"),
            told.json()["results"][1]["version"].clone(),
        ),
        _ => (format!("{g}/counter"), told.json()["version"].clone()),
    };
    let stored: i64 =
        sqlx::query_scalar("select version from fencegate.record where fence = 'a' and key = $1")
            .bind(key)
            .fetch_one(server)
            .await
            .unwrap();
    assert_eq!(version, stored.to_string(), "written twice");
    // The proxy keeps the server's end of what it cuts, and the server has only so many connections.
    sqlx::query(
        "select pg_terminate_backend(pid) from pg_stat_activity where state = 'idle' and query = 'COMMIT'",
    )
    .execute(server)
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_gives_the_true_answer() {
    let server = Postgres::start().await;
    let gateways = join_all((0..GATEWAYS).map(async |_| {
        let proxy = Proxy::start(format!("127.0.0.1:{}", server.port())).await;
        let url = format!("postgres://postgres@{}/postgres", proxy.addr());
        (
            Gateway::start(&url, None, fencegate::gateway::Config::default()).await,
            proxy,
        )
    }))
    .await;
    let direct = PgPool::connect(&server.url()).await.unwrap();
    let token = gateways[0].0.client().acquire("a").await;
    let cutting = gateways.iter().enumerate().map(async |(g, (gateway, proxy))| {
        let client = gateway.client();
        let counter = client
            .request(Method::PUT, &record("a", &format!("{g}/counter")))
            .header("fencing-token", &token);
        Answer::to(counter.body("{}")).await.expect(201);
        for i in 0..CUTS {
            cut_and_repeat((&client, proxy, &direct), &token, g, i).await;
        }
        let counter: Vec<u8> = sqlx::query_scalar("select value from fencegate.record where key = $1")
            .bind(format!("{g}/counter"))
            .fetch_one(&direct)
            .await
            .unwrap();
        let counter: serde_json::Value = serde_json::from_slice(&counter).unwrap();
        assert_eq!(
            counter.as_object().unwrap().len(),
            (0..CUTS).filter(|i| i % 3 == 2).count()
        );
    });
    let limit = Duration::from_secs(200);
    tokio::time::timeout(limit, join_all(cutting))
        .await
        .expect("cuts are fast");
}
