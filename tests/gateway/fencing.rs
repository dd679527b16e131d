//! What all of it is for: a writer whose lease is over does not write after the next holder has begun.

use super::{
    Answer, World,
    client::{number, record},
};
use reqwest::Method;
use serde_json::json;

use crate::support::{eventually, eventually::PATIENCE};

on_every_store! {
    a_paused_holder_is_refused_before_the_next_one_has_written
    a_token_that_has_only_expired_still_writes
    a_released_token_is_dead_before_anybody_else_acquires
    a_stale_reader_is_refused
    a_refused_write_changes_nothing
}

async fn a_paused_holder_is_refused_before_the_next_one_has_written(world: World) {
    let client = world.gateway().await.client();
    let first = client
        .lease("a", json!({"ttl": world.ttl}))
        .await
        .expect(201)
        .token();
    client.put("a", "k", &first, "first").await.expect(201);
    // The first holder is paused here, past its TTL.
    let second = client.wait_for("a").await;
    for answer in [
        client.put("a", "k", &first, "late").await,
        client.put("a", "other", &first, "late").await,
        client.delete("a", "k", &first).await,
        client.check("a", &first).await,
    ] {
        let problem = answer.problem(412, "token-stale");
        assert_eq!(problem["fence"], "a");
        assert_eq!(problem["presented"], number(&first));
        assert_eq!(problem["mark"], number(&second));
        assert_eq!(problem["retryable"], false);
    }
    client.renew("a", &first).await.problem(412, "lease-lost");
    assert_eq!(client.value("a", "k").await.as_deref(), Some("first"));
    client.put("a", "k", &second, "second").await.expect(200);
    client.check("a", &second).await.expect(200);
}

async fn a_token_that_has_only_expired_still_writes(world: World) {
    let client = world.gateway().await.client();
    let first = client
        .lease("a", json!({"ttl": world.ttl}))
        .await
        .expect(201)
        .token();
    eventually(PATIENCE, async || {
        client.get("/v1/fences/a").await.json()["holder"].is_null()
    })
    .await;
    client.put("a", "k", &first, "nobody newer").await.expect(201);
    client.check("a", &first).await.expect(200);
    // The lease itself is over all the same, although nobody else has it.
    client.renew("a", &first).await.problem(412, "lease-lost");
    let second = client.acquire("a").await;
    client
        .put("a", "k", &first, "late")
        .await
        .problem(412, "token-stale");
    client.put("a", "k", &second, "newer").await.expect(200);
}

async fn a_released_token_is_dead_before_anybody_else_acquires(world: World) {
    let client = world.gateway().await.client();
    let token = client.acquire("a").await;
    client.put("a", "k", &token, "v").await.expect(201);
    client.release("a", &token).await.expect(204);
    client
        .put("a", "k", &token, "late")
        .await
        .problem(412, "holder-mismatch");
    client
        .delete("a", "k", &token)
        .await
        .problem(412, "holder-mismatch");
    client.check("a", &token).await.problem(412, "holder-mismatch");
    assert_eq!(client.value("a", "k").await.as_deref(), Some("v"));
    assert_eq!(client.mark("a").await.unwrap(), number(&token));
}

async fn a_stale_reader_is_refused(world: World) {
    let client = world.gateway().await.client();
    let first = client
        .lease("a", json!({"ttl": world.ttl}))
        .await
        .expect(201)
        .token();
    client.put("a", "k", &first, "v").await.expect(201);
    let read = |token: &str| {
        Answer::to(
            client
                .request(Method::GET, &record("a", "k"))
                .header("fencing-token", token),
        )
    };
    read(&first).await.expect(200);
    let second = client.wait_for("a").await;
    read(&first).await.problem(412, "token-stale");
    read(&second).await.expect(200);
    read("nonsense").await.problem(400, "token-malformed");
}

async fn a_refused_write_changes_nothing(world: World) {
    let client = world.gateway().await.client();
    let first = client
        .lease("a", json!({"ttl": world.ttl}))
        .await
        .expect(201)
        .token();
    let before = client.put("a", "k", &first, "v").await.expect(201);
    client.wait_for("a").await;
    client.put("a", "k", &first, "late").await.expect(412);
    let after = client.read("a", "k").await.expect(200);
    assert_eq!(after.header("etag"), before.header("etag"));
    assert_eq!(after.body, b"v");
}
