//! Transactions: several writes over several fences, all or none.

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Answer, Client, World, client::number};

on_every_store! {
    all_of_it_happens_at_once
    operations_see_those_before_them
    a_stale_token_among_them_refuses_all
    a_condition_that_fails_refuses_all
    values_are_any_bytes
    transactions_that_cannot_be_are_refused
    those_that_meet_all_happen
}

async fn transact(client: &Client, body: &Value) -> Answer {
    Answer::to(
        client
            .request(Method::POST, "/v1/transactions")
            .body(body.to_string()),
    )
    .await
}

fn put(fence: &str, key: &str, value: impl Into<Value>) -> Value {
    json!({"op": "put", "fence": fence, "key": key, "value": value.into()})
}

fn delete(fence: &str, key: &str) -> Value {
    json!({"op": "delete", "fence": fence, "key": key})
}

async fn all_of_it_happens_at_once(world: World) {
    let client = world.gateway().await.client();
    let (a, b) = (client.acquire("a").await, client.acquire("b").await);
    client.put("a", "old", &a, "x").await.expect(201);
    let body = json!({"tokens": {"a": a, "b": b}, "operations": [
        put("b", "k", "from b"), put("a", "k", json!({"n": 1})), delete("a", "old"), delete("a", "never"),
    ]});
    let answer = transact(&client, &body).await.expect(200);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let results = answer.json()["results"].clone();
    let of = |i: usize| {
        (
            results[i]["fence"].as_str().unwrap().to_owned(),
            results[i]["existed"].as_bool().unwrap(),
        )
    };
    assert_eq!(
        (0..4).map(of).collect::<Vec<_>>(),
        [
            ("b".into(), false),
            ("a".into(), false),
            ("a".into(), true),
            ("a".into(), false),
        ]
    );
    assert!(
        results[2]["version"].is_null() && results[3]["version"].is_null(),
        "{results}"
    );
    let read = client.read("a", "k").await.expect(200);
    assert_eq!(
        read.header("etag").unwrap().trim_matches('"'),
        results[1]["version"]
    );
    assert_eq!(read.header("content-type"), Some("application/json"));
    assert_eq!(read.json(), json!({"n": 1}));
    assert_eq!(client.value("b", "k").await.as_deref(), Some("\"from b\""));
    assert_eq!(client.value("a", "old").await, None);
    assert_eq!(client.value("a", "never").await, None);
    let listed = client.get("/v1/fences/a/records").await.expect(200).json();
    assert_eq!(listed["records"].as_array().unwrap().len(), 1, "{listed}");
}

async fn operations_see_those_before_them(world: World) {
    let client = world.gateway().await.client();
    let a = client.acquire("a").await;
    let absent = json!({"op": "put", "fence": "a", "key": "k", "value": 1, "if_none_match": "*"});
    let present = json!({"op": "put", "fence": "a", "key": "k", "value": 2, "if_match": "*"});
    let body = json!({"tokens": {"a": a}, "operations": [absent, present, delete("a", "k"), absent, present, put("a", "k", 3)]});
    let results = transact(&client, &body).await.expect(200).json()["results"].clone();
    let existed: Vec<bool> = results
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["existed"].as_bool().unwrap())
        .collect();
    assert_eq!(existed, [false, true, true, false, true, true]);
    let versions: Vec<i64> = results
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|r| r["version"].as_str())
        .map(|v| v.parse().unwrap())
        .collect();
    assert!(
        versions.len() == 5 && versions.is_sorted_by(|a, b| a < b),
        "{versions:?}"
    );
    let read = client.read("a", "k").await.expect(200);
    assert_eq!(read.body, b"3");
    assert_eq!(read.header("etag").unwrap(), format!("\"{}\"", versions[4]));
}

async fn a_stale_token_among_them_refuses_all(world: World) {
    let client = world.gateway().await.client();
    let (a, old) = (client.acquire("a").await, client.acquire("b").await);
    client.release("b", &old).await.expect(204);
    let new = client.acquire("b").await;
    // Also where nothing is written under it.
    for operations in [
        json!([put("a", "k", 1), put("b", "k", 1)]),
        json!([put("a", "k", 1)]),
    ] {
        let problem = transact(
            &client,
            &json!({"tokens": {"a": a, "b": old}, "operations": operations}),
        )
        .await
        .problem(412, "token-stale");
        assert_eq!(problem["fence"], "b");
        assert_eq!(problem["presented"], number(&old));
        assert_eq!(problem["mark"], number(&new));
    }
    let swapped = json!({"tokens": {"a": new, "b": a}, "operations": [put("a", "k", 1)]});
    assert_eq!(transact(&client, &swapped).await.status, 412);
    let problem = transact(
        &client,
        &json!({"tokens": {"a": a}, "operations": [put("a", "k", 1), put("b", "k", 1)]}),
    )
    .await
    .problem(428, "token-required");
    assert_eq!(problem["fence"], "b");
    assert_eq!(client.value("a", "k").await, None);
    assert_eq!(client.value("b", "k").await, None);
}

