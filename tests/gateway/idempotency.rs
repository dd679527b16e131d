//! `Idempotency-Key`: what is asked for again happens once.

use std::time::Duration;

use fencegate::gateway::Config;
use futures::future::join_all;
use reqwest::Method;
use serde_json::json;
use sqlx::{Connection, Executor, PgConnection};

use super::{Answer, Client, World, client::record};

on_every_store! {
    a_repeat_is_answered_as_the_first_time
    a_repeat_is_answered_although_the_token_is_stale
    another_request_under_the_key_is_refused
    refusals_are_not_recorded
    many_at_once_happen_once
    keys_are_forgotten_in_time
    keys_that_cannot_be_are_refused
}

const TOKEN: &str = "fencing-token";

async fn send(client: &Client, method: Method, path: &str, token: &str, key: &str, body: &str) -> Answer {
    let kind = if method == Method::PATCH {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let request = client
        .request(method, path)
        .header(TOKEN, token)
        .header("idempotency-key", key)
        .header("content-type", kind);
    Answer::to(request.body(body.to_owned())).await
}

fn same(first: &Answer, again: &Answer) {
    assert_eq!((first.status, &first.body), (again.status, &again.body));
    assert_eq!(first.header("etag"), again.header("etag"));
    assert_eq!(first.header("idempotency-replayed"), None);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
}

async fn a_repeat_is_answered_as_the_first_time(world: World) {
    let (one, other) = (world.gateway().await, world.gateway().await);
    let client = one.client();
    let token = client.acquire("a").await;
    let path = record("a", "k/1");
    let transaction = json!({"tokens": {"a": token}, "operations": [
        {"op": "put", "fence": "a", "key": "t", "value": 1}, {"op": "delete", "fence": "a", "key": "k/1"},
    ]})
    .to_string();
    for (method, path, body) in [
        (Method::PUT, path.as_str(), r#"{"n":1}"#),
        (Method::PATCH, &path, r#"{"m":2}"#),
        (Method::POST, "/v1/transactions", &transaction),
        (Method::DELETE, &record("a", "t"), ""),
    ] {
        let first = send(&client, method.clone(), path, &token, "key", body).await;
        assert!(first.status < 300, "{first:?}");
        // Written over meanwhile, which the repeat must not undo.
        client.put("a", "k/1", &token, "{}").await;
        client.put("a", "t", &token, "2").await;
        for client in [&client, &other.client()] {
            same(
                &first,
                &send(client, method.clone(), path, &token, "key", body).await,
            );
        }
        assert_eq!(client.value("a", "k/1").await.as_deref(), Some("{}"));
        assert_eq!(client.value("a", "t").await.as_deref(), Some("2"));
    }
    // The same record under another spelling of its path, and after a restart.
    one.stop.cancel();
    one.ended().await;
    let client = world.gateway().await.client();
    let spelled = "/v1/fences/%61/records/k/1";
    let again = send(&client, Method::PUT, spelled, &token, "key", r#"{"n":1}"#)
        .await
        .expect(201);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
}

async fn a_repeat_is_answered_although_the_token_is_stale(world: World) {
    let client = world.gateway().await.client();
    let old = client.acquire("a").await;
    let path = record("a", "k");
    let first = send(&client, Method::PUT, &path, &old, "key", "1")
        .await
        .expect(201);
    client.release("a", &old).await.expect(204);
    let new = client.acquire("a").await;
    client.put("a", "k", &new, "2").await.expect(200);
    for token in [&old, &new] {
        same(
            &first,
            &send(&client, Method::PUT, &path, token, "key", "1").await,
        );
    }
    send(&client, Method::PUT, &path, &old, "another", "1")
        .await
        .problem(412, "token-stale");
    assert_eq!(client.value("a", "k").await.as_deref(), Some("2"));
}

async fn another_request_under_the_key_is_refused(world: World) {
    let client = world.gateway().await.client();
    let token = client.acquire("a").await;
    let path = record("a", "k");
    send(&client, Method::PUT, &path, &token, "key", "1")
        .await
        .expect(201);
    send(&client, Method::PUT, &path, &token, "key", "2")
        .await
        .problem(422, "idempotency-key-reused");
    let conditional = client
        .request(Method::PUT, &path)
        .header(TOKEN, &token)
        .header("idempotency-key", "key")
        .header("content-type", "application/json")
        .header("if-match", "*");
    Answer::to(conditional.body("1"))
        .await
        .problem(422, "idempotency-key-reused");
    // Of another method or path, the key is another one.
    send(&client, Method::DELETE, &path, &token, "key", "")
        .await
        .expect(204);
    send(&client, Method::PUT, &record("a", "l"), &token, "key", "2")
        .await
        .expect(201);
    assert_eq!(client.value("a", "k").await, None);
}

async fn refusals_are_not_recorded(world: World) {
    let client = world.gateway().await.client();
    let old = client.acquire("a").await;
    client.release("a", &old).await.expect(204);
    let path = record("a", "k");
    send(&client, Method::PUT, &path, &old, "key", "1")
        .await
        .problem(412, "holder-mismatch");
    let new = client.acquire("a").await;
    send(&client, Method::PATCH, &path, &new, "patch", "{}")
        .await
        .problem(404, "record-not-found");
    let done = send(&client, Method::PUT, &path, &new, "key", "1")
        .await
        .expect(201);
    assert_eq!(done.header("idempotency-replayed"), None);
    send(&client, Method::PATCH, &path, &new, "patch", "{}")
        .await
        .expect(200);
}

async fn many_at_once_happen_once(world: World) {
    let gateways = [world.gateway().await, world.gateway().await];
    let clients = gateways.each_ref().map(|gateway| gateway.client());
    let token = clients[0].acquire("a").await;
    clients[0].put("a", "k", &token, "{}").await.expect(201);
    for round in 0..5 {
        let (key, path) = (format!("key {round}"), record("a", "k"));
        let sent = (0..20).map(|i| send(&clients[i % 2], Method::PATCH, &path, &token, &key, r#"{"a":1}"#));
        let answers = join_all(sent).await;
        let (mut first, mut tags) = (0, std::collections::BTreeSet::new());
        for answer in answers {
            if answer.status == 409 {
                answer.problem(409, "idempotency-key-in-flight");
                continue;
            }
            tags.insert(answer.header("etag").unwrap().to_owned());
            first += usize::from(answer.expect(200).header("idempotency-replayed").is_none());
        }
        assert_eq!((first, tags.len()), (1, 1));
    }
}

async fn keys_are_forgotten_in_time(world: World) {
    let mut config = Config::default();
    config.idempotency_keep = Duration::from_millis(300);
    let client = world.gateway_with(config).await.client();
    let token = client.acquire("a").await;
    let path = record("a", "k");
    send(&client, Method::PUT, &path, &token, "key", "1")
        .await
        .expect(201);
    tokio::time::sleep(Duration::from_millis(400)).await;
    // Not pruned yet, and no longer in the way.
    let second = send(&client, Method::PUT, &path, &token, "key", "2")
        .await
        .expect(200);
    assert_eq!(second.header("idempotency-replayed"), None);
    let store = fencegate::connect(&world.store, world.locks.as_deref())
        .await
        .unwrap();
    let store = store.store();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(store.forget_keys().await.unwrap(), 1);
    assert_eq!(store.forget_keys().await.unwrap(), 0);
}

async fn keys_that_cannot_be_are_refused(world: World) {
    let client = world.gateway().await.client();
    let token = client.acquire("a").await;
    let path = record("a", "k");
    for key in ["", &"x".repeat(256), "\u{fc}"] {
        send(&client, Method::PUT, &path, &token, key, "1")
            .await
            .problem(400, "header-malformed");
    }
    assert_eq!(client.value("a", "k").await, None);
}

/// A request under way elsewhere is not waited for beyond reason, and stalls nobody else.
#[tokio::test]
async fn a_key_in_flight_is_told_to_come_back() {
    let world = World::postgres().await;
    let client = world.gateway().await.client();
    let token = client.acquire("a").await;
    let path = record("a", "k");
    client.put("a", "k", &token, "0").await.expect(201);
    let mut other = PgConnection::connect(&world.store).await.unwrap();
    // Stands where the first request is about to commit, and does not.
    send(&client, Method::PUT, &path, &token, "key", "1")
        .await
        .expect(200);
    other.execute("begin").await.unwrap();
    other.execute("delete from fencegate.idempotency").await.unwrap();
    let problem = send(&client, Method::PUT, &path, &token, "key", "1").await;
    // A row that is being deleted is waited for, as one that is being made is.
    problem.problem(409, "idempotency-key-in-flight");
    client.put("a", "k", &token, "2").await.expect(200);
    other.execute("rollback").await.unwrap();
    send(&client, Method::PUT, &path, &token, "key", "1")
        .await
        .expect(200);
    assert_eq!(client.value("a", "k").await.as_deref(), Some("2"));
}

#[tokio::test]
async fn no_token_and_no_key_is_stored() {
    let world = World::postgres().await;
    let client = world.gateway().await.client();
    let token = client.acquire("a").await;
    send(
        &client,
        Method::PUT,
        &record("a", "k"),
        &token,
        "key-in-confidence",
        "1",
    )
    .await
    .expect(201);
    let mut database = PgConnection::connect(&world.store).await.unwrap();
    let rows: Vec<String> = sqlx::query_scalar("select i::text from fencegate.idempotency i")
        .fetch_all(&mut database)
        .await
        .unwrap();
    assert_eq!(rows.len(), 1);
    for secret in [
        token.rsplit_once('-').unwrap().1,
        "key-in-confidence",
        &hex::encode("key-in-confidence"),
    ] {
        assert!(!rows[0].contains(secret), "{rows:?}");
    }
}
