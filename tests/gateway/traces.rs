//! Traces reach a collector: one of the tests' own, which keeps what it is sent.

use std::sync::{Arc, Mutex};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use serde_json::json;

use super::{World, program::Program};
use crate::support::{eventually, eventually::PATIENCE};

type Sent = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

async fn collector() -> (String, Sent) {
    async fn keep(State(sent): State<Sent>, headers: HeaderMap, body: Bytes) {
        sent.lock().unwrap().push((headers, body));
    }
    let sent = Sent::default();
    let routes = Router::new()
        .route("/v1/traces", post(keep))
        .with_state(sent.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (url, sent)
}

/// Whether the bytes, protobuf, have these in them.
fn has(sent: &Sent, what: &[u8]) -> bool {
    let sent = sent.lock().unwrap();
    sent.iter()
        .any(|(_, body)| body.windows(what.len()).any(|part| part == what))
}

#[tokio::test]
async fn a_request_is_a_span_of_its_clients_trace() {
    let world = World::postgres().await;
    let program = Program::new();
    let (url, sent) = collector().await;
    let mut command = program.command(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--migrate",
        "--store",
        &world.store,
    ]);
    command
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &url)
        .env("OTEL_BSP_SCHEDULE_DELAY", "100");
    let (mut process, client) = program.serve(command).await;
    let holder = "9f86d081884c7d659a2feaa0c55ad015";
    let token = client
        .lease("f", json!({"holder": holder}))
        .await
        .expect(201)
        .token();
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    client
        .request(reqwest::Method::PUT, "/v1/fences/f/records/the-key")
        .header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"))
        .header("fencing-token", &token)
        .body("body-in-confidence")
        .send()
        .await
        .unwrap();
    let trace: Vec<u8> = (0..16)
        .map(|i| u8::from_str_radix(&TRACE[2 * i..2 * i + 2], 16).unwrap())
        .collect();
    eventually(PATIENCE, async || {
        has(&sent, b"PUT /v1/fences/{fence}/records/{*key}")
    })
    .await;
    assert!(has(&sent, &trace), "the client's trace was not gone on with");
    // The rest is sent at the end at the latest.
    process.terminate().await;
    for name in [
        "fencegate",
        "POST /v1/fences/{fence}/lease",
        "grant",
        "acquire",
        "seal",
        "batch",
    ] {
        assert!(has(&sent, name.as_bytes()), "nothing of {name}");
    }
    for secret in [holder, &token, "body-in-confidence", "the-key", &world.store] {
        assert!(!has(&sent, secret.as_bytes()), "{secret} was sent");
    }
}