async fn a_condition_that_fails_refuses_all(world: World) {
    let client = world.gateway().await.client();
    let (a, b) = (client.acquire("a").await, client.acquire("b").await);
    let version = client.put("a", "k", &a, "0").await.expect(201).json()["version"]
        .as_str()
        .unwrap()
        .to_owned();
    for condition in [
        json!({"if_match": "1"}),
        json!({"if_match": "\"x\""}),
        json!({"if_none_match": "*"}),
    ] {
        let mut second = put("a", "k", 1);
        second
            .as_object_mut()
            .unwrap()
            .extend(condition.as_object().unwrap().clone());
        if condition["if_match"] == "1" && version == "1" {
            second["if_match"] = "2".into();
        }
        let problem = transact(
            &client,
            &json!({"tokens": {"a": a, "b": b}, "operations": [put("b", "k", 1), second]}),
        )
        .await
        .problem(412, "version-mismatch");
        assert_eq!(problem["fence"], "a");
        assert!(
            problem["detail"]
                .as_str()
                .unwrap()
                .starts_with("operation 1, on record k: "),
            "{problem}"
        );
    }
    assert_eq!(client.value("a", "k").await.as_deref(), Some("0"));
    assert_eq!(client.value("b", "k").await, None);
    for tag in [version.clone(), String::new()] {
        let tag = if tag.is_empty() {
            client.read("a", "k").await.header("etag").unwrap().to_owned()
        } else {
            tag
        };
        let mut operation = put("a", "k", 1);
        operation["if_match"] = tag.into();
        transact(&client, &json!({"tokens": {"a": a}, "operations": [operation]}))
            .await
            .expect(200);
    }
}

async fn values_are_any_bytes(world: World) {
    let client = world.gateway().await.client();
    let a = client.acquire("a").await;
    let body = json!({"tokens": {"a": a}, "operations": [
        {"op": "put", "fence": "a", "key": "bytes", "value_base64": "AP8="},
        {"op": "put", "fence": "a", "key": "text", "value_base64": "aGk=", "content_type": "text/plain"},
        {"op": "put", "fence": "a", "key": "null", "value": null},
        {"op": "put", "fence": "a", "key": "ld", "value": {}, "content_type": "application/ld+json"},
    ]});
    // Numbers stay as they were written.
    let body = body
        .to_string()
        .replace("\"value\":{}", "\"value\":{\"n\":1.50e400}");
    Answer::to(client.request(Method::POST, "/v1/transactions").body(body))
        .await
        .expect(200);
    for (key, bytes, kind) in [
        ("bytes", &b"\x00\xff"[..], "application/octet-stream"),
        ("text", b"hi", "text/plain"),
        ("null", b"null", "application/json"),
        ("ld", b"{\"n\":1.50e400}", "application/ld+json"),
    ] {
        let read = client.read("a", key).await.expect(200);
        assert_eq!(
            (read.body.as_slice(), read.header("content-type")),
            (bytes, Some(kind)),
            "{key}"
        );
    }
}

