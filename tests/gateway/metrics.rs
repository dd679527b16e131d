//! `/metrics`: what is counted, for each gateway by itself, and never under a name that a client chose.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::json;

use super::{Answer, Client, World, client::record};
use crate::support::{eventually, eventually::PATIENCE};

on_every_store! {
    what_happens_is_counted
}

/// The samples, by name and labels.
async fn scrape(client: &Client) -> BTreeMap<String, f64> {
    let answer = client.get("/metrics").await.expect(200);
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let text = String::from_utf8(answer.body).unwrap();
    let samples = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

#[track_caller]
fn expect(samples: &BTreeMap<String, f64>, expected: &[(&str, f64)]) {
    for (name, value) in expected {
        assert_eq!(
            samples.get(&format!("fencegate_{name}")),
            Some(value),
            "{name} in {samples:#?}"
        );
    }
}

async fn what_happens_is_counted(world: World) {
    let (gateway, other) = (world.gateway().await, world.gateway().await);
    let client = gateway.client();
    let stale = client
        .lease("f", json!({"ttl": world.ttl}))
        .await
        .expect(201)
        .token();
    let token = client.wait_for("f").await;
    client.lease("f", json!({})).await.problem(409, "lock-held");
    client.renew("f", &token).await.expect(200);
    client.renew("f", &stale).await.problem(412, "lease-lost");
    client.put("f", "k", &token, "{}").await.expect(201);
    for _ in 0..2 {
        let request = client.request(Method::PUT, &record("f", "once"));
        let request = request
            .header("fencing-token", &token)
            .header("idempotency-key", "key");
        Answer::to(request.body("v")).await.expect(201);
    }
    let patch = |token: &str| {
        let request = client.request(Method::PATCH, &record("f", "k"));
        let request = request.header("content-type", "application/merge-patch+json");
        request.header("fencing-token", token).body("{}")
    };
    Answer::to(patch(&token).header("if-match", "\"1234567\""))
        .await
        .problem(412, "version-mismatch");
    Answer::to(patch(&stale)).await.problem(412, "token-stale");
    client.check("f", &stale).await.problem(412, "token-stale");

    let samples = scrape(&client).await;
    expect(
        &samples,
        &[
            ("grants_total{outcome=\"granted\"}", 2.0),
            ("grants_total{outcome=\"held\"}", 1.0),
            ("renewals_total", 1.0),
            ("lease_losses_total", 1.0),
            ("leases", 1.0),
            ("lease_wait_seconds_count", 2.0),
            ("writes_total{kind=\"put\",outcome=\"written\"}", 2.0),
            ("writes_total{kind=\"put\",outcome=\"replayed\"}", 1.0),
            ("writes_total{kind=\"patch\",outcome=\"condition\"}", 1.0),
            ("writes_total{kind=\"patch\",outcome=\"refused\"}", 1.0),
            ("refusals_total{reason=\"stale\"}", 2.0),
            ("problems_total{type=\"token-stale\"}", 2.0),
            ("problems_total{type=\"lock-held\"}", 1.0),
            (
                "http_requests_total{route=\"/v1/fences/{fence}/check\",method=\"POST\",status=\"412\"}",
                1.0,
            ),
            (
                "http_request_seconds_count{route=\"/v1/fences/{fence}/records/{*key}\"}",
                5.0,
            ),
            ("draining", 0.0),
        ],
    );
    let connections =
        ["busy", "idle"].map(|state| samples[&format!("fencegate_store_connections{{state=\"{state}\"}}")]);
    assert!(connections[0] + connections[1] >= 1.0, "{samples:#?}");
    if world.store.starts_with("postgres") {
        expect(
            &samples,
            &[("batch_writes_count", 1.0), ("batch_commit_seconds_count", 1.0)],
        );
    }

    client.release("f", &token).await.expect(204);
    client.release("f", &token).await.expect(204);
    expect(
        &scrape(&client).await,
        &[
            ("releases_total{by=\"holder\"}", 1.0),
            ("lease_hold_seconds_count", 1.0),
            ("leases", 0.0),
        ],
    );
    // Another gateway in this process has had no part in it.
    expect(
        &scrape(&other.client()).await,
        &[
            ("grants_total{outcome=\"granted\"}", 0.0),
            ("writes_total{kind=\"put\",outcome=\"written\"}", 0.0),
        ],
    );
}

#[tokio::test]
async fn clients_cannot_make_series() {
    let world = World::sqlite().await;
    let gateway = world.gateway().await;
    let client = gateway.client();
    let noise = async |n: usize| {
        let fence = format!("fence-{n}");
        let token = client.acquire(&fence).await;
        client.put(&fence, &fence, &token, "v").await.expect(201);
        client.get(&format!("/{fence}")).await.expect(404);
        let method = Method::from_bytes(format!("METHOD{n}").as_bytes()).unwrap();
        Answer::to(client.request(method, "/v1/fences")).await.expect(405);
        client.release(&fence, &token).await.expect(204);
        scrape(&client).await
    };
    noise(0).await;
    let before: BTreeSet<_> = noise(1).await.into_keys().collect();
    for n in 2..12 {
        let after: BTreeSet<_> = noise(n).await.into_keys().collect();
        assert_eq!(after, before);
    }
    assert!(
        !before
            .iter()
            .any(|name| name.contains("fence-") || name.contains("METHOD")),
        "{before:#?}"
    );
}

#[tokio::test]
async fn all_that_is_scraped_is_described_and_all_that_is_described_is_scraped() {
    let world = World::postgres().await;
    let gateway = world.gateway().await;
    let client = gateway.client();
    client.get("/nowhere").await.expect(404);
    let described: BTreeSet<_> = include_str!("../../docs/metrics.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .filter(|(name, _)| name.starts_with("fencegate_"))
        .map(|(name, _)| name.to_owned())
        .collect();
    let mut scraped = BTreeSet::new();
    eventually(PATIENCE, async || {
        scraped = scrape(&client)
            .await
            .into_keys()
            .map(|name| {
                let name = name.split('{').next().unwrap();
                let plain = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|end| name.strip_suffix(end));
                plain.unwrap_or(name).to_owned()
            })
            .collect();
        scraped == described
    })
    .await;
}

#[tokio::test]
async fn those_who_wait_and_those_who_listen_are_counted() {
    let world = World::sqlite().await;
    let gateway = world.gateway().await;
    let client = gateway.client();
    let token = client.acquire("f").await;
    let waiter = client.clone();
    let waiting = tokio::spawn(async move { waiter.wait_for("f").await });
    let listening = client.request(Method::GET, "/v1/events").send().await.unwrap();
    let sees = async |waiting: f64, listening: f64| {
        eventually(PATIENCE, async || {
            let samples = scrape(&client).await;
            samples["fencegate_lease_requests_waiting"] == waiting
                && samples["fencegate_event_listeners"] == listening
        })
        .await;
    };
    sees(1.0, 1.0).await;
    drop(listening);
    client.release("f", &token).await.expect(204);
    waiting.await.unwrap();
    sees(0.0, 0.0).await;
}
