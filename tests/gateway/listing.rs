//! The records of a fence, page by page.

use std::collections::BTreeSet;

use super::{Answer, Client, World, client::encode};
use reqwest::Method;

on_every_store! {
    records_are_listed_in_byte_order_with_what_they_are
    a_prefix_is_that_and_no_pattern
    pages_stay_right_while_records_change
    a_listing_under_a_stale_token_is_refused
    questions_that_cannot_be_are_refused
}

fn path(fence: &str, query: &str) -> String {
    format!("/v1/fences/{}/records{query}", encode(fence))
}

async fn keys(client: &Client, fence: &str, query: &str) -> (Vec<String>, Option<String>) {
    let page = client.get(&path(fence, query)).await.expect(200).json();
    let keys = page["records"].as_array().unwrap().iter();
    let keys = keys.map(|record| record["key"].as_str().unwrap().to_owned());
    (keys.collect(), page["next"].as_str().map(str::to_owned))
}

async fn records_are_listed_in_byte_order_with_what_they_are(world: World) {
    let client = world.gateway().await.client();
    let token = client.acquire("a").await;
    let other = client.acquire("b").await;
    client.put("b", "strange", &other, "x").await.expect(201);
    let sorted = ["A", "Z", "a", "a/b", "aa", "z", "ä", "🦀"];
    for key in sorted.iter().rev() {
        client.put("a", key, &token, key).await.expect(201);
    }
    assert_eq!(
        keys(&client, "a", "").await,
        (sorted.map(str::to_owned).to_vec(), None)
    );
    assert_eq!(keys(&client, "nobody", "").await, (vec![], None));

    let put = client.put("a", "ä", &token, "abc").await.expect(200).json();
    let page = client
        .get(&path("a", &format!("?prefix={}", encode("ä"))))
        .await
        .expect(200);
    assert_eq!(page.header("cache-control"), Some("no-store"));
    let page = page.json();
    assert_eq!(page["fence"], "a");
    let record = &page["records"][0];
    assert_eq!(record["version"], put["version"]);
    assert_eq!(record["content_type"], "application/octet-stream");
    assert_eq!(record["length"], 3);
    assert!(record["updated_at"].as_str().unwrap().ends_with('Z'), "{record}");
}

async fn a_prefix_is_that_and_no_pattern(world: World) {
    let client = world.gateway().await.client();
    let token = client.acquire("a").await;
    let last = "\u{10ffff}".repeat(256);
    for key in ["a%", "a%b", "ab", "a_", "a_b", "b", "\u{10ffff}", &last] {
        client.put("a", key, &token, "x").await.expect(201);
    }
    for (prefix, found) in [
        ("a%", vec!["a%", "a%b"]),
        ("a_", vec!["a_", "a_b"]),
        ("ab", vec!["ab"]),
        ("c", vec![]),
        ("\u{10ffff}", vec!["\u{10ffff}", &last]),
    ] {
        let query = format!("?prefix={}", encode(prefix));
        assert_eq!(keys(&client, "a", &query).await.0, found, "{prefix}");
    }
}

/// Records come and go between the pages, also the very one that the last page ended with. Those that stay are
/// shown once each.
async fn pages_stay_right_while_records_change(world: World) {
    let client = world.gateway().await.client();
    let token = client.acquire("a").await;
    let stay: BTreeSet<String> = (0..20).map(|i| format!("k/{i:02}")).collect();
    for key in stay.iter().map(String::as_str).chain(["k/03x", "k/07x", "l"]) {
        client.put("a", key, &token, "x").await.expect(201);
    }
    let (mut after, mut shown) = (String::new(), Vec::new());
    for round in 0.. {
        let query = format!("?prefix=k%2F&limit=4&after={}", encode(&after));
        let (page, next) = keys(&client, "a", &query).await;
        assert!(page.len() <= 4, "{page:?}");
        shown.extend(page);
        for key in ["k/03x", "k/07x"] {
            client.delete("a", key, &token).await.expect(204);
        }
        // Before, behind and far behind where the listing is.
        for key in ["k/00x".to_owned(), format!("{after}y"), format!("k/19{round}")] {
            client.put("a", &key, &token, "x").await;
        }
        // Written again, a record does not move.
        client.put("a", "k/10", &token, "again").await.expect(200);
        match next {
            Some(next) => after = next,
            None => break,
        }
    }
    assert!(shown.is_sorted(), "{shown:?}");
    let once: BTreeSet<String> = shown.iter().cloned().collect();
    assert_eq!(once.len(), shown.len(), "{shown:?}");
    assert!(once.is_superset(&stay), "{shown:?}");
    assert!(!once.contains("l") && !once.contains("k/07x"), "{shown:?}");
}

async fn a_listing_under_a_stale_token_is_refused(world: World) {
    let client = world.gateway().await.client();
    let old = client.acquire("a").await;
    let list = async |token: &str| {
        let request = client.request(Method::GET, &path("a", ""));
        Answer::to(request.header("fencing-token", token)).await
    };
    list(&old).await.expect(200);
    client.release("a", &old).await.expect(204);
    let new = client.acquire("a").await;
    list(&old).await.problem(412, "token-stale");
    list(&new).await.expect(200);
}

async fn questions_that_cannot_be_are_refused(world: World) {
    let client = world.gateway().await.client();
    let long = format!("?prefix={}", "x".repeat(1025));
    let problem = client.get(&path("a", "?limit=abc")).await;
    let problem = problem.problem(400, "query-malformed");
    assert_eq!(problem["detail"], "limit is from 1 to 1000");
    let problem = client
        .get("/v1/fences?colour=red")
        .await
        .problem(400, "query-malformed");
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("`colour`") && !detail.contains("deserialize"),
        "{detail}"
    );
    for query in [
        "?limit=",
        "?limit=-1",
        "?limit=+1",
        "?limit=99999999999",
        "?limit=1&limit=2",
        "?limit=0",
        "?limit=1001",
        "?limit=x",
        "?colour=red",
        "?after=%00",
        &long,
    ] {
        client
            .get(&path("a", query))
            .await
            .problem(400, "query-malformed");
    }
}
