//! Pages of somebody else's that a browser on the same machine, or in the same network, is led to.

use fencegate::gateway::Config;
use reqwest::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{
    Answer, Gateway, World,
    auth::Clients,
    client::{encode, lease},
};
use crate::support::eventually::PATIENCE;

/// What a page can make a browser send without asking first: a form.
fn form(gateway: &Gateway, fence: &str, origin: &str) -> reqwest::RequestBuilder {
    let request = gateway.client().request(Method::POST, &lease(fence));
    request
        .header("origin", origin)
        .header("content-type", "text/plain")
        .body("{}")
}

#[tokio::test]
async fn a_page_of_somebody_elses_changes_nothing() {
    let world = World::sqlite().await;
    let gateway = world.gateway().await;
    let (client, port) = (gateway.client(), gateway.port);
    for other in [
        "http://evil.example",
        "http://evil.example:7411",
        "http://127.0.0.1",
        "http://127.0.0.1:1",
        &format!("http://localhost:{port}"),
        &format!("http://127.0.0.1.evil.example:{port}"),
        &format!("http://u@127.0.0.1:{port}"),
        &format!("http://127.0.0.1:{port} http://evil.example"),
        &format!("127.0.0.1:{port}"),
        "chrome-extension://abcdefgh",
        "file://",
        "null",
        "",
    ] {
        let answer = Answer::to(form(&gateway, "a", other)).await;
        let problem = answer.problem(403, "origin-not-allowed");
        assert_eq!(problem["fence"], "a");
    }
    let own = format!("http://127.0.0.1:{port}");
    let two = form(&gateway, "a", &own).header("origin", "http://evil.example");
    Answer::to(two).await.problem(403, "origin-not-allowed");
    // What a browser asks first, where it has to: it is not told to go on.
    let asked = client.request(Method::OPTIONS, &lease("a"));
    let asked = asked
        .header("origin", "http://evil.example")
        .send()
        .await
        .unwrap();
    assert_eq!(asked.status(), 403);
    assert!(asked.headers().get("access-control-allow-origin").is_none());
    client.get("/v1/fences/a").await.problem(404, "fence-not-found");

    // The dashboard is a page of the gateway's own; programs send no origin.
    Answer::to(form(&gateway, "a", &own)).await.expect(201);
    client.acquire("b").await;
    let by_name = format!(
        "GET /v1/fences HTTP/1.1\r\nHost: LocalHost:{port}\r\nOrigin: http://localhost:{port}\r\nConnection: close\r\n\r\n"
    );
    client.raw(by_name).await.expect(200);
}

/// DNS rebinding: the page's own name leads to this machine all of a sudden.
#[tokio::test]
async fn on_loopback_a_name_that_is_not_this_machines_is_not_served() {
    let world = World::sqlite().await;
    let gateway = world.gateway().await;
    let (client, port) = (gateway.client(), gateway.port);
    let ask = async |method: &str, target: &str, lines: &str| {
        let request = format!(
            "{method} {target} HTTP/1.1\r\n{lines}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        );
        client.raw(request).await
    };
    for other in [
        "evil.example".to_owned(),
        format!("evil.example:{port}"),
        format!("127.0.0.1.evil.example:{port}"),
        format!("localhost.evil.example:{port}"),
        format!("notlocalhost:{port}"),
        format!("evil.example@127.0.0.1:{port}"),
        format!("127.0.0.1:{port}@evil.example"),
        "2130706433".to_owned(),
        "[::1".to_owned(),
        "\u{fc}".to_owned(),
    ] {
        let host = format!("Host: {other}");
        for (method, target) in [
            ("POST", "/v1/fences/a/lease"),
            ("GET", "/v1/fences"),
            ("GET", "/v1/events"),
        ] {
            let answer = ask(method, target, &host).await;
            answer.problem(403, "host-not-allowed");
        }
        // With its own origin, as the page sends it.
        let own = format!("{host}\r\nOrigin: http://{other}");
        ask("POST", "/v1/fences/a/lease", &own)
            .await
            .problem(403, "host-not-allowed");
    }
    for (target, lines) in [
        ("http://evil.example/v1/fences", "Host: localhost"),
        ("http://localhost/v1/fences", "Host: evil.example"),
        ("/v1/fences", "Host: localhost\r\nHost: evil.example"),
    ] {
        let answer = ask("GET", target, lines).await;
        answer.problem(403, "host-not-allowed");
    }
    client.get("/v1/fences/a").await.problem(404, "fence-not-found");

    for own in [
        "localhost".to_owned(),
        format!("localhost:{port}"),
        format!("LOCALHOST.:{port}"),
        format!("fencegate.localhost:{port}"),
        format!("127.0.0.1:{port}"),
        format!("[::1]:{port}"),
        "10.0.0.7".to_owned(),
        String::new(),
    ] {
        ask("GET", "/v1/fences", &format!("Host: {own}"))
            .await
            .expect(200);
    }
    let absolute = format!("http://localhost:{port}/v1/fences");
    ask("GET", &absolute, "Host: localhost").await.expect(200);
    client.raw("GET /v1/fences HTTP/1.0\r\n\r\n").await.expect(200);
}

#[tokio::test]
async fn http_2_names_the_host_in_its_own_way() {
    let world = World::sqlite().await;
    let gateway = world.gateway().await;
    for (authority, expected) in [("evil.example", "host-not-allowed"), ("localhost", "fences")] {
        let mut stream = TcpStream::connect(("127.0.0.1", gateway.port)).await.unwrap();
        // GET and http by their numbers in the static table, then :path and :authority, not indexed.
        let mut block = vec![0x82, 0x86];
        for (index, value) in [(4, "/v1/fences"), (1, authority)] {
            block.extend([index, u8::try_from(value.len()).unwrap()]);
            block.extend(value.bytes());
        }
        let length = u8::try_from(block.len()).unwrap();
        let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        let head = [0, 0, length, 1, 5, 0, 0, 0, 1];
        stream
            .write_all(&[hello, head.as_slice(), &block].concat())
            .await
            .unwrap();
        let answered = async {
            let mut answer = Vec::new();
            while !String::from_utf8_lossy(&answer).contains(expected) {
                assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "{authority}");
            }
        };
        tokio::time::timeout(PATIENCE, answered).await.expect(authority);
    }
}

