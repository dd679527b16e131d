//! `GET /v1/events`: what happens as it happens, and what a listener is told of what it has missed.

use fencegate::gateway::Config;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
};

use super::{
    Answer, Client, World,
    client::{lease, number},
};
use crate::support::{eventually, eventually::PATIENCE};

on_every_store! {
    all_that_happens_is_told
}

/// One client that listens.
struct Listener {
    answer: reqwest::Response,
    text: String,
    /// As a browser keeps it.
    last_id: Option<String>,
}

#[derive(Debug, PartialEq)]
struct Event {
    what: String,
    data: Value,
}

impl Event {
    /// Finds that it is of this fence, and shows no more of the token than everybody may see.
    #[track_caller]
    fn of(&self, what: &str, fence: &str, token: &str) -> &Self {
        assert_eq!(self.what, what, "{self:?}");
        assert_eq!(self.data["fence"], fence, "{self:?}");
        assert_eq!(self.data["token"], number(token), "{self:?}");
        assert_eq!(self.data["client"], "anonymous", "{self:?}");
        assert!(self.data["at"].as_str().unwrap().ends_with('Z'), "{self:?}");
        assert!(!self.data.to_string().contains(token), "{self:?}");
        self
    }
}

impl Listener {
    async fn on(client: &Client, query: &str) -> Self {
        Self::after(client, query, None).await
    }

    async fn after(client: &Client, query: &str, last_id: Option<&str>) -> Self {
        let mut request = client.request(Method::GET, &format!("/v1/events{query}"));
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        Self {
            answer,
            text: String::new(),
            last_id: None,
        }
    }

    /// The next event; `None` when there will be no more.
    async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
                self.last_id = field("id: ").map(str::to_owned).or(self.last_id.take());
                if let Some(data) = field("data: ") {
                    return Some(Event {
                        what: field("event: ").unwrap().to_owned(),
                        data: serde_json::from_str(data).unwrap(),
                    });
                }
            }
            let chunk = tokio::time::timeout(PATIENCE, self.answer.chunk()).await;
            let chunk = chunk.expect("something is told").unwrap()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    async fn expect(&mut self) -> Event {
        self.next().await.expect("there is more")
    }

    /// Where it is, as soon as it has been told.
    async fn place(&mut self) -> String {
        while self.last_id.is_none() {
            let chunk = self.answer.chunk().await.unwrap().unwrap();
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
            let id = self.text.lines().find_map(|line| line.strip_prefix("id: "));
            self.last_id = id.map(str::to_owned);
        }
        self.last_id.clone().unwrap()
    }
}

/// Writes so many records at once.
async fn write_many(client: &Client, fence: &str, token: &str, operations: usize, key: &str) {
    let operations: Vec<_> = (0..operations)
        .map(|i| json!({"op": "put", "fence": fence, "key": format!("{i}-{key}"), "value": i}))
        .collect();
    let body = json!({"tokens": {fence: token}, "operations": operations});
    let request = client.request(Method::POST, "/v1/transactions");
    Answer::to(request.body(body.to_string())).await.expect(200);
}

async fn all_that_happens_is_told(world: World) {
    let mut config = Config::default();
    config.allow_force_release = true;
    let gateway = world.gateway_with(config).await;
    let client = gateway.client();
    let mut listener = Listener::on(&client, "?prefix=f").await;

    client.acquire("other").await;
    let asked = json!({"ttl": world.ttl, "label": "worker-7"});
    let stale = client.lease("f", asked).await.expect(201).token();
    let event = listener.expect().await;
    let told = &event.of("granted", "f", &stale).data;
    assert_eq!(told["label"], "worker-7");
    assert!(told["ttl_ms"].as_u64().is_some_and(|ttl| ttl >= 2000), "{told}");
    assert!(told["waited_ms"].is_u64(), "{told}");

    let token = client.wait_for("f").await;
    listener.expect().await.of("granted", "f", &token);
    client.put("f", "k/1", &token, "v").await.expect(201);
    let event = listener.expect().await;
    let told = &event.of("written", "f", &token).data;
    assert_eq!((&told["key"], &told["change"]), (&json!("k/1"), &json!("put")));
    assert!(told["version"].is_string(), "{told}");
    client.delete("f", "k/1", &token).await.expect(204);
    let event = listener.expect().await;
    let told = &event.of("written", "f", &token).data;
    assert_eq!(
        (&told["change"], &told["version"]),
        (&json!("delete"), &Value::Null)
    );
    write_many(&client, "f", &token, 2, "k").await;
    for key in ["0-k", "1-k"] {
        assert_eq!(
            listener.expect().await.of("written", "f", &token).data["key"],
            key
        );
    }

    client
        .put("f", "k", &stale, "late")
        .await
        .problem(412, "token-stale");
    let event = listener.expect().await;
    let told = &event.of("refused", "f", &stale).data;
    assert_eq!(told["reason"], "stale");
    assert_eq!(told["mark"], number(&token));
    client.renew("f", &stale).await.problem(412, "lease-lost");
    listener.expect().await.of("lost", "f", &stale);

    client.release("f", &token).await.expect(204);
    listener.expect().await.of("released", "f", &token);
    // It was released already, so nothing happens.
    client.release("f", &token).await.expect(204);
    let token = client.acquire("f").await;
    listener.expect().await.of("granted", "f", &token);
    let path = format!("{}?force=true", lease("f"));
    Answer::to(client.request(Method::DELETE, &path))
        .await
        .expect(204);
    let event = listener.expect().await;
    assert_eq!(
        (event.what.as_str(), &event.data["fence"]),
        ("force-released", &json!("f"))
    );

    gateway.stop.cancel();
    assert_eq!(listener.expect().await.what, "draining");
    assert_eq!(listener.next().await, None);
    gateway.ended().await;
}

