//! The description of the API: OpenAPI, made from the routes themselves.
//!
//! Every route is registered together with what is said of it, so neither is without the other. What a program wants
//! to know and the macros cannot say is added here.

pub(super) mod parameters;
pub(super) mod problems;

use std::sync::{Arc, LazyLock};

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Gateway, problem};

/// What all calls have in common.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "fencegate",
        description = "Leases with fencing tokens, and records that refuse stale writers. Every refusal is a problem \
                       (RFC 9457) with a stable `type`.",
    ),
    tags(
        (name = "leases", description = "Acquire, renew, release"),
        (name = "fences", description = "What is remembered of each fence, and who holds it"),
        (name = "records", description = "Fenced writes, and reads"),
        (name = "watching", description = "Who was refused, what happens, health, metrics"),
    ),
    components(schemas(problem::Body<'static>)),
)]
struct Common;

/// A router that is to be described.
pub(super) fn router() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::with_openapi(Common::openapi())
}

pub(super) fn routes() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::new().routes(routes!(describe))
}

/// As it is served.
static DESCRIPTION: LazyLock<String> = LazyLock::new(|| text(super::routes().into_openapi()));

/// This description.
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "describe", tag = "watching",
    responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json"),
              problems::Describe),
)]
async fn describe() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, DESCRIPTION.as_str()).into_response()
}

fn text(api: utoipa::openapi::OpenApi) -> String {
    // It is made of plain fields, which always have a JSON form.
    let mut api = serde_json::to_value(api).unwrap_or_default();
    finish(&mut api);
    let mut text = serde_json::to_string_pretty(&api).unwrap_or_default();
    text.push('\n');
    text
}

fn finish(api: &mut Value) {
    // The licence and the author of the package say nothing of the API.
    if let Some(info) = api["info"].as_object_mut() {
        info.remove("contact");
    }
    let types: Vec<_> = problem::names()
        .map(|name| format!("urn:fencegate:problem:{name}"))
        .collect();
    api["components"]["schemas"]["Problem"]["properties"]["type"]["enum"] = json!(types);
    let put = &mut api["paths"]["/v1/fences/{fence}/records/{*key}"]["put"];
    // Bytes, and neither a list of numbers nor text.
    put["requestBody"]["content"]["application/octet-stream"]["schema"] =
        json!({"type": "string", "format": "binary"});
    let get = &mut api["paths"]["/v1/fences/{fence}/records/{*key}"]["get"];
    get["responses"]["200"]["content"]["*/*"] = json!({});
    api["components"]["securitySchemes"] = json!({
        "bearer": {
            "type": "http", "scheme": "bearer",
            "description": "An API key of `fencegate key new`, or a JSON web token, where the gateway is told whose to accept",
        },
        "certificate": {"type": "mutualTLS", "description": "A client's certificate, where the gateway is told whose to accept"},
    });
    let Some(paths) = api["paths"].as_object_mut() else {
        return;
    };
    for operation in paths
        .values_mut()
        .filter_map(Value::as_object_mut)
        .flat_map(Map::values_mut)
    {
        if operation["responses"]["401"].is_object() {
            // Neither, where the gateway asks nobody who they are.
            operation["security"] = json!([{"bearer": []}, {"certificate": []}, {}]);
        }
    }
    let paths = std::mem::take(paths).into_iter().map(|(path, mut item)| {
        // HEAD answers as GET does, without the body.
        if path.ends_with("/records/{*key}")
            && let Some(item) = item.as_object_mut()
        {
            let mut head = item["get"].clone();
            head["operationId"] = json!("headRecord");
            head["summary"] = json!("Read a record's version and type");
            for (_, response) in head["responses"].as_object_mut().into_iter().flatten() {
                if let Some(response) = response.as_object_mut() {
                    response.remove("content");
                }
            }
            item.insert("head".into(), head);
        }
        (path.replace("{*", "{"), item)
    });
    let paths = paths.collect();
    api["paths"] = Value::Object(paths);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_committed_description_is_the_one_that_is_served() {
        let text = DESCRIPTION.as_str();
        let made = concat!(env!("CARGO_MANIFEST_DIR"), "/target/openapi.json");
        std::fs::write(made, text).unwrap();
        let committed = include_str!("../../../docs/openapi.json");
        let differs = text
            .lines()
            .zip(committed.lines())
            .position(|(one, other)| one != other);
        assert!(
            text == committed,
            "docs/openapi.json is an older one, from line {differs:?} on: cp target/openapi.json docs/"
        );
    }

    #[test]
    fn every_problem_is_the_answer_to_some_call() {
        let api: Value = serde_json::from_str(&DESCRIPTION).unwrap();
        let mut documented = BTreeSet::new();
        for item in api["paths"].as_object().unwrap().values() {
            for operation in item.as_object().unwrap().values() {
                for (status, response) in operation["responses"].as_object().unwrap() {
                    let description = response["description"].as_str().unwrap();
                    for kind in problem::KINDS {
                        if description.contains(&format!("`{}`", kind.name)) {
                            assert_eq!(status, kind.status.as_str(), "{}", kind.name);
                            documented.insert(kind.name);
                        }
                    }
                }
            }
        }
        // What no path and no method is there for is no call's answer.
        let nobodys = ["route-not-found", "method-not-allowed"];
        let all: BTreeSet<_> = problem::names().filter(|name| !nobodys.contains(name)).collect();
        assert_eq!(documented, all);
    }

    #[test]
    fn who_may_be_asked_for_credentials_is_told_which() {
        let api: Value = serde_json::from_str(&DESCRIPTION).unwrap();
        let schemes = api["components"]["securitySchemes"].as_object().unwrap();
        for (path, item) in api["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let asked = operation["responses"]["401"].is_object();
                assert_eq!(
                    path.starts_with("/v1/") || path == "/metrics",
                    asked,
                    "{method} {path}"
                );
                let named = operation["security"].as_array().into_iter().flatten();
                let named: BTreeSet<_> = named.filter_map(Value::as_object).flat_map(Map::keys).collect();
                assert_eq!(
                    named.len(),
                    if asked { schemes.len() } else { 0 },
                    "{method} {path}"
                );
                assert!(named.iter().all(|name| schemes.contains_key(*name)), "{named:?}");
            }
        }
    }

    #[test]
    fn operations_have_names_and_each_its_own() {
        let api: Value = serde_json::from_str(&DESCRIPTION).unwrap();
        let mut names = BTreeSet::new();
        for (path, item) in api["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let name = operation["operationId"].as_str().unwrap();
                assert!(names.insert(name.to_owned()), "{name}");
                assert!(operation["summary"].is_string(), "{method} {path}");
                assert_eq!(
                    operation["tags"].as_array().map(Vec::len),
                    Some(1),
                    "{method} {path}"
                );
            }
        }
    }
}