#[tokio::test]
async fn the_host_that_is_advertised_is_the_gateways_own() {
    let world = World::sqlite().await;
    let mut config = Config::default();
    config.advertise = Some("http://gateway-1.example:7411".parse().unwrap());
    let gateway = world.gateway_with(config).await;
    let status = async |lines: &str| {
        let request = format!("GET /v1/fences HTTP/1.1\r\n{lines}\r\nConnection: close\r\n\r\n");
        gateway.client().raw(request).await.status
    };
    assert_eq!(status("Host: gateway-1.example:7411").await, 200);
    assert_eq!(status("Host: Gateway-1.example").await, 200);
    assert_eq!(status("Host: gateway-2.example:7411").await, 403);
    // A proxy on this machine may have given it another name on the way.
    assert_eq!(
        status("Host: 127.0.0.1\r\nOrigin: http://gateway-1.example:7411").await,
        200
    );
    assert_eq!(
        status("Host: 127.0.0.1\r\nOrigin: http://gateway-1.example").await,
        403
    );
}

/// As in a network of containers, where services have names.
#[tokio::test]
async fn beyond_loopback_any_name_is_served_and_no_page_of_somebody_elses() {
    let world = World::sqlite().await;
    let locks = fencegate::connect(&world.store, None).await.unwrap();
    locks.store().migrate().await.unwrap();
    let mut config = Config::default();
    (config.allow_unauthenticated, config.allow_plaintext) = (true, true);
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let gateway = Gateway::start_at(listener, locks, config);
    let ask = async |lines: &str| {
        let request = format!(
            "POST /v1/fences/{}/lease HTTP/1.1\r\n{lines}Connection: close\r\nContent-Length: 0\r\n\r\n",
            encode("a")
        );
        gateway.client().raw(request).await
    };
    ask("Host: gateway:7411\r\nOrigin: http://evil.example\r\n")
        .await
        .problem(403, "origin-not-allowed");
    ask("Host: gateway:7411\r\n").await.expect(201);
    // A proxy that ends TLS on the usual port.
    let proxied = ask("Host: gateway\r\nOrigin: https://gateway\r\n").await;
    proxied.problem(409, "lock-held");
}

/// No browser sends a key or a JWT by itself.
#[tokio::test]
async fn who_shows_a_key_may_be_anywhere() {
    let world = World::sqlite().await;
    let clients = Clients::new([("a", json!({"*": ["lease"]}))]);
    let gateway = world.gateway_with(clients.config(None)).await;
    let asked = form(&gateway, "a", "http://elsewhere.example").header("host", "gateway.example");
    Answer::to(asked.bearer_auth(clients.key("a"))).await.expect(201);
    let bare = form(&gateway, "a", "http://elsewhere.example");
    Answer::to(bare).await.problem(401, "unauthenticated");
}
