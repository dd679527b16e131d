//! Every answer that any test gets is one that the description of the API has.

use std::sync::LazyLock;

use reqwest::Method;
use serde_json::Value;

use super::Answer;

static API: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../docs/openapi.json")).unwrap());

/// What is said of a path: of the one with the fewest parameters that fits.
fn described(path: &str) -> Option<&'static Value> {
    let fits = |template: &str| {
        let (mut parts, mut names) = (path.split('/'), template.split('/'));
        loop {
            match (parts.next(), names.next()) {
                (Some(part), Some("{key}")) => return !part.is_empty() || parts.next().is_some(),
                (Some(part), Some(name)) if part == name || (name.starts_with('{') && !part.is_empty()) => {}
                (None, None) => return true,
                _ => return false,
            }
        }
    };
    let paths = API["paths"].as_object().unwrap();
    let fitting = paths.iter().filter(|(template, _)| fits(template));
    fitting
        .min_by_key(|(template, _)| template.matches('{').count())
        .map(|(_, item)| item)
}

#[track_caller]
pub fn check(method: &Method, path: &str, answer: &Answer) {
    let Some(item) = described(path) else {
        return;
    };
    let mut operation = &item[method.as_str().to_lowercase()];
    if operation.is_null() && method == Method::HEAD {
        operation = &item["get"];
    }
    if operation.is_null() {
        assert_eq!(answer.status, 405, "{method} {path} is not described: {answer:?}");
        return;
    }
    let response = &operation["responses"][answer.status.to_string()];
    assert!(
        response.is_object(),
        "{method} {path} is not said to answer so: {answer:?}"
    );
    if answer.header("content-type") == Some("application/problem+json") && !answer.body.is_empty() {
        let problem = answer.json();
        let name = problem["type"].as_str().unwrap().rsplit(':').next().unwrap();
        let said = response["description"].as_str().unwrap();
        assert!(
            said.contains(&format!("`{name}`")),
            "{method} {path} is not said to answer so: {answer:?}"
        );
    }
}
