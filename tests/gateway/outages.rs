//! Servers that are down, not set up, or not the ones that they were; and answers that are lost on the way.

use std::time::Duration;

use fencegate::gateway::Config;
use futures::future::BoxFuture;
use reqwest::Method;
use serde_json::json;
use sqlx::{Connection, Executor, PgConnection};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{
    Answer, Gateway, World,
    client::{lease, record},
};
use crate::support::{self, Etcd, Postgres, Proxy, eventually, eventually::PATIENCE};

fn impatient() -> Config {
    let mut config = Config::default();
    config.probe_timeout = Duration::from_secs(1);
    config
}

#[tokio::test]
async fn without_etcd_writes_go_on_and_leases_wait() {
    let (store, mut etcd) = tokio::join!(Postgres::start(), Etcd::start());
    let locks = format!("etcd://{}", etcd.endpoint());
    let gateway = Gateway::start(&store.url(), Some(&locks), impatient()).await;
    let client = gateway.client();
    let token = client.acquire("a").await;
    client.get("/readyz").await.expect(200);

    etcd.kill9();
    client.put("a", "k", &token, "without etcd").await.expect(201);
    client.check("a", &token).await.expect(200);
    let answer = client.lease("b", json!({})).await;
    assert_eq!(answer.problem(503, "lock-service-unavailable")["retryable"], true);
    client
        .renew("a", &token)
        .await
        .problem(503, "lock-service-unavailable");
    let ready = client.get("/readyz").await.expect(503).json();
    assert_eq!(ready["store"]["status"], "ok", "{ready}");
    assert_eq!(ready["lock_service"]["status"], "unusable", "{ready}");
    assert!(
        ready["lock_service"]["problem"]
            .as_str()
            .is_some_and(|text| !text.is_empty()),
        "{ready}"
    );
    client.get("/livez").await.expect(200);
    let shown = client.get("/v1/fences/a").await.expect(200).json();
    assert_eq!(shown["lock_service_answers"], false);
    // What was released is dead, although the lock itself stays until it expires.
    let problem = client
        .release("a", &token)
        .await
        .problem(503, "lock-service-unavailable");
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("this token is dead") && !detail.contains("go on"),
        "{detail}"
    );
    client
        .put("a", "k", &token, "late")
        .await
        .problem(412, "holder-mismatch");

    etcd.restart().await;
    eventually(PATIENCE, async || client.get("/readyz").await.status == 200).await;
    client.release("a", &token).await.expect(204);
    client.acquire("b").await;
    client.wait_for("a").await;
}

#[tokio::test]
async fn without_postgres_everything_is_told_to_come_back() {
    let mut store = Postgres::builder().durable().start().await;
    let gateway = Gateway::start(&store.url(), None, impatient()).await;
    let client = gateway.client();
    let token = client.acquire("a").await;
    client.put("a", "k", &token, "v").await.expect(201);

    store.kill9();
    // Of a write on a connection that breaks under it nobody can know what became; later ones know better.
    eventually(PATIENCE, async || {
        let answer = client.put("a", "k", &token, "w").await.expect(503);
        answer.json()["type"] != "urn:fencegate:problem:outcome-unknown"
    })
    .await;
    let answers: [BoxFuture<Answer>; 6] = [
        Box::pin(client.read("a", "k")),
        Box::pin(client.get("/v1/fences")),
        Box::pin(client.get("/v1/fences/a")),
        Box::pin(client.check("a", &token)),
        Box::pin(client.lease("b", json!({}))),
        Box::pin(client.release("a", &token)),
    ];
    for answer in futures::future::join_all(answers).await {
        let shown = format!("{answer:?}");
        assert!(
            !shown.contains("postgres://") && !shown.contains("os error"),
            "{shown}"
        );
        let problem = answer.problem(503, "store-unavailable");
        assert!(
            problem["detail"].as_str().unwrap().ends_with("come back soon"),
            "{problem}"
        );
    }
    let ready = client.get("/readyz").await.expect(503).json();
    assert_eq!(ready["store"]["status"], "unusable", "{ready}");
    client.get("/livez").await.expect(200);

    store.restart().await;
    eventually(PATIENCE, async || client.get("/readyz").await.status == 200).await;
    assert_eq!(client.value("a", "k").await.as_deref(), Some("v"));
    client.put("a", "k", &token, "w").await.expect(200);
    client.renew("a", &token).await.expect(200);
    client.release("a", &token).await.expect(204);
    client.acquire("b").await;
}

#[tokio::test]
async fn without_postgres_etcd_is_not_blamed() {
    let (mut store, etcd) = tokio::join!(Postgres::builder().durable().start(), Etcd::start());
    let locks = format!("etcd://{}", etcd.endpoint());
    let gateway = Gateway::start(&store.url(), Some(&locks), impatient()).await;
    gateway.client().get("/readyz").await.expect(200);
    store.kill9();
    let ready = gateway.client().get("/readyz").await.expect(503).json();
    assert_eq!(ready["store"]["status"], "unusable", "{ready}");
    assert_eq!(ready["lock_service"]["status"], "ok", "{ready}");
}

