//! The dashboard: one page that has all it needs, and loads nothing from elsewhere.

use std::sync::{Arc, LazyLock};

use axum::{
    http::{HeaderName, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Gateway, openapi::problems};

const PAGE: &str = include_str!("dashboard.html");

/// What its script and its style are is known, so nothing else runs: not even what a record's key says.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let (script, style) = (hash("script"), hash("style"));
    format!(
        "default-src 'none'; script-src '{script}'; style-src '{style}'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'"
    )
});

/// The hash of the only element of this name, as a policy has it.
fn hash(element: &str) -> String {
    let inside = PAGE
        .split_once(&format!("<{element}>"))
        .and_then(|(_, rest)| rest.split_once(&format!("</{element}>")))
        .map_or("", |(inside, _)| inside);
    format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(inside)))
}

pub(super) fn routes() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::new().routes(routes!(show))
}

#[utoipa::path(
    get, path = "/", operation_id = "dashboard", tag = "watching",
    summary = "The dashboard: fences, holders, rejections, events",
    responses((status = 200, description = "A page", body = String, content_type = "text/html"), problems::Dashboard),
)]
async fn show() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ];
    (headers, PAGE).into_response()
}
