//! Records: bytes with a media type and a version, conditions, and headers.

use reqwest::{Method, header::HeaderValue};

use super::{Answer, Client, World, client::record};

on_every_store! {
    a_record_is_any_bytes_with_their_type
    versions_rise_and_are_entity_tags
    conditions_are_kept
    what_is_asked_for_is_never_passed_over
    a_condition_does_not_help_a_stale_token
    deleting_is_idempotent_and_keeps_the_mark
    stored_pages_are_harmless_in_a_browser
    media_types_that_cannot_be_are_refused
}

async fn put(client: &Client, token: &str, headers: &[(&str, &str)]) -> Answer {
    let request = client
        .request(Method::PUT, &record("a", "k"))
        .header("fencing-token", token)
        .body("v");
    Answer::to(
        headers
            .iter()
            .fold(request, |request, (name, value)| request.header(*name, *value)),
    )
    .await
}

async fn delete(client: &Client, token: &str, header: (&str, &str)) -> Answer {
    let request = client
        .request(Method::DELETE, &record("a", "k"))
        .header("fencing-token", token);
    Answer::to(request.header(header.0, header.1)).await
}

async fn a_record_is_any_bytes_with_their_type(world: World) {
    let client = world.gateway().await.client();
    let token = client.acquire("a").await;
    let all: Vec<u8> = (0..=255).collect();
    let longest = &format!("t/{}", "t".repeat(253));
    let odd = "application/vnd.x+json ; a=\"b, \\\"c;\" ;;d=e;";
    for (bytes, given, kept) in [
        (all.clone(), Some("image/png"), "image/png"),
        (all, None, "application/octet-stream"),
        (
            Vec::new(),
            Some("text/plain; charset=utf-8"),
            "text/plain; charset=utf-8",
        ),
        (b"{}".to_vec(), Some("application/json"), "application/json"),
        (b"x".to_vec(), Some(longest), longest),
        (b"x".to_vec(), Some(odd), odd),
    ] {
        let mut request = client
            .request(Method::PUT, &record("a", "k"))
            .header("fencing-token", &token);
        if let Some(given) = given {
            request = request.header("content-type", given);
        }
        let answer = Answer::to(request.body(bytes.clone())).await;
        assert!([200, 201].contains(&answer.status), "{answer:?}");
        let read = client.read("a", "k").await.expect(200);
        assert_eq!(read.body, bytes);
        assert_eq!(read.header("content-type"), Some(kept));

        let head = Answer::to(client.request(Method::HEAD, &record("a", "k")))
            .await
            .expect(200);
        assert!(head.body.is_empty());
        for name in ["content-type", "content-length", "etag", "last-modified"] {
            assert_eq!(head.header(name), read.header(name), "{name}");
        }
        assert_eq!(read.header("content-length").unwrap(), bytes.len().to_string());
    }
    Answer::to(client.request(Method::HEAD, &record("a", "none")))
        .await
        .expect(404);
}

async fn versions_rise_and_are_entity_tags(world: World) {
    let client = world.gateway().await.client();
    let token = client.acquire("a").await;
    let mut last = 0;
    let mut existed = false;
    for round in 0..6 {
        if round == 3 {
            // A record that is made again never repeats a version.
            client.delete("a", "k", &token).await.expect(204);
            existed = false;
        }
        let answer = client
            .put("a", "k", &token, "same")
            .await
            .expect(if existed { 200 } else { 201 });
        existed = true;
        let version: i64 = answer.json()["version"].as_str().unwrap().parse().unwrap();
        assert!(version > last, "{version} after {last}");
        last = version;
        let tag = format!("\"{version}\"");
        assert_eq!(answer.header("etag"), Some(tag.as_str()));
        let read = client.read("a", "k").await.expect(200);
        assert_eq!(read.header("etag"), Some(tag.as_str()));
        let modified = read.header("last-modified").unwrap();
        assert!(modified.ends_with(" GMT"), "{modified}");

        for known in [
            tag.clone(),
            format!("W/{tag}"),
            format!("\"x\", {tag}"),
            "*".into(),
        ] {
            let request = client
                .request(Method::GET, &record("a", "k"))
                .header("if-none-match", &known);
            let answer = Answer::to(request).await.expect(304);
            assert!(answer.body.is_empty());
            assert_eq!(answer.header("etag"), Some(tag.as_str()));
        }
        let request = client
            .request(Method::GET, &record("a", "k"))
            .header("if-none-match", "\"0\"");
        Answer::to(request).await.expect(200);
    }
}

