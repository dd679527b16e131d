//! Leases over HTTP: what is answered, what a lost answer costs, and what is too late.

use std::time::{Duration, Instant};

use fencegate::gateway::Config;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{
    Answer, World,
    client::{lease, number},
};
use crate::support::{eventually, eventually::PATIENCE};

on_every_store! {
    a_lease_is_answered_whole
    a_held_lock_is_refused_with_a_time_to_come_back
    a_lost_answer_can_be_asked_for_again
    a_lease_that_nobody_knows_of_ends_with_its_ttl
    a_renewal_keeps_the_lease
    a_late_renewal_is_refused_although_nobody_else_holds
    releasing_is_idempotent_and_spares_the_next_holder
    a_waiter_that_goes_away_leaves_no_trace
    requests_that_cannot_be_are_refused
    tokens_rise
    fences_are_strangers
    fences_are_listed
}

async fn a_lease_is_answered_whole(world: World) {
    let client = world.gateway().await.client();
    let asked = json!({"ttl": "1m 30s", "wait": "1s", "label": "worker-7"});
    let answer = client.lease("invoices:2026-11", asked).await.expect(201);
    let lease = answer.json();
    let token = answer.token();
    assert_eq!(answer.header("fencing-token"), Some(token.as_str()));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(lease["fence"], "invoices:2026-11");
    assert_eq!(lease["epoch"], 1);
    assert_eq!(
        number(&token),
        format!("1-{}", lease["sequence"].as_str().unwrap())
    );
    assert_eq!(lease["ttl"], "1m 30s");
    let left = lease["expires_in_ms"].as_u64().unwrap();
    assert!((60_000..=90_000).contains(&left), "{left}");
    let service = world
        .locks
        .as_deref()
        .unwrap_or(&world.store)
        .split(':')
        .next()
        .unwrap()
        .to_owned();
    assert_eq!(lease["lock_service"], service);
    assert_eq!(lease.as_object().unwrap().len(), 7);

    let renewed = client.renew("invoices:2026-11", &token).await.expect(200);
    assert_eq!(renewed.token(), token);
    assert_eq!(renewed.json()["ttl"], "1m 30s");
    assert_eq!(renewed.header("fencing-token"), Some(token.as_str()));

    let shown = client.get("/v1/fences/invoices:2026-11").await.expect(200).json();
    assert_eq!(shown["mark"], number(&token));
    assert_eq!(shown["sequence"], lease["sequence"]);
    assert_eq!(shown["holder"]["label"], "worker-7");
    assert_eq!(shown["holder"]["sequence"], lease["sequence"]);
    assert!(
        shown["holder"]["expires_in_ms"].as_u64().unwrap() > 60_000,
        "{shown}"
    );
    assert!(!shown.to_string().contains(token.rsplit_once('-').unwrap().1));

    // Nothing need be asked for.
    for (index, body) in ["", "{}", r#"{"ttl":null,"wait":null,"label":null,"holder":null}"#]
        .iter()
        .enumerate()
    {
        let path = super::client::lease(&format!("plain {index}"));
        let answer = Answer::to(client.request(Method::POST, &path).body(*body))
            .await
            .expect(201);
        assert_eq!(answer.json()["ttl"], "10s");
    }
}

async fn a_held_lock_is_refused_with_a_time_to_come_back(world: World) {
    let client = world.gateway().await.client();
    client.acquire("a").await;
    for wait in ["0s", "300ms"] {
        let begun = Instant::now();
        let answer = client.lease("a", json!({"wait": wait})).await;
        let pause: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=10).contains(&pause));
        assert_eq!(answer.problem(409, "lock-held")["fence"], "a");
        assert!(begun.elapsed() >= humantime::parse_duration(wait).unwrap());
    }
}

async fn a_lost_answer_can_be_asked_for_again(world: World) {
    let client = world.gateway().await.client();
    let asked = json!({"ttl": "1m", "holder": "9f86d081884c7d659a2feaa0c55ad015"});
    let token = client.lease("a", asked.clone()).await.expect(201).token();
    assert!(token.ends_with("-9f86d081884c7d659a2feaa0c55ad015"), "{token}");
    client.put("a", "k", &token, "v").await.expect(201);
    assert_eq!(client.lease("a", asked.clone()).await.expect(201).token(), token);
    client
        .lease("a", json!({"holder": "9f86d081884c7d659a2feaa0c55ad016"}))
        .await
        .problem(409, "lock-held");
    client.lease("a", json!({})).await.problem(409, "lock-held");
    client.put("a", "k", &token, "w").await.expect(200);

    // Once it is over, the same holder gets a new token like anybody else.
    client.release("a", &token).await.expect(204);
    let next = client.lease("a", asked).await.expect(201).token();
    assert_ne!(next, token);
    client
        .put("a", "k", &token, "late")
        .await
        .problem(412, "token-stale");
}

