//! Foreign tokens over HTTP: bare sequences of programs that took their locks without fencegate.

use std::time::Duration;

use fencegate::gateway::Config;
use reqwest::Method;
use serde_json::json;

use super::{
    Answer, Client, Gateway,
    auth::Clients,
    client::{encode, record},
};
use crate::{
    grants::foreign::Stranger,
    support::{Etcd, eventually, eventually::PATIENCE, folder},
    world::name,
};

struct Place {
    etcd: Etcd,
    client: Client,
    _folder: tempfile::TempDir,
    _gateway: Gateway,
}

async fn place() -> Place {
    let (folder, etcd) = (folder("foreign"), Etcd::builder().quick().start().await);
    let store = format!("sqlite:{}", folder.path().join("store.db").display());
    let mut config = Config::default();
    config.lease_timeout = Duration::from_secs(5);
    let gateway = Gateway::start(&store, Some(&format!("etcd://{}", etcd.endpoint())), config).await;
    Place {
        etcd,
        client: gateway.client(),
        _folder: folder,
        _gateway: gateway,
    }
}

#[tokio::test]
async fn a_holder_writes_with_its_number_until_its_lock_ends() {
    let Place { etcd, client, .. } = &place().await;
    let mut stranger = Stranger::at(etcd).await;
    let number = stranger.queue_up(&name("a")).await.to_string();
    let checked = client.check("a", &number).await.expect(200).json();
    assert_eq!(checked["mark"], format!("1-{number}"));
    assert_eq!(client.mark("a").await, Some(format!("1-{number}")));

    client.put("a", "k", &number, "v").await.expect(201);
    let patched = client
        .request(Method::PATCH, &record("a", "j"))
        .header("fencing-token", &number)
        .header("content-type", "application/merge-patch+json")
        .body("{}");
    Answer::to(patched).await.problem(404, "record-not-found");
    let transaction = |number: &str| {
        let asked = json!({
            "tokens": {"a": number},
            "operations": [{"op": "put", "fence": "a", "key": "t", "value": 1}],
        });
        Answer::to(
            client
                .request(Method::POST, "/v1/transactions")
                .body(asked.to_string()),
        )
    };
    transaction(&number).await.expect(200);
    client.delete("a", "k", &number).await.expect(204);
    let fenced = |number: &str| {
        Answer::to(
            client
                .request(Method::GET, &record("a", "t"))
                .header("fencing-token", number),
        )
    };
    fenced(&number).await.expect(200);

    stranger.release(&name("a")).await;
    for answer in [
        client.put("a", "k", &number, "late").await,
        client.delete("a", "t", &number).await,
        client.check("a", &number).await,
        transaction(&number).await,
        fenced(&number).await,
    ] {
        let problem = answer.problem(412, "token-unsealed");
        assert_eq!(problem["presented"], number);
        assert_eq!(problem["fence"], "a");
    }
    assert_eq!(client.value("a", "k").await, None);

    let token = client.acquire("a").await;
    client
        .put("a", "k", &number, "late")
        .await
        .problem(412, "token-stale");
    client.put("a", "k", &token, "v").await.expect(201);
}

#[tokio::test]
async fn numbers_that_are_not_the_holders_are_refused() {
    let Place { etcd, client, .. } = &place().await;
    let mut stranger = Stranger::at(etcd).await;
    let number = stranger.queue_up(&name("a")).await.get();
    for guess in [1, number - 1, number + 1, number + 1000, i64::MAX] {
        let answer = client.put("a", "k", &guess.to_string(), "forged").await;
        answer.problem(412, "token-unsealed");
        assert_eq!(client.mark("a").await, None);
    }
    for unreadable in ["9223372036854775808", "0", "-5", "1e3"] {
        client
            .put("a", "k", unreadable, "forged")
            .await
            .problem(400, "token-malformed");
    }
    // One of fencegate's own leases shows its number to everybody.
    let token = client.acquire("b").await;
    let shown = client.get(&format!("/v1/fences/{}", encode("b"))).await.json();
    let shown = shown["holder"]["sequence"].as_str().unwrap();
    client
        .put("b", "k", shown, "forged")
        .await
        .problem(412, "holder-mismatch");
    client.renew("b", shown).await.problem(412, "token-unsealed");
    client.release("b", shown).await.problem(412, "token-unsealed");
    client.put("b", "k", &token, "v").await.expect(201);
    // A released one, whose number is still the mark's.
    client.release("b", &token).await.expect(204);
    client
        .put("b", "k", shown, "forged")
        .await
        .problem(412, "holder-mismatch");
}