async fn conditions_are_kept(world: World) {
    let client = world.gateway().await.client();
    let token = client.acquire("a").await;
    // There is no record.
    for condition in [("if-match", "*"), ("if-match", "\"1\""), ("if-match", "W/\"1\"")] {
        put(&client, &token, &[condition])
            .await
            .problem(412, "version-mismatch");
        delete(&client, &token, condition)
            .await
            .problem(412, "version-mismatch");
    }
    assert_eq!(client.value("a", "k").await, None);
    let first = put(&client, &token, &[("if-none-match", "*")]).await.expect(201);
    let first = first.header("etag").unwrap().to_owned();

    // There is one, in its first version.
    put(&client, &token, &[("if-none-match", "*")])
        .await
        .problem(412, "version-mismatch");
    put(&client, &token, &[("if-match", &format!("W/{first}"))])
        .await
        .problem(412, "version-mismatch");
    put(&client, &token, &[("if-match", "*")]).await.expect(200);
    put(&client, &token, &[("if-match", &first)])
        .await
        .problem(412, "version-mismatch");
    delete(&client, &token, ("if-match", &first))
        .await
        .problem(412, "version-mismatch");
    let current = client.read("a", "k").await.header("etag").unwrap().to_owned();
    let second = put(&client, &token, &[("if-match", &current)]).await.expect(200);
    let second = second.header("etag").unwrap().to_owned();
    delete(&client, &token, ("if-match", &second)).await.expect(204);
    delete(&client, &token, ("if-match", "*"))
        .await
        .problem(412, "version-mismatch");

    for headers in [
        [("if-match", "\"1\""), ("if-none-match", "*")],
        [("if-match", "\"1\""), ("if-match", "\"2\"")],
        [("if-match", "1"), ("accept", "*/*")],
        [("if-match", ""), ("accept", "*/*")],
        [("if-match", "\"1\", \"2\""), ("accept", "*/*")],
        [("if-none-match", "\"1\""), ("accept", "*/*")],
    ] {
        put(&client, &token, &headers)
            .await
            .problem(400, "header-malformed");
    }
    assert_eq!(client.value("a", "k").await, None);
}

/// What a client is sure of must not be left out.
async fn what_is_asked_for_is_never_passed_over(world: World) {
    let client = world.gateway().await.client();
    let token = client.acquire("a").await;
    let date = "Thu, 26 Nov 2026 22:53:40 GMT";
    let since = ("if-unmodified-since", date);
    for headers in [vec![since], vec![since, ("if-none-match", "*")]] {
        let problem = put(&client, &token, &headers)
            .await
            .problem(400, "header-malformed");
        assert!(
            problem["detail"].as_str().unwrap().contains("If-Match"),
            "{problem}"
        );
    }
    delete(&client, &token, since)
        .await
        .problem(400, "header-malformed");
    assert_eq!(client.value("a", "k").await, None);
    let tag = put(&client, &token, &[]).await.expect(201);
    let tag = tag.header("etag").unwrap();
    // It is nothing beside the stronger one (RFC 9110, 13.1.4).
    put(&client, &token, &[("if-match", tag), since])
        .await
        .expect(200);
    // And the other is for reads alone (13.1.3).
    put(&client, &token, &[("if-modified-since", date)])
        .await
        .expect(200);

    let patch = r#"{"a":1}"#;
    for (method, path, body) in [
        (Method::PUT, record("a", "k"), "v"),
        (Method::PATCH, record("a", "k"), patch),
        (Method::DELETE, record("a", "k"), ""),
        (Method::GET, record("a", "k"), ""),
        (Method::POST, "/v1/fences/b/lease".into(), ""),
        (Method::PUT, "/v1/fences/a/lease".into(), ""),
        (Method::DELETE, "/v1/fences/a/lease".into(), ""),
        (Method::POST, "/v1/fences/a/check".into(), ""),
        (Method::GET, "/v1/fences/a".into(), ""),
        (Method::POST, "/v1/transactions".into(), "{}"),
    ] {
        for query in ["x=1", "if_match=1", "force", "="] {
            let request = client
                .request(method.clone(), &format!("{path}?{query}"))
                .header("content-type", "application/merge-patch+json")
                .header("fencing-token", &token);
            Answer::to(request.body(body))
                .await
                .problem(400, "query-malformed");
        }
    }
    assert_eq!(client.value("a", "k").await.as_deref(), Some("v"));
    client.check("a", &token).await.expect(200);
    client.get(&format!("{}?", record("a", "k"))).await.expect(200);
}

