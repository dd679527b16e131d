//! Leases that are released by force.

use fencegate::gateway::Config;
use reqwest::Method;
use serde_json::json;

use super::{Answer, Client, World, client::lease};
use crate::support::eventually::PATIENCE;

on_every_store! {
    without_the_operators_word_nobody_may
    the_token_is_dead_and_the_lock_is_free
    waiters_keep_their_places
    a_fence_that_nobody_holds_is_left_alone
    a_token_that_outlived_its_lock_is_dead_too
}

async fn force(client: &Client, query: &str) -> Answer {
    let path = format!("{}{query}", lease("a"));
    Answer::to(client.request(Method::DELETE, &path)).await
}

async fn allowed(world: &World) -> Client {
    let mut config = Config::default();
    config.allow_force_release = true;
    world.gateway_with(config).await.client()
}

async fn without_the_operators_word_nobody_may(world: World) {
    let client = world.gateway().await.client();
    let token = client.acquire("a").await;
    let problem = force(&client, "?force=true").await.problem(403, "not-allowed");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("--allow-force-release"),
        "{problem}"
    );
    force(&client, "?force=false")
        .await
        .problem(428, "token-required");
    force(&client, "?force=perhaps")
        .await
        .problem(400, "query-malformed");
    client.put("a", "k", &token, "v").await.expect(201);
    client.renew("a", &token).await.expect(200);
}

async fn the_token_is_dead_and_the_lock_is_free(world: World) {
    let client = allowed(&world).await;
    let token = client.acquire("a").await;
    client.put("a", "k", &token, "v").await.expect(201);
    force(&client, "?force=true").await.expect(204);
    client
        .put("a", "k", &token, "late")
        .await
        .problem(412, "holder-mismatch");
    client.renew("a", &token).await.problem(412, "lease-lost");
    let next = client.lease("a", json!({"ttl": "1m"})).await.expect(201).token();
    client.put("a", "k", &next, "w").await.expect(200);
    client
        .put("a", "k", &token, "late")
        .await
        .problem(412, "token-stale");
    // The old holder cannot end the new one's.
    client.release("a", &token).await.expect(204);
    client.renew("a", &next).await.expect(200);
}

/// Their numbers are still above the mark.
async fn waiters_keep_their_places(world: World) {
    let client = allowed(&world).await;
    client.acquire("a").await;
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                let token = client.wait_for("a").await;
                client.put("a", "k", &token, "v").await
            })
        })
        .collect();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    for waiter in &waiters {
        assert!(!waiter.is_finished());
    }
    let mut done = 0;
    let ended = async {
        for waiter in waiters {
            loop {
                force(&client, "?force=true").await.expect(204);
                if waiter.is_finished() {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            }
            // Written, or ended by force before it could be; never stuck, and never refused a lease.
            let status = waiter.await.unwrap().status;
            assert!([200, 201, 412].contains(&status), "{status}");
            done += 1;
        }
    };
    tokio::time::timeout(PATIENCE * 2, ended).await.unwrap();
    assert_eq!(done, 3);
}

async fn a_fence_that_nobody_holds_is_left_alone(world: World) {
    let client = allowed(&world).await;
    force(&client, "?force=true").await.expect(204);
    assert_eq!(client.mark("a").await, None);
    let token = client.acquire("a").await;
    client.release("a", &token).await.expect(204);
    force(&client, "?force=true").await.expect(204);
    client.acquire("a").await;
}

async fn a_token_that_outlived_its_lock_is_dead_too(world: World) {
    let client = allowed(&world).await;
    let token = client
        .lease("a", json!({"ttl": world.ttl}))
        .await
        .expect(201)
        .token();
    crate::support::eventually(PATIENCE, async || {
        client.get("/v1/fences/a").await.json()["holder"].is_null()
    })
    .await;
    client
        .put("a", "k", &token, "late, and nobody came")
        .await
        .expect(201);
    force(&client, "?force=true").await.expect(204);
    client
        .put("a", "k", &token, "too late")
        .await
        .problem(412, "holder-mismatch");
}
