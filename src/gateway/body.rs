//! Request bodies: never more of them in memory than is allowed, and never a part of one taken for the whole.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use futures::StreamExt;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

use super::Problem;

/// How much of a body that is too large is read and thrown away. A client that is still sending when the
/// connection closes would see a broken pipe, and not the answer.
const DISCARDED: usize = 4 * 1024 * 1024;

/// The whole body, of at most `limit` bytes, which has `timeout` to arrive.
pub(super) async fn read(body: Body, limit: usize, timeout: Duration) -> Result<Vec<u8>, Problem> {
    match tokio::time::timeout(timeout, collect(body, limit)).await {
        Ok(bytes) => bytes,
        Err(_) => Err(Problem::body_timeout(timeout)),
    }
}

async fn collect(body: Body, limit: usize) -> Result<Vec<u8>, Problem> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let (mut bytes, mut discarded, mut fits) = (Vec::new(), 0, announced <= limit);
    if !fits && announced > limit.saturating_add(DISCARDED) {
        return Err(Problem::body_too_large(limit));
    }
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Problem::body_malformed("the body ended before its end"))?;
        fits = fits && bytes.len() + chunk.len() <= limit;
        if fits {
            bytes.extend_from_slice(&chunk);
            continue;
        }
        bytes = Vec::new();
        discarded += chunk.len();
        if discarded > DISCARDED {
            break;
        }
    }
    fits.then_some(bytes)
        .ok_or_else(|| Problem::body_too_large(limit))
}

/// A JSON object; no body at all stands for an empty one.
pub(super) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let bytes = if bytes.is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(bytes).map_err(|error| Problem::body_malformed(error.to_string()))
}

/// Reads `"10s"`, `"1m 30s"`, `"500ms"`.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let duration = humantime::parse_duration(&text).map_err(|error| {
        serde::de::Error::custom(format!("a duration is written as \"10s\" or \"1m 30s\": {error}"))
    })?;
    Ok(Some(duration))
}