/// The token is looked at first: a stale writer learns that it is stale, whatever else is wrong.
async fn a_condition_does_not_help_a_stale_token(world: World) {
    let client = world.gateway().await.client();
    let stale = client
        .lease("a", serde_json::json!({"ttl": world.ttl}))
        .await
        .expect(201)
        .token();
    let first = put(&client, &stale, &[]).await.expect(201);
    let token = client.wait_for("a").await;
    let tag = first.header("etag").unwrap();
    for condition in [("if-match", tag), ("if-match", "\"0\""), ("if-none-match", "*")] {
        put(&client, &stale, &[condition])
            .await
            .problem(412, "token-stale");
        delete(&client, &stale, condition)
            .await
            .problem(412, "token-stale");
    }
    put(&client, &token, &[("if-match", tag)]).await.expect(200);
}

async fn deleting_is_idempotent_and_keeps_the_mark(world: World) {
    let client = world.gateway().await.client();
    let token = client.acquire("a").await;
    client.delete("a", "k", &token).await.expect(204);
    client.put("a", "k", &token, "v").await.expect(201);
    let mark = client.mark("a").await;
    for _ in 0..2 {
        let answer = client.delete("a", "k", &token).await.expect(204);
        assert!(answer.body.is_empty());
    }
    client.read("a", "k").await.problem(404, "record-not-found");
    assert_eq!(client.mark("a").await, mark);
    client.put("a", "k", &token, "v").await.expect(201);
}

async fn stored_pages_are_harmless_in_a_browser(world: World) {
    let client = world.gateway().await.client();
    let token = client.acquire("a").await;
    put(&client, &token, &[("content-type", "text/html")])
        .await
        .expect(201);
    let answer = client.read("a", "k").await.expect(200);
    assert_eq!(answer.header("content-type"), Some("text/html"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    let policy = answer.header("content-security-policy").unwrap();
    assert!(
        policy.contains("default-src 'none'") && policy.contains("sandbox"),
        "{policy}"
    );
}

async fn media_types_that_cannot_be_are_refused(world: World) {
    let client = world.gateway().await.client();
    let token = client.acquire("a").await;
    for value in [
        "t".repeat(256).into_bytes(),
        b"text/\xff".to_vec(),
        b"text/\xc3\xbc".to_vec(),
        b"a\tb".to_vec(),
        Vec::new(),
        b"garbage".to_vec(),
        b"text/".to_vec(),
        b"/plain".to_vec(),
        b"text/plain/x".to_vec(),
        b"text /plain".to_vec(),
        b"text/plain, text/html".to_vec(),
        b"text/plain; charset".to_vec(),
        b"text/plain; charset=".to_vec(),
        b"text/plain; charset=\"utf-8".to_vec(),
        b"text/plain; charset=\"utf-8\" x".to_vec(),
        b"text/plain charset=utf-8".to_vec(),
    ] {
        let request = client
            .request(Method::PUT, &record("a", "k"))
            .header("fencing-token", &token)
            .header("content-type", HeaderValue::from_bytes(&value).unwrap());
        Answer::to(request.body("v"))
            .await
            .problem(400, "header-malformed");
    }
    assert_eq!(client.value("a", "k").await, None);
}
