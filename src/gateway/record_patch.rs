//! Merge patches of records.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, header},
    response::Response,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Gateway, Problem,
    auth::ToWrite,
    body, conditions,
    idempotency::{self, IdempotencyKey},
    openapi::{parameters, problems},
    path::Key,
    records,
    token_header::ShownToken,
};
use crate::store::{Change, MergePatch, Write};

/// The only kind of patch there is.
pub(super) const MERGE_PATCH: &str = "application/merge-patch+json";

pub(super) fn routes() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::new().routes(routes!(merge))
}

#[utoipa::path(
    patch, path = "/v1/fences/{fence}/records/{*key}", operation_id = "patchRecord", tag = "records",
    summary = "Patch a record", description = "With a JSON merge patch (RFC 7396). The record is to be JSON.",
    params(parameters::Fence, parameters::Key, parameters::Token, parameters::Conditions, parameters::IdempotencyKey),
    request_body(content = serde_json::Value, content_type = "application/merge-patch+json"),
    responses(
        (status = 200, description = "It is patched", body = records::Stored<'static>,
         headers(("ETag" = String, description = "The version"))),
        problems::Patch
    ),
)]
async fn merge(
    State(gateway): State<Arc<Gateway>>,
    ToWrite(fence): ToWrite,
    Key(key): Key,
    shown: ShownToken,
    idempotency: IdempotencyKey,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let config = &gateway.config;
    if !is_merge_patch(&headers) {
        return Err(Problem::patch_type());
    }
    let condition = conditions::of_write(&headers)?;
    let (bytes, room) = body::read(&gateway, body, config.max_value).await?;
    let patch = MergePatch::new(&bytes, config.max_value)?;
    let client = idempotency.client().clone();
    let token = gateway.admissible(&client, &fence, &shown).await;
    let write = Write {
        fence: fence.clone(),
        token: token.mark,
        key: key.clone(),
        change: Change::Merge(patch),
        condition,
    };
    let once = idempotency.once(&gateway, "PATCH", &records::record(&fence, &key));
    let written = gateway
        .write(&client, write, once, token.refused, Some(room))
        .await?;
    let (written, replayed) = written;
    Ok(idempotency::mark(
        records::stored(&fence, &key, written)?,
        replayed,
    ))
}

/// Parameters such as a charset change nothing: JSON is UTF-8.
fn is_merge_patch(headers: &HeaderMap) -> bool {
    let mut given = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (given.next(), given.next()) else {
        return false;
    };
    let essence = value
        .to_str()
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default();
    essence.trim().eq_ignore_ascii_case(MERGE_PATCH)
}
