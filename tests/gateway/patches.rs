//! Merge patches of records.

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Answer, Client, World, client::record};

on_every_store! {
    a_patch_changes_what_it_names
    a_patch_is_fenced_and_conditional
    what_cannot_be_patched_says_so
    patches_at_the_same_time_are_all_there
}

async fn patch(client: &Client, token: &str, header: Option<(&str, &str)>, body: &str) -> Answer {
    let mut request = client
        .request(Method::PATCH, &record("a", "k"))
        .header("fencing-token", token)
        .header("content-type", "application/merge-patch+json; charset=utf-8");
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    Answer::to(request.body(body.to_owned())).await
}

async fn stored(client: &Client) -> Value {
    client.read("a", "k").await.expect(200).json()
}

async fn put_json(client: &Client, token: &str, value: &str) {
    let request = client
        .request(Method::PUT, &record("a", "k"))
        .header("fencing-token", token)
        .header("content-type", "application/json");
    let status = Answer::to(request.body(value.to_owned())).await.status;
    assert!(status < 300);
}

async fn a_patch_changes_what_it_names(world: World) {
    let client = world.gateway().await.client();
    let token = client.acquire("a").await;
    put_json(
        &client,
        &token,
        r#"{"a": 1, "b": {"c": 2.50, "d": 3}, "e": null}"#,
    )
    .await;
    let answer = patch(
        &client,
        &token,
        None,
        r#"{"a":null,"b":{"d":[4]},"f":{"g":null,"h":5}}"#,
    )
    .await
    .expect(200);
    let read = client.read("a", "k").await.expect(200);
    assert_eq!(read.header("etag"), answer.header("etag"));
    assert_eq!(
        answer.json()["version"].as_str(),
        answer.header("etag").map(|tag| tag.trim_matches('"'))
    );
    assert_eq!(read.header("content-type"), Some("application/json"));
    assert_eq!(
        String::from_utf8(read.body).unwrap(),
        r#"{"b":{"c":2.50,"d":[4]},"e":null,"f":{"h":5}}"#
    );
    patch(&client, &token, None, "[1]").await.expect(200);
    assert_eq!(stored(&client).await, json!([1]));
}

async fn a_patch_is_fenced_and_conditional(world: World) {
    let client = world.gateway().await.client();
    let old = client.acquire("a").await;
    put_json(&client, &old, "{}").await;
    client.release("a", &old).await.expect(204);
    let token = client.acquire("a").await;
    patch(&client, &old, None, r#"{"old":1}"#)
        .await
        .problem(412, "token-stale");
    let none = client
        .request(Method::PATCH, &record("a", "k"))
        .header("content-type", "application/merge-patch+json");
    Answer::to(none.body("{}")).await.problem(428, "token-required");
    let tag = patch(&client, &token, Some(("if-match", "*")), r#"{"new":1}"#)
        .await
        .expect(200);
    let tag = tag.header("etag").unwrap();
    patch(&client, &token, Some(("if-match", tag)), r#"{"new":2}"#)
        .await
        .expect(200);
    patch(&client, &token, Some(("if-match", tag)), r#"{"new":3}"#)
        .await
        .problem(412, "version-mismatch");
    assert_eq!(stored(&client).await, json!({"new": 2}));
}

async fn what_cannot_be_patched_says_so(world: World) {
    let mut config = fencegate::gateway::Config::default();
    config.max_value = 100;
    let client = world.gateway_with(config).await.client();
    let token = client.acquire("a").await;
    patch(&client, &token, None, "{}")
        .await
        .problem(404, "record-not-found");
    client.put("a", "k", &token, "plain text").await.expect(201);
    patch(&client, &token, None, "{}")
        .await
        .problem(409, "record-not-json");
    assert_eq!(client.value("a", "k").await.as_deref(), Some("plain text"));
    put_json(&client, &token, r#"{"a":1}"#).await;
    for body in ["", "{", r#"{"a":2}{"#] {
        patch(&client, &token, None, body)
            .await
            .problem(400, "body-malformed");
    }
    let long = json!({"b": "x".repeat(85)}).to_string();
    patch(&client, &token, None, &long).await.expect(200);
    patch(&client, &token, None, r#"{"c":"123456789"}"#)
        .await
        .problem(413, "body-too-large");
    for kind in [
        None,
        Some("application/json"),
        Some("application/json-patch+json"),
        Some("text/plain"),
    ] {
        let mut request = client
            .request(Method::PATCH, &record("a", "k"))
            .header("fencing-token", &token);
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        let answer = Answer::to(request.body("{}")).await;
        assert_eq!(
            answer.header("accept-patch"),
            Some("application/merge-patch+json")
        );
        answer.problem(415, "media-type-unsupported");
    }
    assert_eq!(stored(&client).await["a"], 1);
}

/// Each reads what the one before it wrote, whichever replica it came to and whatever else is written.
async fn patches_at_the_same_time_are_all_there(world: World) {
    let gateways = [world.gateway().await, world.gateway().await];
    let clients = gateways.each_ref().map(|gateway| gateway.client());
    let token = clients[0].acquire("a").await;
    put_json(&clients[0], &token, "{}").await;
    let patches = (0..40).map(|i| {
        let (client, token) = (&clients[i % 2], &token);
        async move {
            let other = format!("other/{}", i % 3);
            let body = json!({ format!("m{i}"): i }).to_string();
            let (patched, put) = tokio::join!(
                patch(client, token, None, &body),
                client.put("a", &other, token, "x")
            );
            patched.expect(200);
            assert!(put.status < 300, "{put:?}");
        }
    });
    join_all(patches).await;
    let stored = stored(&clients[0]).await;
    assert_eq!(stored.as_object().unwrap().len(), 40, "{stored}");
}