async fn a_lease_that_nobody_knows_of_ends_with_its_ttl(world: World) {
    let gateway = world.gateway().await;
    let client = gateway.client();
    let body = json!({"ttl": world.ttl}).to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", gateway.port)).await.unwrap();
    let request = format!(
        "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
        lease("a"),
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    eventually(PATIENCE, async || client.mark("a").await.is_some()).await;
    drop(stream);
    let token = client.wait_for("a").await;
    client.put("a", "k", &token, "v").await.expect(201);
}

async fn a_renewal_keeps_the_lease(world: World) {
    let client = world.gateway().await.client();
    let token = client.lease("a", json!({"ttl": "5s"})).await.expect(201).token();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(6) {
        let renewed = client.renew("a", &token).await.expect(200).json();
        assert!(renewed["expires_in_ms"].as_u64().unwrap() > 1_000, "{renewed}");
        client
            .lease("a", json!({"wait": "300ms"}))
            .await
            .problem(409, "lock-held");
    }
    client.put("a", "k", &token, "v").await.expect(201);
    let body = client
        .request(Method::PUT, &lease("a"))
        .header("fencing-token", &token)
        .body(r#"{"ttl":"1h"}"#);
    Answer::to(body).await.problem(400, "body-malformed");
}

async fn a_late_renewal_is_refused_although_nobody_else_holds(world: World) {
    let client = world.gateway().await.client();
    let token = client
        .lease("a", json!({"ttl": world.ttl}))
        .await
        .expect(201)
        .token();
    eventually(PATIENCE, async || {
        client.get("/v1/fences/a").await.json()["holder"].is_null()
    })
    .await;
    let problem = client.renew("a", &token).await.problem(412, "lease-lost");
    assert_eq!(problem["fence"], "a");
    let next = client.acquire("a").await;
    assert_ne!(number(&next), number(&token));
    client.renew("a", &token).await.problem(412, "lease-lost");
    client.renew("a", &next).await.expect(200);
}

async fn releasing_is_idempotent_and_spares_the_next_holder(world: World) {
    let client = world.gateway().await.client();
    let first = client
        .lease("a", json!({"ttl": world.ttl}))
        .await
        .expect(201)
        .token();
    let second = client.wait_for("a").await;
    for _ in 0..2 {
        client.release("a", &first).await.expect(204);
        client.renew("a", &second).await.expect(200);
        client.put("a", "k", &second, "v").await;
        client.lease("a", json!({})).await.problem(409, "lock-held");
    }
    for _ in 0..2 {
        client.release("a", &second).await.expect(204);
    }
    let third = client.acquire("a").await;
    client.release("a", &second).await.expect(204);
    client.put("a", "k", &third, "v").await.expect(200);
    // Nor does the fence have to exist.
    client.release("nowhere", &third).await.expect(204);
}

async fn a_waiter_that_goes_away_leaves_no_trace(world: World) {
    let mut config = Config::default();
    config.max_waiting = 3;
    let gateway = world.gateway_with(config).await;
    let client = gateway.client();
    let token = client.acquire("a").await;
    let body = json!({"ttl": "5m", "wait": "1m"}).to_string();
    let request = format!(
        "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
        lease("a"),
        body.len()
    );
    let mut waiters = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(("127.0.0.1", gateway.port)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        waiters.push(stream);
    }
    // They are waiting once there is no place for a fourth, and gone once there is one again.
    let asked = json!({"wait": "1ms"});
    eventually(PATIENCE, async || {
        client.lease("a", asked.clone()).await.status == 503
    })
    .await;
    drop(waiters);
    eventually(PATIENCE, async || {
        client.lease("a", asked.clone()).await.status == 409
    })
    .await;
    client.release("a", &token).await.expect(204);
    // A waiter that still stood there would hold the lock for five minutes.
    client.wait_for("a").await;
}

async fn requests_that_cannot_be_are_refused(world: World) {
    let client = world.gateway().await.client();
    for body in [
        r#"{"ttl":"10s","colour":"red"}"#,
        r#"{"ttl":10}"#,
        r#"{"ttl":"10"}"#,
        r#"{"ttl":"-1s"}"#,
        r#"{"ttl":"0s"}"#,
        r#"{"ttl":"25h"}"#,
        r#"{"ttl":"9999999999999999999s"}"#,
        r#"{"wait":"2h"}"#,
        r#"{"wait":"soon"}"#,
        r#"{"holder":"short"}"#,
        r#"{"holder":"9F86D081884C7D659A2FEAA0C55AD015"}"#,
        r#"{"holder":7}"#,
        r#"{"label":"a\nb"}"#,
        &json!({"label": "x".repeat(201)}).to_string(),
        r#"{"ttl":"10s","ttl":"20s"}"#,
        r#"{"ttl":"10s"} more"#,
        r#"{"ttl":"10s""#,
        "[]",
        r#"["10s","1s",null,null]"#,
        "null",
        "\"10s\"",
        "ttl=10s",
        &"[".repeat(10_000),
        "\u{0}",
    ] {
        let request = client.request(Method::POST, &lease("a")).body(body.to_owned());
        let answer = Answer::to(request).await;
        assert_eq!(answer.status, 400, "{body:.80}: {answer:?}");
        answer.problem(400, "body-malformed");
    }
    let request = client.request(Method::POST, &lease("a")).body("[]");
    let problem = Answer::to(request).await.problem(400, "body-malformed");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("expected a JSON object"), "{detail}");
    let request = client.request(Method::POST, &lease("a")).body("ttl=10s");
    let problem = Answer::to(request).await.problem(400, "body-malformed");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.starts_with("it is no JSON object"), "{detail}");
    let long = json!({"label": "x".repeat(20_000)});
    client.lease("a", long).await.problem(413, "body-too-large");
    assert_eq!(client.mark("a").await, None);
    client.acquire("a").await;
}

