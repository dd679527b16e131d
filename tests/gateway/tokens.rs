//! Tokens that are missing, unreadable, made up, or somebody else's.

use super::{
    Answer, World,
    client::{encode, lease, number, record},
};
use reqwest::{Method, header::HeaderValue};

on_every_store! {
    a_write_without_a_token_is_refused
    unreadable_tokens_are_refused
    a_made_up_higher_token_is_refused_and_moves_nothing
    a_token_of_another_fence_is_refused
    a_token_with_another_holder_is_refused
    a_bare_sequence_is_refused
    the_token_may_come_under_its_alias
}

const HOLDER: &str = "9f86d081884c7d659a2feaa0c55ad015";

async fn a_write_without_a_token_is_refused(world: World) {
    let client = world.gateway().await.client();
    let token = client.acquire("a").await;
    let check = format!("/v1/fences/{}/check", encode("a"));
    for (method, path) in [
        (Method::PUT, record("a", "k")),
        (Method::DELETE, record("a", "k")),
        (Method::PUT, lease("a")),
        (Method::DELETE, lease("a")),
        (Method::POST, check),
    ] {
        let problem = Answer::to(client.request(method, &path).body(""))
            .await
            .problem(428, "token-required");
        assert_eq!(problem["fence"], "a");
    }
    assert_eq!(client.value("a", "k").await, None);
    client.put("a", "k", &token, "v").await.expect(201);
}