#[tokio::test]
async fn a_listener_goes_on_where_it_was() {
    let world = World::sqlite().await;
    let gateway = world.gateway().await;
    let client = gateway.client();
    let mut listener = Listener::on(&client, "").await;
    let place = listener.place().await;
    let token = client.acquire("f").await;
    client.put("f", "1", &token, "v").await.expect(201);
    listener.expect().await.of("granted", "f", &token);
    listener.expect().await.of("written", "f", &token);
    let later = listener.last_id.clone().unwrap();
    drop(listener);
    client.put("f", "2", &token, "v").await.expect(201);
    client.release("f", &token).await.expect(204);

    // From where it was, and from before.
    for (place, seen) in [(&later, 2), (&place, 0)] {
        let mut again = Listener::after(&client, "", Some(place)).await;
        let all = ["granted", "written", "written", "released"];
        for what in &all[seen..] {
            again.expect().await.of(what, "f", &token);
        }
        client
            .put("f", "3", &token, "v")
            .await
            .problem(412, "holder-mismatch");
        again.expect().await.of("refused", "f", &token);
    }
    let mut filtered = Listener::after(&client, "?kinds=released,granted", Some(&place)).await;
    filtered.expect().await.of("granted", "f", &token);
    filtered.expect().await.of("released", "f", &token);
}

#[tokio::test]
async fn a_listener_is_told_what_it_cannot_be_told() {
    let world = World::sqlite().await;
    let (one, other) = (world.gateway().await, world.gateway().await);
    let client = one.client();
    let mut listener = Listener::on(&client, "").await;
    let place = listener.place().await;

    // Another replica, or another run: what happened there is not known.
    let mut elsewhere = Listener::after(&other.client(), "", Some(&place)).await;
    assert_eq!(elsewhere.expect().await.what, "missed");

    // More than is remembered.
    let token = client.acquire("f").await;
    for _ in 0..9 {
        write_many(&client, "f", &token, 128, "k").await;
    }
    let mut late = Listener::after(&client, "", Some(&place)).await;
    let missed = late.expect().await;
    assert_eq!(
        (missed.what.as_str(), &missed.data),
        ("missed", &json!({"events": null}))
    );
    late.expect().await.of("granted", "f", &token);
    for _ in 0..1024 {
        late.expect().await.of("written", "f", &token);
    }
    client.release("f", &token).await.expect(204);
    late.expect().await.of("released", "f", &token);
    // Of the leases all is remembered.
    let mut leases = Listener::after(&client, "?kinds=granted,released", Some(&place)).await;
    leases.expect().await.of("granted", "f", &token);
    leases.expect().await.of("released", "f", &token);

    for id in ["", "x", "1", "00000000-x", "00000000-99999999999999999999"] {
        let request = client
            .request(Method::GET, "/v1/events")
            .header("last-event-id", id);
        Answer::to(request).await.problem(400, "header-malformed");
    }
    for query in ["?kinds=", "?kinds=granted,", "?kinds=all", "?colour=red"] {
        client
            .get(&format!("/v1/events{query}"))
            .await
            .problem(400, "query-malformed");
    }
    client
        .get("/v1/events?fence=a%2Fb")
        .await
        .problem(400, "name-malformed");
}

#[tokio::test]
async fn a_listener_that_does_not_read_holds_nobody_up_and_learns_of_it() {
    let world = World::sqlite().await;
    let gateway = world.gateway().await;
    let client = gateway.client();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let address = ([127, 0, 0, 1], gateway.port).into();
    let mut stream = socket.connect(address).await.unwrap();
    stream
        .write_all(b"GET /v1/events?kinds=written HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");

    let token = client.acquire("f").await;
    let key = "k".repeat(1000);
    // Twelve megabytes, and four times what may wait for it.
    for _ in 0..128 {
        write_many(&client, "f", &token, 128, &key).await;
    }
    let mut text = String::new();
    let reading = async {
        let mut chunk = vec![0; 65536];
        while !text.contains("event: missed") {
            let read = stream.read(&mut chunk).await.unwrap();
            assert_ne!(read, 0);
            text.push_str(&String::from_utf8_lossy(&chunk[..read]));
        }
    };
    tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("it is told that it missed some");
    let written = text.matches("event: written").count();
    assert!(written < 128 * 128, "{written}");
}

#[tokio::test]
async fn there_are_only_so_many_listeners() {
    let world = World::sqlite().await;
    let mut config = Config::default();
    config.max_listeners = 2;
    let gateway = world.gateway_with(config).await;
    let client = gateway.client();
    let first = Listener::on(&client, "").await;
    let _second = Listener::on(&client, "").await;
    client.get("/v1/events").await.problem(503, "too-many-listening");
    drop(first);
    eventually(PATIENCE, async || {
        let request = client.request(Method::GET, "/v1/events");
        request.send().await.unwrap().status() == 200
    })
    .await;
}
