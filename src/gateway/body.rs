//! Request bodies: never more of them in memory than is allowed, and never a part of one taken for the whole.

use std::{fmt, time::Duration};

use axum::body::{Body, HttpBody};
use futures::StreamExt;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, Visitor},
};

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
    Ok(Option::<Written>::deserialize(deserializer)?.map(|written| written.0))
}

/// A duration with its unit.
struct Written(Duration);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(WrittenVisitor)
    }
}

/// Says how a duration is written to whoever sends a number.
struct WrittenVisitor;

impl Visitor<'_> for WrittenVisitor {
    type Value = Written;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration as \"10s\" or \"1m 30s\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Written, E> {
        let read = humantime::parse_duration(text).map(Written);
        read.map_err(|error| E::custom(format!("a duration is written as \"10s\" or \"1m 30s\": {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Asked {
        #[serde(default, deserialize_with = "duration")]
        ttl: Option<Duration>,
    }

    #[test]
    fn a_duration_without_its_unit_is_told_how_to_be_written() {
        let read = |text: &str| serde_json::from_str::<Asked>(text).map(|asked| asked.ttl);
        assert_eq!(
            read(r#"{"ttl":"1m 30s"}"#).unwrap(),
            Some(Duration::from_secs(90))
        );
        assert_eq!(read(r#"{"ttl":null}"#).unwrap(), None);
        assert_eq!(read("{}").unwrap(), None);
        for wrong in [r#"{"ttl":30}"#, r#"{"ttl":"30"}"#, r#"{"ttl":{}}"#] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains(r#"as "10s" or "1m 30s""#), "{error}");
        }
    }
}
