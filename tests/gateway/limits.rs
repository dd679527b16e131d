//! Limits: what is too large, too much, or too slow.

use std::time::Duration;

use fencegate::gateway::Config;
use reqwest::Method;
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{
    Answer, World,
    client::{lease, record},
};
use crate::support::{eventually, eventually::PATIENCE};

on_every_store! {
    the_largest_value_fits_and_one_byte_more_does_not
    a_body_that_is_cut_short_is_not_written
    waiting_lease_requests_are_limited
}

async fn the_largest_value_fits_and_one_byte_more_does_not(world: World) {
    let client = world.gateway().await.client();
    let token = client.acquire("a").await;
    let limit = 1024 * 1024;
    let put = |body: reqwest::Body| {
        let request = client
            .request(Method::PUT, &record("a", "k"))
            .header("fencing-token", &token);
        Answer::to(request.body(body))
    };
    put(vec![7; limit].into()).await.expect(201);
    assert_eq!(client.read("a", "k").await.body, vec![7; limit]);
    for size in [limit + 1, 3 * limit] {
        put(vec![8; size].into()).await.problem(413, "body-too-large");
    }
    assert_eq!(client.read("a", "k").await.body, vec![7; limit]);

    // Not announced, but sent piece by piece.
    let head = format!(
        "PUT {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nFencing-Token: {token}\r\nTransfer-Encoding: \
         chunked\r\n\r\n",
        record("a", "k")
    );
    let chunk = [b"100000\r\n".as_slice(), &vec![9; limit], b"\r\n"].concat();
    let one = [head.as_bytes(), &chunk, b"0\r\n\r\n"].concat();
    client.raw(&one).await.expect(200);
    let two = [head.as_bytes(), &chunk, b"1\r\n!\r\n0\r\n\r\n"].concat();
    client.raw(&two).await.problem(413, "body-too-large");
    assert_eq!(client.read("a", "k").await.body, vec![9; limit]);

    // Announced, and never sent.
    let announced = format!(
        "PUT {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nFencing-Token: {token}\r\nContent-Length: \
         1000000000\r\n\r\n",
        record("a", "k")
    );
    client.raw(announced).await.problem(413, "body-too-large");
}

async fn a_body_that_is_cut_short_is_not_written(world: World) {
    let gateway = world.gateway().await;
    let client = gateway.client();
    let token = client.acquire("a").await;
    let path = record("a", "k");
    let head = format!("PUT {path} HTTP/1.1\r\nHost: localhost\r\nFencing-Token: {token}\r\n");
    for body in [
        "Content-Length: 10\r\n\r\nhalf",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", gateway.port)).await.unwrap();
        stream
            .write_all(format!("{head}{body}").as_bytes())
            .await
            .unwrap();
        stream.shutdown().await.unwrap();
        // The gateway has noticed once it closes the connection, with or without an answer.
        let mut rest = Vec::new();
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest).await;
        assert!(!String::from_utf8_lossy(&rest).starts_with("HTTP/1.1 2"));
        assert_eq!(client.value("a", "k").await, None);
    }
}

async fn waiting_lease_requests_are_limited(world: World) {
    let mut config = Config::default();
    config.max_waiting = 2;
    let gateway = world.gateway_with(config).await;
    let client = gateway.client();
    let token = client.acquire("a").await;
    let waiters: Vec<_> = (0..2)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                let answer = client.lease("a", json!({"ttl": "5m", "wait": "1m"})).await;
                client.release("a", &answer.expect(201).token()).await.expect(204);
            })
        })
        .collect();
    let other = client.acquire("b").await;
    eventually(PATIENCE, async || {
        // Free for the taking, but there is no place to wait in.
        let answer = client.lease("b", json!({"wait": "1ms"})).await;
        answer.status == 503 && answer.problem(503, "too-many-waiting")["fence"] == "b"
    })
    .await;
    // Who does not wait needs no place.
    client.acquire("c").await;
    client.lease("b", json!({})).await.problem(409, "lock-held");
    client.release("b", &other).await.expect(204);

    client.release("a", &token).await.expect(204);
    for waiter in waiters {
        tokio::time::timeout(PATIENCE, waiter).await.unwrap().unwrap();
    }
    client.wait_for("b").await;
}

#[tokio::test]
async fn heads_and_bodies_that_dawdle_are_cut_off() {
    let world = World::sqlite().await;
    let mut config = Config::default();
    config.first_head_timeout = Duration::from_millis(200);
    config.body_timeout = Duration::from_millis(200);
    let gateway = world.gateway_with(config).await;
    let client = gateway.client();
    let token = client.acquire("a").await;

    let mut stream = TcpStream::connect(("127.0.0.1", gateway.port)).await.unwrap();
    stream
        .write_all(b"GET /livez HTTP/1.1\r\nHost: loc")
        .await
        .unwrap();
    let mut rest = Vec::new();
    let closed = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest);
    tokio::time::timeout(PATIENCE, closed)
        .await
        .expect("it is closed")
        .unwrap();
    assert!(!String::from_utf8_lossy(&rest).contains(" 200 "));

    let slow = format!(
        "PUT {} HTTP/1.1\r\nHost: localhost\r\nFencing-Token: {token}\r\nContent-Length: 10\r\n\r\nhalf",
        record("a", "k")
    );
    client.raw(slow).await.problem(408, "body-timeout");
    assert_eq!(client.value("a", "k").await, None);
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    let world = World::sqlite().await;
    let client = world.gateway().await.client();
    let long = "x".repeat(100_000);
    let many = "X-Header: x\r\n".repeat(10_000);
    for head in [format!("X-Long: {long}\r\n"), many] {
        let request = format!("GET {} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n", lease("a"));
        client.raw(request).await.expect(431);
    }
    client.get("/livez").await.expect(200);
}
