//! Records: fenced writes, and reads.

use std::{sync::Arc, time::SystemTime};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Gateway, Problem,
    auth::{Client, ToRead, ToWrite},
    body, conditions, fences,
    idempotency::{self, IdempotencyKey},
    media_type,
    openapi::{parameters, problems},
    path::Key,
    token_header::ShownToken,
};
use crate::{
    name::{FenceName, RecordKey},
    store::{Change, Record, Value, Write, Written},
};

/// What bytes are that nobody has named.
pub(super) const UNNAMED: &str = "application/octet-stream";
/// Stored bytes may be a page or a script of somebody else's: a browser that is led to them runs nothing.
const HARMLESS: &str = "default-src 'none'; frame-ancestors 'none'; sandbox";

pub(super) fn routes() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::new().routes(routes!(read, put, delete))
}

#[derive(Serialize, ToSchema)]
#[schema(as = Stored)]
pub(super) struct Stored<'a> {
    fence: &'a str,
    key: &'a str,
    version: String,
}

#[utoipa::path(
    put, path = "/v1/fences/{fence}/records/{*key}", operation_id = "putRecord", tag = "records",
    summary = "Write a record",
    params(parameters::Fence, parameters::Key, parameters::Token, parameters::Conditions, parameters::IdempotencyKey),
    request_body(content = Vec<u8>, content_type = "application/octet-stream",
                 description = "Any bytes, of any type: it is kept with them."),
    responses(
        (status = 200, description = "It is written, over another version", body = Stored<'static>,
         headers(("ETag" = String, description = "The version"))),
        (status = 201, description = "It is written, and is new", body = Stored<'static>,
         headers(("ETag" = String, description = "The version"))),
        problems::Put
    ),
)]
async fn put(
    State(gateway): State<Arc<Gateway>>,
    ToWrite(fence): ToWrite,
    Key(key): Key,
    shown: ShownToken,
    idempotency: IdempotencyKey,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let condition = conditions::of_write(&headers)?;
    let content_type = content_type(&headers)?;
    let (bytes, room) = body::read(&gateway, body, gateway.config.max_value).await?;
    let client = idempotency.client().clone();
    let token = gateway.admissible(&client, &fence, &shown).await;
    let write = Write {
        fence: fence.clone(),
        token: token.mark,
        key: key.clone(),
        change: Change::Put(Value { bytes, content_type }),
        condition,
    };
    let once = idempotency.once(&gateway, "PUT", &record(&fence, &key));
    let written = gateway
        .write(&client, write, once, token.refused, Some(room))
        .await?;
    let (written, replayed) = written;
    Ok(idempotency::mark(stored(&fence, &key, written)?, replayed))
}

/// The answer to whatever leaves a record behind.
pub(super) fn stored(fence: &FenceName, key: &RecordKey, written: Written) -> Result<Response, Problem> {
    let Some(version) = written.version else {
        return Err(Problem::internal("a stored record has no version"));
    };
    let status = if written.existed {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    let body = Stored {
        fence: fence.as_str(),
        key: key.as_str(),
        version: version.to_string(),
    };
    Ok((status, [(header::ETAG, conditions::etag(version))], Json(body)).into_response())
}

#[utoipa::path(
    delete, path = "/v1/fences/{fence}/records/{*key}", operation_id = "deleteRecord", tag = "records",
    summary = "Delete a record", description = "Nothing happens where there is none.",
    params(parameters::Fence, parameters::Key, parameters::Token, parameters::Conditions, parameters::IdempotencyKey),
    responses((status = 204, description = "There is no such record any more"), problems::Delete),
)]
async fn delete(
    State(gateway): State<Arc<Gateway>>,
    client: Client,
    ToWrite(fence): ToWrite,
    Key(key): Key,
    shown: ShownToken,
    idempotency: IdempotencyKey,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let once = idempotency.once(&gateway, "DELETE", &record(&fence, &key));
    let condition = conditions::of_write(&headers)?;
    let token = gateway.admissible(&client, &fence, &shown).await;
    let write = Write {
        fence,
        token: token.mark,
        key,
        change: Change::Delete,
        condition,
    };
    let (_, replayed) = gateway.write(&client, write, once, token.refused, None).await?;
    Ok(idempotency::mark(
        StatusCode::NO_CONTENT.into_response(),
        replayed,
    ))
}

/// The path of a record, however it was encoded.
pub(super) fn record<'a>(fence: &'a FenceName, key: &'a RecordKey) -> [&'a str; 3] {
    ["records", fence.as_str(), key.as_str()]
}

/// With a token, the read is fenced. The token is looked at after the record: if it is still the mark then, it was
/// when the record was read, and nobody newer had written.
#[utoipa::path(
    get, path = "/v1/fences/{fence}/records/{*key}", operation_id = "readRecord", tag = "records",
    summary = "Read a record", description = "With a token, the read is fenced.",
    params(parameters::Fence, parameters::Key, parameters::AnyToken, parameters::Known),
    responses(
        (status = 200, description = "Its bytes, in the type that they were written with", body = Vec<u8>,
         content_type = "*/*",
         headers(("ETag" = String, description = "The version"), ("Last-Modified" = String))),
        (status = 304, description = "It is still in the version that the reader knows"),
        problems::Read
    ),
)]
async fn read(
    State(gateway): State<Arc<Gateway>>,
    client: Client,
    ToRead(fence): ToRead,
    Key(key): Key,
    shown: Option<ShownToken>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let record = gateway.read(gateway.locks.store().read(&fence, &key)).await?;
    if let Some(shown) = shown {
        fences::admit(&gateway, &client, &fence, &shown).await?;
    }
    let Some(Record {
        value,
        version,
        updated_at,
    }) = record
    else {
        return Err(Problem::record_not_found());
    };
    let mut answer = HeaderMap::new();
    answer.insert(header::ETAG, conditions::etag(version));
    let modified = httpdate::fmt_http_date(SystemTime::from(updated_at));
    if let Ok(modified) = HeaderValue::from_str(&modified) {
        answer.insert(header::LAST_MODIFIED, modified);
    }
    answer.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("private, no-cache"),
    );
    if conditions::is_known(&headers, version) {
        return Ok((StatusCode::NOT_MODIFIED, answer).into_response());
    }
    let content_type = HeaderValue::from_str(&value.content_type);
    answer.insert(
        header::CONTENT_TYPE,
        content_type.unwrap_or(HeaderValue::from_static(UNNAMED)),
    );
    answer.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    answer.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(HARMLESS),
    );
    Ok((answer, value.bytes).into_response())
}

fn content_type(headers: &HeaderMap) -> Result<String, Problem> {
    let mut given = headers.get_all(header::CONTENT_TYPE).iter();
    let Some(value) = given.next() else {
        return Ok(UNNAMED.into());
    };
    match value.to_str() {
        Ok(text) if given.next().is_none() && media_type::is_media_type(text) => Ok(text.into()),
        _ => Err(Problem::header_malformed(format!(
            "Content-Type is one media type of at most {} bytes, as text/plain; charset=utf-8",
            media_type::LONGEST
        ))),
    }
}