async fn transactions_that_cannot_be_are_refused(world: World) {
    let mut config = fencegate::gateway::Config::default();
    config.max_value = 100;
    config.max_transaction = 100_000;
    let client = world.gateway_with(config).await.client();
    let a = client.acquire("a").await;
    let with = |operation: Value| json!({"tokens": {"a": a}, "operations": [operation]});
    for body in [
        json!({}),
        json!({"tokens": {"a": a}, "operations": []}),
        json!({"tokens": {"a": a}, "operations": vec![put("a", "k", 1); 129]}),
        json!({"tokens": {"a": a}, "operations": [], "colour": 1}),
        with(json!({"op": "put", "fence": "a", "key": "k"})),
        with(json!({"op": "put", "fence": "a", "key": "k", "value": 1, "value_base64": ""})),
        with(json!({"op": "put", "fence": "a", "key": "k", "value_base64": "?"})),
        with(json!({"op": "put", "fence": "a", "key": "k", "value": 1, "content_type": "a\nb"})),
        with(json!({"op": "put", "fence": "a", "key": "k", "value": 1, "content_type": "garbage"})),
        with(json!({"op": "delete", "fence": "a", "key": "k", "value": 1})),
        with(json!({"op": "merge", "fence": "a", "key": "k", "value": 1})),
        with(json!({"op": "put", "fence": "a", "key": "k", "value": 1, "if_match": "x"})),
        with(
            json!({"op": "put", "fence": "a", "key": "k", "value": 1, "if_match": "1", "if_none_match": "*"}),
        ),
        with(json!({"op": "put", "fence": "a", "key": "k", "value": 1, "if_none_match": "1"})),
    ] {
        transact(&client, &body).await.problem(400, "body-malformed");
    }
    // Objects alone have names for what is in them.
    let operation = r#"["put","a","k",1,null,null,null,null]"#;
    for body in [
        format!(r#"[{{"a":"{a}"}},[{{"op":"delete","fence":"a","key":"k"}}]]"#),
        format!(r#"{{"tokens":{{"a":"{a}"}},"operations":[{operation}]}}"#),
        format!(r#"{{"tokens":[],"operations":[{operation}]}}"#),
        // Which of them?
        format!(
            r#"{{"tokens":{{"a":"1-1-{:032}","a":"{a}"}},"operations":[{{"op":"delete","fence":"a","key":"k"}}]}}"#,
            0
        ),
        String::new(),
    ] {
        let request = client.request(Method::POST, "/v1/transactions").body(body);
        let problem = Answer::to(request).await.problem(400, "body-malformed");
        let detail = problem["detail"].as_str().unwrap();
        assert!(!detail.contains("struct"), "{detail}");
    }
    let other = json!({"tokens": {}, "operations": [put("a", "k", 1)]});
    let problem = transact(&client, &other).await.problem(428, "token-required");
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("tokens") && !detail.contains("header"),
        "{detail}"
    );
    transact(&client, &with(put("a/b", "k", 1)))
        .await
        .problem(400, "name-malformed");
    transact(&client, &with(put("a", "", 1)))
        .await
        .problem(400, "name-malformed");
    transact(
        &client,
        &json!({"tokens": {"a": "x"}, "operations": [put("a", "k", 1)]}),
    )
    .await
    .problem(400, "token-malformed");
    transact(
        &client,
        &json!({"tokens": {"a": "7"}, "operations": [put("a", "k", 1)]}),
    )
    .await
    .problem(412, "token-unsealed");
    transact(&client, &with(put("a", "k", "x".repeat(100))))
        .await
        .problem(413, "body-too-large");
    transact(&client, &with(put("a", "k", "x".repeat(100_000))))
        .await
        .problem(413, "body-too-large");
    assert_eq!(client.value("a", "k").await, None);
    let most = vec![put("a", "k", 1); 128];
    transact(&client, &json!({"tokens": {"a": a}, "operations": most}))
        .await
        .expect(200);
}

/// Transactions in every order over the same records, beside single writes with conditions and without, over two
/// replicas: none waits for another for ever, and none is lost.
async fn those_that_meet_all_happen(world: World) {
    let gateways = [world.gateway().await, world.gateway().await];
    let clients = gateways.each_ref().map(|gateway| gateway.client());
    let (a, b) = (clients[0].acquire("a").await, clients[0].acquire("b").await);
    let work = (0..60).map(|i: usize| {
        let (client, a, b) = (&clients[i % 2], &a, &b);
        async move {
            // Records that come and go, in a different order each time.
            let places = [("a", "1"), ("b", "2"), ("a", "3"), ("b", "1")];
            let (x, y) = (places[i % 4], places[(i + 1 + i % 3) % 4]);
            let own = format!("own/{i}");
            let operations = match i % 3 {
                0 => json!([put(x.0, x.1, i), put("a", &own, i), put(y.0, y.1, i)]),
                1 => json!([delete(x.0, x.1), put(y.0, y.1, i), put("a", &own, i)]),
                _ => json!([put("a", &own, i), put(x.0, x.1, i), delete(y.0, y.1)]),
            };
            let body = json!({"tokens": {"a": a, "b": b}, "operations": operations});
            let single = [("a", a, "3"), ("b", b, "1"), ("a", a, "1")][i % 3];
            let unless_there = client
                .request(Method::PUT, &super::client::record(single.0, single.2))
                .header("fencing-token", single.1)
                .header("if-none-match", "*")
                .body("x");
            let (transacted, written, made) = tokio::join!(
                transact(client, &body),
                client.put(single.0, single.2, single.1, "x"),
                Answer::to(unless_there)
            );
            transacted.expect(200);
            assert!(written.status < 300, "{written:?}");
            assert!([201, 412].contains(&made.status), "{made:?}");
        }
    });
    join_all(work).await;
    let listed = clients[0]
        .get("/v1/fences/a/records?prefix=own/")
        .await
        .expect(200)
        .json();
    assert_eq!(listed["records"].as_array().unwrap().len(), 60);
}
