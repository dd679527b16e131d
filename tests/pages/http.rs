//! docs/http.md: its calls are made as they stand there, every call there is among them.

use std::collections::BTreeSet;

use super::{super::cli::Terminal, run};

const PAGE: &str = include_str!("../../docs/http.md");
const DESCRIPTION: &str = include_str!("../../docs/openapi.json");

/// What can be called: method and route.
fn calls() -> BTreeSet<(String, String)> {
    let description: serde_json::Value = serde_json::from_str(DESCRIPTION).unwrap();
    let mut calls = BTreeSet::new();
    for (route, methods) in description["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            calls.insert((method.to_uppercase(), route.clone()));
        }
    }
    calls
}

#[tokio::test]
async fn every_call_is_made_and_answers_as_it_is_shown() {
    let terminal = Terminal::open_with(&["--allow-force-release"]).await;
    let place = ("http://127.0.0.1:7411", terminal.url.as_str());
    run(PAGE, &terminal.program, &[], place);

    let metrics = reqwest::get(format!("{}/metrics", terminal.url)).await.unwrap();
    let metrics = metrics.text().await.unwrap().replace("{*key}", "{key}");
    let missing: Vec<_> = calls()
        .into_iter()
        .filter(|(method, route)| {
            let is_counted = |line: &&str| {
                line.starts_with("fencegate_http_requests_total")
                    && line.contains(&format!("route={route:?}"))
                    && line.contains(&format!("method={method:?}"))
            };
            !metrics.lines().any(|line| is_counted(&line))
        })
        .collect();
    assert!(missing.is_empty(), "the page leaves these out: {missing:?}");
}

#[test]
fn every_problem_has_a_row() {
    // The answers of each call name what it may be refused as, as "`token-stale`: A newer holder has the fence."
    let description: serde_json::Value = serde_json::from_str(DESCRIPTION).unwrap();
    let name = regex::Regex::new("`([a-z-]+)`: [A-Z]").unwrap();
    let calls = description["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|methods| methods.as_object().unwrap().values());
    let mut found = BTreeSet::new();
    for answer in calls.flat_map(|call| call["responses"].as_object().unwrap().values()) {
        let text = answer["description"].as_str().unwrap_or_default().to_owned();
        found.extend(name.captures_iter(&text).map(|name| name[1].to_owned()));
    }
    assert!(found.len() > 30, "{found:?}");
    for name in found {
        assert!(PAGE.contains(&format!("`{name}`")), "{name}");
    }
}