async fn unreadable_tokens_are_refused(world: World) {
    let client = world.gateway().await.client();
    let token = client.acquire("a").await;
    let long = "1".repeat(10_000);
    let mut texts: Vec<Vec<u8>> = [
        "0",
        "-1",
        "01",
        "1 2",
        "1e3",
        "+1",
        "9223372036854775808",
        "",
        &long,
        "1.0",
        "0x10",
        "1-2",
        "1-2-3",
        "null",
        "1-1-9F86D081884C7D659A2FEAA0C55AD015",
        "１",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    for part in [
        "0",
        "-1",
        "01",
        " 1",
        "1 ",
        "1e3",
        "9223372036854775808",
        "",
        "\u{661}",
    ] {
        texts.push(format!("1-{part}-{HOLDER}").into_bytes());
        if part != " 1" {
            texts.push(format!("{part}-1-{HOLDER}").into_bytes());
        }
    }
    texts.push([b"1-1-".as_slice(), &[0xff; 32]].concat());
    texts.push(format!("{token}{long}").into_bytes());
    // Spaces around it would be no part of the header's value.
    texts.push(token.replacen('-', "\t-", 1).into_bytes());

    for text in texts {
        let shown = String::from_utf8_lossy(&text).into_owned();
        for (method, path) in [(Method::PUT, record("a", "k")), (Method::DELETE, lease("a"))] {
            let value = HeaderValue::from_bytes(&text).unwrap();
            let request = client.request(method, &path).header("fencing-token", value);
            let answer = Answer::to(request.body("v")).await;
            let type_ = answer.json()["type"].clone();
            assert_eq!(type_, "urn:fencegate:problem:token-malformed", "{shown:.100}");
            answer.problem(400, "token-malformed");
        }
    }
    assert_eq!(client.value("a", "k").await, None);
    client.put("a", "k", &token, "v").await.expect(201);
}

async fn a_made_up_higher_token_is_refused_and_moves_nothing(world: World) {
    let client = world.gateway().await.client();
    let token = client.acquire("a").await;
    let mark = client.mark("a").await.unwrap();
    assert_eq!(mark, number(&token));
    let own = token.rsplit_once('-').unwrap().1;
    for made_up in [
        format!("1-{}-{HOLDER}", i64::MAX),
        format!("1-{}-{own}", i64::MAX),
        format!("2-1-{own}"),
        format!("{0}-{0}-{HOLDER}", i64::MAX),
    ] {
        let problem = client
            .put("a", "k", &made_up, "forged")
            .await
            .problem(412, "token-unsealed");
        assert_eq!(problem["mark"], mark);
        assert_eq!(problem["presented"], number(&made_up));
        client.check("a", &made_up).await.problem(412, "token-unsealed");
        client
            .delete("a", "k", &made_up)
            .await
            .problem(412, "token-unsealed");
        client.release("a", &made_up).await.expect(204);
        assert_eq!(client.mark("a").await.unwrap(), mark);
    }
    // Nothing is bricked: neither this holder nor the next.
    client.put("a", "k", &token, "v").await.expect(201);
    client.release("a", &token).await.expect(204);
    let next = client.acquire("a").await;
    client.put("a", "k", &next, "w").await.expect(200);

    // Nor is a fence that was never sealed.
    let forged = format!("1-{}-{HOLDER}", i64::MAX);
    client
        .put("new", "k", &forged, "forged")
        .await
        .problem(412, "token-unsealed");
    assert_eq!(client.mark("new").await, None);
    let token = client.acquire("new").await;
    client.put("new", "k", &token, "v").await.expect(201);
}

async fn a_token_of_another_fence_is_refused(world: World) {
    let client = world.gateway().await.client();
    let (one, other) = (client.acquire("one").await, client.acquire("other").await);
    for (fence, token) in [("one", &other), ("other", &one)] {
        let answer = client.put(fence, "k", token, "swapped").await.expect(412);
        assert!(answer.json()["presented"] == number(token), "{answer:?}");
        assert_eq!(client.value(fence, "k").await, None);
        client.renew(fence, token).await.problem(412, "lease-lost");
        client.release(fence, token).await.expect(204);
    }
    client.put("one", "k", &one, "v").await.expect(201);
    client.put("other", "k", &other, "v").await.expect(201);
}

async fn a_token_with_another_holder_is_refused(world: World) {
    let client = world.gateway().await.client();
    let token = client.acquire("a").await;
    let forged = format!("{}-{HOLDER}", number(&token));
    let answer = client.put("a", "k", &forged, "forged").await;
    let shown = String::from_utf8(answer.body.clone()).unwrap();
    let problem = answer.problem(412, "holder-mismatch");
    assert_eq!(problem["mark"], number(&token));
    assert_eq!(problem["retryable"], false);
    assert!(!shown.contains(HOLDER) && !shown.contains(token.rsplit_once('-').unwrap().1));
    client.renew("a", &forged).await.problem(412, "lease-lost");
    client.release("a", &forged).await.expect(204);
    client.put("a", "k", &token, "v").await.expect(201);
    client.renew("a", &token).await.expect(200);
}

async fn a_bare_sequence_is_refused(world: World) {
    let client = world.gateway().await.client();
    let token = client.acquire("a").await;
    let sequence = token.split('-').nth(1).unwrap();
    let highest = i64::MAX.to_string();
    for (bare, problem) in [(sequence, "holder-mismatch"), (&highest, "token-unsealed")] {
        let answer = client.put("a", "k", bare, "foreign").await;
        answer.problem(412, problem);
        let problem = client.release("a", bare).await.problem(412, "token-unsealed");
        assert_eq!(problem["presented"], bare);
    }
    client.put("a", "k", &token, "v").await.expect(201);
}

async fn the_token_may_come_under_its_alias(world: World) {
    let client = world.gateway().await.client();
    let token = client.acquire("a").await;
    let other = format!("{}-{HOLDER}", number(&token));
    let put = |headers: &[(&'static str, &str)]| {
        let request = client.request(Method::PUT, &record("a", "k")).body("v");
        let request = headers
            .iter()
            .fold(request, |request, (name, value)| request.header(*name, *value));
        Answer::to(request)
    };
    put(&[("x-fencing-token", &token)]).await.expect(201);
    put(&[("fencing-token", &token), ("x-fencing-token", &token)])
        .await
        .expect(200);
    for headers in [
        [("fencing-token", token.as_str()), ("x-fencing-token", &other)],
        [("fencing-token", &other), ("x-fencing-token", &token)],
        [("fencing-token", &token), ("fencing-token", &other)],
        [("fencing-token", &token), ("x-fencing-token", "")],
    ] {
        put(&headers).await.problem(400, "token-malformed");
    }
}
