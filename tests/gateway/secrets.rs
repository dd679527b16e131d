//! Nothing secret gets into the log, even at its most talkative, nor into events, rejections and metrics.

use reqwest::Method;
use serde_json::json;

use super::{
    Answer, World,
    auth::{Clients, SECRET, hs256, in_an_hour, jwt},
    client::number,
    program::Program,
};
use crate::support::{eventually, eventually::PATIENCE};

#[tokio::test]
async fn no_log_line_shows_a_holder_a_value_or_a_url() {
    for world in [World::sqlite().await, World::etcd().await] {
        let program = Program::new();
        let store = world.store.replace("postgres@", "postgres:hunter2@");
        let mut command =
            program.command(&["serve", "--listen", "127.0.0.1:0", "--migrate", "--store", &store]);
        if let Some(locks) = &world.locks {
            command.args(["--locks", locks]);
        }
        command.env("FENCEGATE_LOG", "trace");
        let (mut process, client) = program.serve(command).await;

        let mut listener = client.request(Method::GET, "/v1/events").send().await.unwrap();
        let mut told = Vec::new();

        let mut holders = vec!["9f86d081884c7d659a2feaa0c55ad015".to_owned()];
        let chosen = client
            .lease("chosen", json!({"holder": holders[0], "label": "label-7"}))
            .await
            .expect(201);
        client
            .lease("chosen", json!({"holder": holders[0]}))
            .await
            .expect(201);
        client
            .put("chosen", "k", &chosen.token(), "body-in-confidence")
            .await
            .expect(201);
        let first = client
            .lease("a", json!({"ttl": world.ttl}))
            .await
            .expect(201)
            .token();
        let second = client.wait_for("a").await;
        for token in [&first, &second] {
            holders.push(token.rsplit_once('-').unwrap().1.to_owned());
            client.put("a", "k", token, "body-in-confidence").await;
            client.renew("a", token).await;
            client.check("a", token).await;
            client.delete("a", "k", token).await;
            client.release("a", token).await;
            client.release("a", token).await;
        }
        let forged = format!("{}-{}", number(&second), "0123456789abcdef0123456789abcdef");
        holders.push("0123456789abcdef0123456789abcdef".into());
        client.put("a", "k", &forged, "body-in-confidence").await;
        client
            .put("a", "k", &format!("{forged}x"), "body-in-confidence")
            .await
            .expect(400);
        client
            .lease("b", json!({"holder": format!("{}z", holders[0])}))
            .await
            .expect(400);
        client.lease("b", json!({"colour": holders[0]})).await.expect(400);
        client
            .get(&format!("/v1/fences?{}", holders[0]))
            .await
            .expect(400);
        let listed = client.get("/v1/rejections").await.expect(200).body;
        let metrics = client.get("/metrics").await.expect(200).body;
        process.terminate().await;
        while let Ok(Some(chunk)) = listener.chunk().await {
            told.extend_from_slice(&chunk);
        }

        let (told, listed) = (
            String::from_utf8(told).unwrap(),
            String::from_utf8(listed).unwrap(),
        );
        assert!(
            told.contains("event: refused") && told.contains("event: draining"),
            "{told}"
        );
        assert!(listed.contains("\"reason\":\"stale\""), "{listed}");
        let elsewhere = [told, listed, String::from_utf8(metrics).unwrap()].concat();
        let log = process.log();
        assert!(log.contains("token-stale") && log.contains("\"DEBUG\""), "{log}");
        for secret in holders
            .iter()
            .map(String::as_str)
            .chain(["in-confidence", "hunter2", "postgres://"])
        {
            let mut lines = log.lines().chain(elsewhere.lines());
            let line = lines.find(|line| line.contains(secret));
            assert_eq!(line, None, "{secret}");
        }
        let lines = log
            .lines()
            .filter(|line| line.contains(r#""message":"request""#))
            .count();
        assert!(lines > 15, "{lines}");
        let line = log.lines().find(|line| line.contains("token-stale")).unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["presented"], number(&first));
        assert_eq!(line["mark"], number(&second));
        assert_eq!(line["fence"], "a");
        assert_eq!(line["route"], "/v1/fences/{fence}/records/{*key}");
        assert!(
            line["duration_ms"].is_number() && line["request_id"].is_string(),
            "{line}"
        );
    }
}

#[tokio::test]
async fn no_log_line_and_no_answer_shows_a_key_or_a_jwt() {
    let program = Program::new();
    let clients = Clients::new([("root", json!({"*": ["read"]}))]);
    hs256(clients.folder.path());
    let secret = clients.folder.path().join("secret");
    let mut command = program.command(&[
        "serve",
        "--listen=127.0.0.1:0",
        "--migrate",
        "--jwt-algorithm=HS256",
    ]);
    command
        .arg("--clients")
        .arg(clients.file())
        .arg("--jwt-keys")
        .arg(&secret);
    command.env("FENCEGATE_LOG", "trace");
    let (mut process, client) = program.serve(command).await;

    let key = clients.key("root");
    let claims =
        json!({"sub": "worker", "exp": in_an_hour(), "fencegate": {"*": ["read"]}, "note": "in-confidence"});
    let token = jwt(&claims);
    let expired = jwt(&json!({"sub": "worker", "exp": 1, "fencegate": {"*": ["read"]}}));
    let wrong_key = format!("{}0000", &key[..key.len() - 4]);
    let mut credentials = vec![
        (key.to_owned(), 200),
        (token.clone(), 200),
        (expired, 401),
        (wrong_key, 401),
    ];
    credentials.push((format!("{}0000", &token[..token.len() - 4]), 401));
    credentials.push((format!("{}.{}.{}", &token[..10], "hunter2", "hunter2"), 401));
    credentials.push(("hunter2-hunter2-hunter2".into(), 401));
    let mut answers = Vec::new();
    for (credential, status) in &credentials {
        for path in ["/v1/fences", "/v1/fences/f/records", "/nowhere", "/livez"] {
            let request = client.request(reqwest::Method::GET, path).bearer_auth(credential);
            let answer = Answer::to(request).await;
            if path == "/v1/fences" {
                assert_eq!(answer.status, *status, "{answer:?}");
            }
            answers.push(format!("{answer:?}"));
        }
    }
    // A key that is written into the file by mistake, in place of its hash.
    std::fs::write(
        clients.file(),
        format!("[clients.x]\nkeys = \"{key}\"\nrights = {{}}\n"),
    )
    .unwrap();
    process.signal(rustix::process::Signal::HUP);
    eventually(PATIENCE, async || {
        process.log().contains("clients cannot be read anew")
    })
    .await;
    process.terminate().await;

    let log = process.log();
    assert!(
        log.contains(r#""client":"root""#) && log.contains(r#""client":"worker""#),
        "{log}"
    );
    assert!(log.contains("ExpiredSignature"), "the log says why: {log}");
    let tails = credentials
        .iter()
        .map(|(credential, _)| &credential[credential.len() - 20..]);
    for secret in tails.chain([SECRET, "hunter2", "in-confidence"]) {
        let all = log.lines().chain(answers.iter().map(String::as_str));
        let found = all.into_iter().find(|line| line.contains(secret));
        assert_eq!(found, None, "{secret}");
    }
}
