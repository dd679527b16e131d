//! Gateways have no state: any of them serves any lease.

use serde_json::json;

use super::World;

on_every_store! {
    a_lease_of_one_gateway_is_served_by_another
    a_waiter_at_one_gateway_gets_what_another_releases
    a_stale_writer_is_refused_by_every_gateway
}

async fn a_lease_of_one_gateway_is_served_by_another(world: World) {
    let (one, other) = (world.gateway().await.client(), world.gateway().await.client());
    let asked = json!({"ttl": "5m", "holder": "9f86d081884c7d659a2feaa0c55ad015"});
    let token = one.lease("a", asked.clone()).await.expect(201).token();
    assert_eq!(other.lease("a", asked).await.expect(201).token(), token);
    other.renew("a", &token).await.expect(200);
    other.put("a", "k", &token, "v").await.expect(201);
    assert_eq!(one.value("a", "k").await.as_deref(), Some("v"));
    other.lease("a", json!({})).await.problem(409, "lock-held");
    other.release("a", &token).await.expect(204);
    one.renew("a", &token).await.problem(412, "lease-lost");
    one.put("a", "k", &token, "late")
        .await
        .problem(412, "holder-mismatch");
    other.acquire("a").await;
}

async fn a_waiter_at_one_gateway_gets_what_another_releases(world: World) {
    let (one, other) = (world.gateway().await.client(), world.gateway().await.client());
    let token = one.acquire("a").await;
    let waiting = tokio::spawn(async move { other.wait_for("a").await });
    one.lease("a", json!({"wait": "200ms"}))
        .await
        .problem(409, "lock-held");
    one.release("a", &token).await.expect(204);
    let next = waiting.await.unwrap();
    one.put("a", "k", &next, "v").await.expect(201);
}

async fn a_stale_writer_is_refused_by_every_gateway(world: World) {
    let (one, other) = (world.gateway().await.client(), world.gateway().await.client());
    let first = one
        .lease("a", json!({"ttl": world.ttl}))
        .await
        .expect(201)
        .token();
    one.put("a", "k", &first, "v").await.expect(201);
    other.wait_for("a").await;
    for client in [one, other] {
        client
            .put("a", "k", &first, "late")
            .await
            .problem(412, "token-stale");
        assert_eq!(client.value("a", "k").await.as_deref(), Some("v"));
    }
}
