//! Nothing secret gets into the log, even at its most talkative, nor into events, rejections and metrics.

use reqwest::Method;
use serde_json::json;

use super::{World, client::number, program::Program};

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
