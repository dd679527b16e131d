//! `GET /v1/rejections`: who was refused, when, with which token, and how late.

use fencegate::rejections::{Noted, Source};
use serde_json::Value;
use time::OffsetDateTime;

use reqwest::Method;
use serde_json::json;

use super::{
    Answer, Client, World,
    client::{lease, number, record},
};
use crate::support::{eventually, eventually::PATIENCE};

on_every_store! {
    each_refusal_of_the_guard_is_there_and_no_holder_is
    a_crowd_does_not_become_a_crowd_of_rows
    pages_reach_each_row_once_while_others_are_made
}

fn noted(fence: &str, count: u64) -> Noted {
    Noted {
        source: Source::Guard,
        who: "a program".into(),
        fence: fence.parse().unwrap(),
        reason: fencegate::rule::Reason::Stale,
        presented: format!("1-{count}"),
        mark: Some("1-9".into()),
        at: OffsetDateTime::now_utc(),
        count,
    }
}

async fn rows(client: &Client, query: &str) -> (Vec<Value>, Option<String>) {
    let page = client.get(&format!("/v1/rejections{query}")).await.expect(200);
    assert_eq!(page.header("cache-control"), Some("no-store"));
    let page = page.json();
    let rows = page["rejections"].as_array().unwrap().clone();
    (rows, page["next"].as_str().map(str::to_owned))
}

async fn pages_reach_each_row_once_while_others_are_made(world: World) {
    let locks = fencegate::connect(&world.store, world.locks.as_deref())
        .await
        .unwrap();
    let gateway = world.gateway().await;
    let client = gateway.client();
    assert_eq!(rows(&client, "").await, (vec![], None));

    let store = locks.store();
    for count in 1..=5 {
        let fence = if count % 2 == 0 { "even" } else { "odd" };
        store.note_rejections(&[noted(fence, count)]).await.unwrap();
    }
    let (all, next) = rows(&client, "").await;
    assert_eq!((all.len(), next), (5, None));
    assert_eq!(all[0]["presented"], "1-5");
    assert_eq!(all[0]["mark"], "1-9");
    assert_eq!(all[0]["reason"], "stale");
    assert_eq!(all[0]["source"], "guard");
    assert_eq!(all[0]["who"], "a program");
    assert_eq!(all[0]["count"], 5);
    assert_eq!(all[0]["table"], Value::Null);
    assert!(all[0]["at"].as_str().unwrap().ends_with('Z'), "{}", all[0]);

    let (first, next) = rows(&client, "?limit=2").await;
    let next = next.unwrap();
    store.note_rejections(&[noted("odd", 6)]).await.unwrap();
    let (second, next) = rows(&client, &format!("?limit=2&after={next}")).await;
    let (third, last) = rows(&client, &format!("?limit=2&after={}", next.unwrap())).await;
    let seen: Vec<_> = [first, second, third].concat();
    assert_eq!(seen, all);
    assert_eq!(last, None);

    let (even, next) = rows(&client, "?fence=even&limit=2").await;
    assert_eq!(next, None);
    assert_eq!(even, [all[1].clone(), all[3].clone()]);

    for query in [
        "?limit=0",
        "?limit=1001",
        "?limit=-1",
        "?after=0",
        "?after=-1",
        "?after=%2B1",
        "?after=9223372036854775808",
        "?after=x",
        "?after=",
        "?colour=red",
    ] {
        let answer = client.get(&format!("/v1/rejections{query}")).await;
        answer.problem(400, "query-malformed");
    }
    for query in ["?fence=", "?fence=a%2Fb", "?fence=.", "?fence=%0A"] {
        let answer = client.get(&format!("/v1/rejections{query}")).await;
        answer.problem(400, "name-malformed");
    }
}

/// Waits until all are written down, which is not at once.
async fn settled(client: &Client, refusals: i64) -> Vec<Value> {
    let mut settled = Vec::new();
    eventually(PATIENCE, async || {
        (settled, _) = rows(client, "?limit=1000").await;
        let counts = settled.iter().map(|row| row["count"].as_i64().unwrap());
        counts.sum::<i64>() == refusals
    })
    .await;
    settled
}

