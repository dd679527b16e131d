//! Names and keys: whatever is allowed is stored and read back alike, and the rest is refused.

use super::{
    World,
    client::{encode, record},
};

on_every_store! {
    names_and_keys_come_back_as_they_were_sent
    names_that_cannot_be_are_refused
    keys_are_read_as_they_are_sent
}

async fn names_and_keys_come_back_as_they_were_sent(world: World) {
    let client = world.gateway().await.client();
    let (long_name, long_key) = ("x".repeat(200), "y/".repeat(512));
    let umlauts = "ü".repeat(100);
    for (index, (name, key)) in [
        ("a", "k"),
        ("invoices:2026-11", "2026/11/0042"),
        ("100%", "100%/%2F/%zz"),
        ("a b", " leading and trailing "),
        ("ünï cödé 🦀", "🦀/schlüssel"),
        ("a%2Fb", "a%2Fb"),
        ("records", "records/lease"),
        ("lease", "check"),
        ("a?b#c", "a?b#c"),
        ("a+b&c=d", "a+b&c=d"),
        ("...", ".../..a"),
        ("{a}", "{*key}"),
        ("a\\b", "a\\b"),
        ("'; drop table fence; --", "\"quoted\""),
        ("k", "/leading//double/trailing/"),
        (&long_name, &long_key),
        (&umlauts, &umlauts),
    ]
    .iter()
    .enumerate()
    {
        let answer = client
            .lease(name, serde_json::json!({"ttl": "5m"}))
            .await
            .expect(201);
        assert_eq!(answer.json()["fence"], *name);
        let token = answer.token();
        let value = format!("value {index}");
        let put = client.put(name, key, &token, &value).await.expect(201).json();
        assert_eq!(
            (put["fence"].as_str(), put["key"].as_str()),
            (Some(*name), Some(*key))
        );
        assert_eq!(client.value(name, key).await, Some(value), "{name} {key}");
        let shown = client
            .get(&format!("/v1/fences/{}", encode(name)))
            .await
            .expect(200)
            .json();
        assert_eq!(shown["fence"], *name);
        client.delete(name, key, &token).await.expect(204);
        assert_eq!(client.value(name, key).await, None);
        client.release(name, &token).await.expect(204);
    }
}

async fn names_that_cannot_be_are_refused(world: World) {
    let client = world.gateway().await.client();
    let token = client.acquire("a").await;
    let (long_name, long_key) = ("x".repeat(201), "y".repeat(1025));
    for name in [
        long_name.as_str(),
        &"ü".repeat(101),
        "a/b",
        "a\nb",
        "a\0",
        "\u{7f}",
        "\u{85}",
    ] {
        client
            .lease(name, serde_json::json!({}))
            .await
            .problem(400, "name-malformed");
        client
            .put(name, "k", &token, "v")
            .await
            .problem(400, "name-malformed");
        client.read(name, "k").await.problem(400, "name-malformed");
        let path = format!("/v1/fences/{}", encode(name));
        client.get(&path).await.problem(400, "name-malformed");
    }
    for key in [long_key.as_str(), "a\0b", "a\r\nb", "../a", "a/./b", "a/.."] {
        client
            .put("a", key, &token, "v")
            .await
            .problem(400, "name-malformed");
        client.read("a", key).await.problem(400, "name-malformed");
    }
    // Sent as they stand, since an HTTP library would tidy them up.
    for path in [
        "/v1/fences/%zz",
        "/v1/fences/%",
        "/v1/fences/a%2",
        "/v1/fences/%ff",
        "/v1/fences/%C3",
        "/v1/fences/a%2Fb",
        "/v1/fences/a%2fb",
        "/v1/fences/.",
        "/v1/fences/..",
        "/v1/fences/%2e%2E",
        "/v1/fences/a%00",
        "/v1/fences/a/records/%zz",
        "/v1/fences/a/records/a%",
        "/v1/fences/a/records/%c3%28",
        "/v1/fences/a/records/a/../b",
        "/v1/fences/a/records/a%2F..%2Fb",
        "/v1/fences/%ff/records/k",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = client.raw(request).await;
        assert_eq!(answer.status, 400, "{path}: {answer:?}");
        answer.problem(400, "name-malformed");
    }
}

async fn keys_are_read_as_they_are_sent(world: World) {
    let client = world.gateway().await.client();
    let token = client.acquire("a").await;
    client.put("a", "x/y z", &token, "v").await.expect(201);
    // A slash is the same sent as it is and encoded.
    for path in ["x/y%20z", "x%2Fy%20z", "%78/y%20%7a"] {
        let answer = client.get(&format!("/v1/fences/a/records/{path}")).await;
        assert_eq!(answer.expect(200).body, b"v", "{path}");
    }
    for path in [
        "x/y+z",
        "x//y%20z",
        "x/y%20z/",
        "/x/y%20z",
        "X/y%20z",
        "x/y%2520z",
    ] {
        client
            .get(&format!("/v1/fences/a/records/{path}"))
            .await
            .problem(404, "record-not-found");
    }
    // A query is no part of a key, and none is asked for.
    let path = record("a", "x/y z");
    client.get(&format!("{path}?")).await.expect(200);
    client
        .get(&format!("{path}?x=y"))
        .await
        .problem(400, "query-malformed");
}