async fn tokens_rise(world: World) {
    let client = world.gateway().await.client();
    let mut last = 0;
    for _ in 0..5 {
        let token = client.acquire("a").await;
        let sequence: i64 = token.split('-').nth(1).unwrap().parse().unwrap();
        assert!(sequence > last, "{sequence} after {last}");
        last = sequence;
        client.release("a", &token).await.expect(204);
    }
}

async fn fences_are_strangers(world: World) {
    let client = world.gateway().await.client();
    client.acquire("a:b").await;
    for name in ["a", "a:", "a:b:c", "A:B"] {
        client.acquire(name).await;
    }
    client.lease("a:b", json!({})).await.problem(409, "lock-held");
}

async fn fences_are_listed(world: World) {
    let client = world.gateway().await.client();
    let mut names = vec!["a", "a:1", "a:2", "a%", "a_", "ab", "b", "ü", "Z", "a 1"];
    for name in &names {
        client.acquire(name).await;
    }
    names.sort_unstable();
    let page = |query: String| {
        let client = client.clone();
        async move { client.get(&format!("/v1/fences{query}")).await.expect(200).json() }
    };
    let listed = |page: &Value| -> Vec<String> {
        let fences = page["fences"].as_array().unwrap().iter();
        fences
            .map(|fence| fence["fence"].as_str().unwrap().to_owned())
            .collect()
    };
    let all = page(String::new()).await;
    assert_eq!(listed(&all), names);
    assert!(all["next"].is_null());
    assert_eq!(all["fences"][0]["epoch"], 1);

    let (mut found, mut query) = (Vec::new(), "?limit=3".to_owned());
    loop {
        let page = page(query).await;
        assert!(listed(&page).len() <= 3);
        found.extend(listed(&page));
        let Some(next) = page["next"].as_str() else { break };
        query = format!("?limit=3&after={}", super::client::encode(next));
    }
    assert_eq!(found, names);

    for (prefix, expected) in [
        ("a:", vec!["a:1", "a:2"]),
        ("a%25", vec!["a%"]),
        ("a_", vec!["a_"]),
        ("x", vec![]),
    ] {
        assert_eq!(
            listed(&page(format!("?prefix={prefix}")).await),
            expected,
            "{prefix}"
        );
    }
    for query in [
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=x",
        "colour=red",
        "prefix=%00",
        "after=%0a",
    ] {
        client
            .get(&format!("/v1/fences?{query}"))
            .await
            .problem(400, "query-malformed");
    }
    client.get("/v1/fences?limit=1000").await.expect(200);
    client
        .get("/v1/fences/nobody")
        .await
        .problem(404, "fence-not-found");
}