async fn each_refusal_of_the_guard_is_there_and_no_holder_is(world: World) {
    let gateway = world.gateway().await;
    let client = gateway.client();
    let stale = client
        .lease("f", json!({"ttl": world.ttl}))
        .await
        .expect(201)
        .token();
    let mark = client.wait_for("f").await;
    let number_of = |token: &str| token.split('-').nth(1).unwrap().parse::<i64>().unwrap();
    let holder = "0123456789abcdef0123456789abcdef";
    let unsealed = format!("1-{}-{holder}", number_of(&mark) + 1000);
    let forged = format!("{}-{holder}", number(&mark));

    let mut refusals = 0;
    for (token, kind, reason) in [
        (&stale, "token-stale", "stale"),
        (&forged, "holder-mismatch", "holder-mismatch"),
        (&unsealed, "token-unsealed", "unsealed"),
    ] {
        let shows =
            |method: Method, path: String| client.request(method, &path).header("fencing-token", token);
        let at = |path: &str| format!("/v1/fences/f/{path}");
        let body = json!({"tokens": {"f": token}, "operations": [{"op": "put", "fence": "f", "key": "k", "value": 1}]});
        for request in [
            shows(Method::PUT, record("f", "k")).body("v"),
            shows(Method::PUT, record("f", "k"))
                .header("idempotency-key", "key")
                .body("v"),
            shows(Method::PATCH, record("f", "k"))
                .header("content-type", "application/merge-patch+json")
                .body("{}"),
            shows(Method::DELETE, record("f", "k")),
            shows(Method::GET, record("f", "k")),
            shows(Method::GET, at("records")),
            shows(Method::POST, at("check")),
            client
                .request(Method::POST, "/v1/transactions")
                .body(body.to_string()),
        ] {
            Answer::to(request).await.problem(412, kind);
            refusals += 1;
        }
        let rows = settled(&client, refusals).await;
        let mut of_this = rows.iter().filter(|row| row["reason"] == reason).peekable();
        assert!(of_this.peek().is_some(), "{rows:?}");
        for row in of_this {
            assert_eq!(row["fence"], "f");
            assert_eq!(row["presented"], number(token));
            assert_eq!(row["mark"], number(&mark));
            assert_eq!(row["source"], "gateway");
            assert_eq!(row["who"], "anonymous");
            assert!(
                row["late_ms"].as_u64().is_some_and(|late| late < 600_000),
                "{row}"
            );
        }
    }
    // What the guard had no part in is not there.
    Answer::to(client.request(Method::PUT, &record("f", "k")))
        .await
        .problem(428, "token-required");
    Answer::to(
        client
            .request(Method::DELETE, &lease("f"))
            .header("fencing-token", &stale),
    )
    .await
    .expect(204);
    client.renew("f", &stale).await.problem(412, "lease-lost");
    let rows = settled(&client, refusals).await;
    let text = json!(rows).to_string();
    for token in [&stale, &mark, &forged] {
        let (_, holder) = token.rsplit_once('-').unwrap();
        assert!(!text.contains(holder), "{text}");
    }
}

async fn a_crowd_does_not_become_a_crowd_of_rows(world: World) {
    let gateway = world.gateway().await;
    let client = gateway.client();
    let token = client.acquire("f").await;
    client.release("f", &token).await.expect(204);
    let began = std::time::Instant::now();
    let crowd = (0..200).map(|_| client.put("f", "k", &token, "v"));
    for answer in futures::future::join_all(crowd).await {
        answer.problem(412, "holder-mismatch");
    }
    // Written down before the gateway has ended, and not only a second later.
    gateway.stop.cancel();
    gateway.ended().await;
    let client = world.gateway().await.client();
    let rows = settled(&client, 200).await;
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap();
    assert!(
        rows.len() <= 2 * (seconds + 1),
        "{} rows in {seconds} s",
        rows.len()
    );
}