/// It is for the operator to mend, and for nobody else to look into.
#[tokio::test]
async fn a_store_that_gives_the_gateway_too_few_rights_is_not_ready() {
    let server = Postgres::start().await;
    let owner = Gateway::start(&server.url(), None, impatient()).await.client();
    let token = owner.acquire("a").await;
    owner.put("a", "k", &token, "v").await.expect(201);
    let mut admin = PgConnection::connect(&server.url()).await.unwrap();
    let roles = "create role bare login; create role reader login; grant usage on schema fencegate to reader;
                 grant select on all tables in schema fencegate to reader;
                 grant execute on all functions in schema fencegate to reader";
    admin.execute(roles).await.unwrap();
    let url = |role: &str| {
        server
            .url()
            .replace("postgres://postgres", &format!("postgres://{role}"))
    };

    let locks = fencegate::connect(&url("bare"), None).await.unwrap();
    let client = Gateway::start_on(locks.clone(), impatient()).await.client();
    let transaction =
        json!({"tokens": {"a": token}, "operations": [{"op": "delete", "fence": "a", "key": "k"}]});
    let transaction = client
        .request(Method::POST, "/v1/transactions")
        .body(transaction.to_string());
    let answers: [BoxFuture<Answer>; 8] = [
        Box::pin(client.lease("b", json!({}))),
        Box::pin(client.put("a", "k", &token, "w")),
        Box::pin(client.read("a", "k")),
        Box::pin(client.check("a", &token)),
        Box::pin(client.get("/v1/fences")),
        Box::pin(client.get("/v1/rejections")),
        Box::pin(client.release("a", &token)),
        Box::pin(Answer::to(transaction)),
    ];
    for answer in futures::future::join_all(answers).await {
        let problem = answer.problem(503, "not-ready");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("role"), "{detail}");
    }
    client.get("/readyz").await.expect(503);
    // What the log says.
    let error = locks.store().epoch().await.unwrap_err().to_string();
    assert!(
        error.contains("permission denied for schema fencegate"),
        "{error}"
    );

    let gateway = Gateway::start(&url("reader"), None, impatient()).await;
    let client = gateway.client();
    assert_eq!(client.value("a", "k").await.as_deref(), Some("v"));
    client.put("a", "k", &token, "w").await.problem(503, "not-ready");
    client
        .renew("a", &token)
        .await
        .problem(503, "lock-service-unavailable");
    owner.put("a", "k", &token, "w").await.expect(200);
}

#[tokio::test]
async fn a_store_without_tables_says_how_to_make_them() {
    let server = Postgres::start().await;
    let locks = fencegate::connect(&server.url(), None).await.unwrap();
    let gateway = Gateway::start_on(locks.clone(), impatient()).await;
    let client = gateway.client();
    for answer in [
        client.lease("a", json!({})).await,
        client.read("a", "k").await,
        client
            .put("a", "k", "1-1-9f86d081884c7d659a2feaa0c55ad015", "v")
            .await,
    ] {
        let problem = answer.problem(503, "not-ready");
        assert!(
            problem["detail"]
                .as_str()
                .unwrap()
                .contains("fencegate migrate --store"),
            "{problem}"
        );
    }
    let ready = client.get("/readyz").await.expect(503).json();
    assert!(
        ready["store"]["problem"]
            .as_str()
            .unwrap()
            .contains("fencegate migrate"),
        "{ready}"
    );
    locks.store().migrate().await.unwrap();
    client.get("/readyz").await.expect(200);
    client.acquire("a").await;
}

#[tokio::test]
async fn another_lock_service_is_refused_until_the_epoch_is_raised() {
    let world = World::sqlite().await;
    let client = world.gateway().await.client();
    let token = client.acquire("a").await;
    let folder = support::folder("locks");
    let other = format!("sqlite:{}", folder.path().join("locks.db").display());
    let gateway = Gateway::start(&world.store, Some(&other), impatient()).await;
    let swapped = gateway.client();
    swapped
        .lease("b", json!({}))
        .await
        .problem(409, "lock-service-regressed");
    assert_eq!(swapped.mark("b").await, None);
    let ready = swapped.get("/readyz").await.expect(503).json();
    assert_eq!(ready["lock_service"]["status"], "unusable", "{ready}");
    swapped.put("a", "k", &token, "v").await.expect(201);
    // One that raises it by itself is sent requests, of which a lease does so.
    let locks = fencegate::connect(&world.store, Some(&other)).await.unwrap();
    let gateway = Gateway::start_on(locks.with_auto_rebase("a test"), impatient()).await;
    gateway.client().get("/readyz").await.expect(200);
    gateway.client().acquire("b").await;
    client
        .put("a", "k", &token, "late")
        .await
        .problem(412, "token-stale");
}

