//! `GET /v1/rejections`: who was refused, when, with which token, and how late.

use fencegate::rejections::{Noted, Source};
use serde_json::Value;
use time::OffsetDateTime;

use super::{Client, World};

on_every_store! {
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
