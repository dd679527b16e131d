//! An orderly end: what is under way is finished, what waits is told, and what is new goes elsewhere.

use std::time::{Duration, Instant};

use fencegate::gateway::Config;
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{Answer, World, client::record};
use crate::support::{eventually, eventually::PATIENCE};

on_every_store! {
    a_drain_finishes_what_is_under_way_and_ends_what_waits
    a_drain_is_announced
}

async fn a_drain_finishes_what_is_under_way_and_ends_what_waits(world: World) {
    let gateway = world.gateway().await;
    let client = gateway.client();
    let token = client.acquire("a").await;

    let waiter = client.clone();
    let waiting = tokio::spawn(async move { waiter.lease("a", json!({"ttl": "5m", "wait": "4m"})).await });
    // A write whose body is half there.
    let mut slow = TcpStream::connect(("127.0.0.1", gateway.port)).await.unwrap();
    let head = format!(
        "PUT {} HTTP/1.1\r\nHost: localhost\r\nFencing-Token: {token}\r\nContent-Length: 10\r\n\r\nfirst",
        record("a", "k")
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    // The same connection, so that the gateway has seen the head before it is told to stop.
    eventually(PATIENCE, async || {
        client.lease("a", json!({})).await.status == 409
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;

    let begun = Instant::now();
    gateway.stop.cancel();
    waiting.await.unwrap().problem(503, "draining");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let port = gateway.port;
    eventually(PATIENCE, async || {
        TcpStream::connect(("127.0.0.1", port)).await.is_err()
    })
    .await;
    assert!(!gateway.serving.is_finished());

    slow.write_all(b" last").await.unwrap();
    Answer::read(slow).await.expect(201);
    gateway.ended().await;

    // What was written is there, the lease goes on, and the waiter is no longer in the queue.
    let next = world.gateway().await.client();
    assert_eq!(next.value("a", "k").await.as_deref(), Some("first last"));
    next.renew("a", &token).await.expect(200);
    next.release("a", &token).await.expect(204);
    next.wait_for("a").await;
}

async fn a_drain_is_announced(world: World) {
    let mut config = Config::default();
    config.drain_notice = Duration::from_secs(60);
    let gateway = world.gateway_with(config).await;
    let client = gateway.client();
    let token = client.acquire("a").await;
    let ready = client.get("/readyz").await.expect(200).json();
    assert_eq!(
        (ready["status"].as_str(), ready["store"]["status"].as_str()),
        (Some("ready"), Some("ok"))
    );
    gateway.stop.cancel();
    eventually(PATIENCE, async || client.get("/readyz").await.status == 503).await;
    assert_eq!(client.get("/readyz").await.json()["status"], "draining");
    client.get("/livez").await.expect(200);
    // Everything but new leases goes on.
    client.lease("b", json!({})).await.problem(503, "draining");
    client.put("a", "k", &token, "v").await.expect(201);
    client.renew("a", &token).await.expect(200);
    client.release("a", &token).await.expect(204);
}

#[tokio::test]
async fn a_drain_has_a_deadline() {
    let world = World::sqlite().await;
    let mut config = Config::default();
    config.drain_timeout = Duration::from_millis(200);
    let gateway = world.gateway_with(config).await;
    let mut stuck = TcpStream::connect(("127.0.0.1", gateway.port)).await.unwrap();
    let head = "POST /v1/fences/a/lease HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n";
    stuck.write_all(head.as_bytes()).await.unwrap();
    gateway.client().get("/livez").await.expect(200);
    gateway.stop.cancel();
    gateway.ended().await;
}