#[tokio::test]
async fn a_lost_answer_to_the_commit_is_an_unknown_outcome() {
    let server = Postgres::start().await;
    let proxy = Proxy::start(format!("127.0.0.1:{}", server.port())).await;
    let url = format!("postgres://postgres@{}/postgres", proxy.addr());
    let gateway = Gateway::start(&url, None, impatient()).await;
    let client = gateway.client();
    let token = client.acquire("a").await;
    client.put("a", "k", &token, "before").await.expect(201);

    // The request that the value is in is the one that commits.
    let happened = proxy.cut_on_request(|chunk| chunk.windows(5).any(|at| at == b"after"));
    let problem = client
        .put("a", "k", &token, "after")
        .await
        .problem(503, "outcome-unknown");
    assert_eq!(problem["retryable"], false);
    happened.await.unwrap();
    // It had happened.
    eventually(PATIENCE, async || {
        client.value("a", "k").await.as_deref() == Some("after")
    })
    .await;
    client.put("a", "k", &token, "again").await.expect(200);
}

#[tokio::test]
async fn a_write_runs_to_its_end_when_the_client_goes_away() {
    let world = World::postgres().await;
    let gateway = world.gateway().await;
    let client = gateway.client();
    let token = client.acquire("a").await;
    client.put("a", "k", &token, "before").await.expect(201);
    let mut other = PgConnection::connect(&world.store).await.unwrap();
    other.execute("begin").await.unwrap();
    other
        .execute("select 1 from fencegate.record for update")
        .await
        .unwrap();

    let request = format!(
        "PUT {} HTTP/1.1\r\nHost: localhost\r\nFencing-Token: {token}\r\nContent-Length: 5\r\n\r\nafter",
        record("a", "k")
    );
    let mut stream = TcpStream::connect(("127.0.0.1", gateway.port)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let blocked = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'";
    eventually(PATIENCE, async || {
        sqlx::query_scalar::<_, i64>(blocked)
            .fetch_one(&mut other)
            .await
            .unwrap()
            > 0
    })
    .await;
    drop(stream);
    // Long enough for the gateway to notice, had it been watching.
    tokio::time::sleep(Duration::from_millis(300)).await;
    other.execute("commit").await.unwrap();
    eventually(PATIENCE, async || {
        client.value("a", "k").await.as_deref() == Some("after")
    })
    .await;
}

#[tokio::test]
async fn a_write_that_takes_too_long_is_an_unknown_outcome() {
    let world = World::postgres().await;
    let mut config = impatient();
    config.write_timeout = Duration::from_millis(300);
    let client = world.gateway_with(config).await.client();
    let token = client.acquire("a").await;
    client.put("a", "k", &token, "before").await.expect(201);
    let mut other = PgConnection::connect(&world.store).await.unwrap();
    other.execute("begin").await.unwrap();
    other
        .execute("select 1 from fencegate.record for update")
        .await
        .unwrap();
    client
        .put("a", "k", &token, "after")
        .await
        .problem(503, "outcome-unknown");
    assert_eq!(client.value("a", "k").await.as_deref(), Some("before"));
    other.execute("commit").await.unwrap();
    eventually(PATIENCE, async || {
        client.value("a", "k").await.as_deref() == Some("after")
    })
    .await;
}

/// A grant that cannot be sealed in time is no grant, and leaves nothing behind.
#[tokio::test]
async fn a_lease_request_is_answered_in_time() {
    let server = Postgres::start().await;
    let proxy = Proxy::start(format!("127.0.0.1:{}", server.port())).await;
    let url = format!("postgres://postgres@{}/postgres", proxy.addr());
    let patient = Gateway::start(&url, None, Config::default()).await.client();
    let token = patient.acquire("a").await;
    let mut config = impatient();
    config.lease_timeout = Duration::from_millis(500);
    config.read_timeout = Duration::from_millis(500);
    let gateway = Gateway::start(&url, None, config).await;
    let client = gateway.client();
    proxy.pause();
    let request = client.request(Method::POST, &lease("b")).body(r#"{"ttl":"5m"}"#);
    Answer::to(request).await.problem(503, "lock-service-unavailable");
    client
        .renew("a", &token)
        .await
        .problem(503, "lock-service-unavailable");
    client.read("a", "k").await.problem(503, "store-unavailable");
    let ready = client.get("/readyz").await.expect(503).json();
    assert_eq!(ready["store"]["status"], "unusable", "{ready}");
    assert_eq!(ready["lock_service"]["status"], "unusable", "{ready}");
    proxy.resume();
    patient.wait_for("b").await;
}
