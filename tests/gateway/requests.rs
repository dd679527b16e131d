//! What holds for every request, whatever it asks for.

use reqwest::{Method, header::HeaderValue};

use super::{
    Answer, World,
    client::{lease, record},
};

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_problems() {
    let world = World::sqlite().await;
    let client = world.gateway().await.client();
    for path in [
        "/nope",
        "/v1",
        "/v2/fences/a",
        "/v1/fences/a/",
        "/v1/fences/a/nope",
        "/v1/fences/a/records/",
    ] {
        client.get(path).await.problem(404, "route-not-found");
    }
    for (method, path, allowed) in [
        (Method::GET, lease("a"), "POST,PUT,DELETE"),
        (Method::PATCH, lease("a"), "POST,PUT,DELETE"),
        (Method::POST, record("a", "k"), "GET,HEAD,PUT,PATCH,DELETE"),
        (Method::PUT, "/v1/fences/a/records".into(), "GET,HEAD"),
        (Method::GET, "/v1/transactions".into(), "POST"),
        (Method::DELETE, "/v1/fences/a".into(), "GET,HEAD"),
        (Method::GET, "/v1/fences/a/check".into(), "POST"),
        (Method::POST, "/v1/fences".into(), "GET,HEAD"),
        (Method::POST, "/livez".into(), "GET,HEAD"),
        (Method::from_bytes(b"BREW").unwrap(), "/readyz".into(), "GET,HEAD"),
    ] {
        let answer = Answer::to(client.request(method, &path)).await;
        let mut methods: Vec<&str> = answer
            .header("allow")
            .unwrap()
            .split(',')
            .map(str::trim)
            .collect();
        let mut allowed: Vec<&str> = allowed.split(',').collect();
        methods.sort_unstable();
        allowed.sort_unstable();
        assert_eq!(methods, allowed, "{path}");
        answer.problem(405, "method-not-allowed");
    }
}

#[tokio::test]
async fn every_answer_has_a_request_id() {
    let world = World::sqlite().await;
    let client = world.gateway().await.client();
    let with = |id: &[u8]| {
        let id = HeaderValue::from_bytes(id).unwrap();
        Answer::to(client.request(Method::GET, "/nope").header("x-request-id", id))
    };
    let longest = "x".repeat(128);
    for sane in ["a", "4f1c-77:/é".trim_end_matches('é'), longest.as_str()] {
        let answer = with(sane.as_bytes()).await;
        assert_eq!(answer.header("x-request-id"), Some(sane));
        assert_eq!(answer.problem(404, "route-not-found")["request_id"], sane);
    }
    let too_long = "x".repeat(129);
    for odd in [
        b"".as_slice(),
        b"a b",
        b"\xff",
        "é".as_bytes(),
        too_long.as_bytes(),
    ] {
        let answer = with(odd).await;
        let id = answer.header("x-request-id").unwrap();
        assert!(uuid::Uuid::parse_str(id).is_ok(), "{id}");
    }
    let ids: Vec<String> = [
        client.get("/livez").await,
        client.get("/readyz").await,
        client.get("/v1/fences").await,
    ]
    .iter()
    .map(|answer| answer.header("x-request-id").unwrap().to_owned())
    .collect();
    assert!(ids[0] != ids[1] && ids[1] != ids[2], "{ids:?}");
}

#[tokio::test]
async fn http_2_is_spoken_too() {
    let world = World::sqlite().await;
    let gateway = world.gateway().await;
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", gateway.port))
        .await
        .unwrap();
    // The preface, and settings that change nothing: the answer begins with the server's own settings.
    let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    tokio::io::AsyncWriteExt::write_all(&mut stream, hello)
        .await
        .unwrap();
    let mut frame = [0; 9];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut frame)
        .await
        .unwrap();
    assert_eq!(frame[3], 4, "{frame:?}");
}