/// A bare sequence is worth nothing to another client than the one that showed it first, and it takes the right to
/// write to show it, whatever for: the first time raises the mark.
#[tokio::test]
async fn a_number_belongs_to_the_client_that_showed_it_first() {
    let (folder, etcd) = (folder("foreign"), Etcd::builder().quick().start().await);
    let clients = Clients::new([
        ("reader", json!({"a": ["read", "lease"]})),
        ("one", json!({"a": ["read", "write"]})),
        ("other", json!({"a": ["read", "write"]})),
    ]);
    let store = format!("sqlite:{}", folder.path().join("store.db").display());
    let locks = format!("etcd://{}", etcd.endpoint());
    let gateway = Gateway::start(&store, Some(&locks), clients.config(None)).await;
    let client = gateway.client();
    let mut stranger = Stranger::at(&etcd).await;
    let number = stranger.queue_up(&name("a")).await.to_string();
    let ask = async |who: &str, method: Method, path: &str| {
        let request = client.request(method, path).bearer_auth(clients.key(who));
        Answer::to(request.header("fencing-token", &number).body("v")).await
    };
    let (k, check, list) = (record("a", "k"), "/v1/fences/a/check", "/v1/fences/a/records");
    let mark = async || {
        let shown = client.request(Method::GET, "/v1/fences/a");
        let shown = Answer::to(shown.bearer_auth(clients.key("reader"))).await;
        shown.expect(200).json()["mark"].clone()
    };

    for (method, path) in [
        (Method::POST, check),
        (Method::GET, &k),
        (Method::GET, list),
        (Method::PUT, &k),
    ] {
        ask("reader", method, path).await.problem(403, "forbidden");
        assert_eq!(mark().await, json!(null));
    }
    ask("one", Method::POST, check).await.expect(200);
    assert_eq!(mark().await, format!("1-{number}"));
    ask("one", Method::PUT, &k).await.expect(201);
    for (method, path) in [
        (Method::PUT, k.as_str()),
        (Method::DELETE, &k),
        (Method::GET, &k),
        (Method::GET, list),
        (Method::POST, check),
    ] {
        ask("other", method, path).await.problem(412, "holder-mismatch");
    }
    ask("one", Method::PUT, &k).await.expect(200);
    ask("one", Method::GET, &k).await.expect(200);
}

/// What was written under a key is answered again after the lock's end, and nothing else is.
#[tokio::test]
async fn a_repeated_write_is_answered_after_the_lock_has_ended() {
    let Place { etcd, client, .. } = &place().await;
    let mut stranger = Stranger::at(etcd).await;
    let number = stranger.queue_up(&name("a")).await.to_string();
    let put = |key: &'static str| {
        let request = client.request(Method::PUT, &record("a", "k"));
        let request = request
            .header("fencing-token", &number)
            .header("idempotency-key", key);
        Answer::to(request.body("v"))
    };
    let first = put("one").await.expect(201);
    stranger.release(&name("a")).await;
    let again = put("one").await.expect(201);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(again.header("etag"), first.header("etag"));
    put("two").await.problem(412, "token-unsealed");
    let version = client.read("a", "k").await.expect(200);
    assert_eq!(version.header("etag"), first.header("etag"));
}

#[tokio::test]
async fn without_the_lock_service_no_bare_number_writes() {
    let mut place = place().await;
    let mut stranger = Stranger::at(&place.etcd).await;
    let number = stranger.queue_up(&name("a")).await.to_string();
    let token = place.client.acquire("b").await;
    place.client.put("a", "k", &number, "v").await.expect(201);
    place.etcd.kill9();
    place
        .client
        .put("a", "k", &number, "w")
        .await
        .problem(503, "lock-service-unavailable");
    // Sealed tokens do not need it.
    place.client.put("b", "k", &token, "v").await.expect(201);
    place.etcd.restart().await;
    let client = &place.client;
    eventually(PATIENCE, async || {
        client.put("a", "k", &number, "w").await.status == 200
    })
    .await;
}
