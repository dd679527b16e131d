//! Request bodies: never more of them in memory than is allowed, and never a part of one taken for the whole.

use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use axum::body::{Body, HttpBody};
use futures::StreamExt;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::error::Category;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Gateway, Problem};

/// How much of a body that is too large is read and thrown away. A client that is still sending when the
/// connection closes would see a broken pipe, and not the answer.
const DISCARDED: usize = 4 * 1024 * 1024;
/// And for how long.
const DISCARDING: Duration = Duration::from_secs(2);

/// The first bytes of each body are not counted, so that small requests are served whatever others send. Connections are
/// few enough for that.
const UNCOUNTED: usize = 16 * 1024;

/// The bytes that bodies may have together until what they ask for is done: a permit for each.
pub(super) struct Bodies(Arc<Semaphore>);

impl Bodies {
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))))
    }

    fn room(&self) -> Room {
        Room {
            bodies: self.0.clone(),
            taken: None,
        }
    }
}

/// What one body takes of them. It goes with the bytes, also where these outlive their request, and is given back when it
/// is dropped.
pub(super) struct Room {
    bodies: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// Takes as many bytes more, or none.
    fn take(&mut self, bytes: usize) -> Result<(), Problem> {
        if bytes == 0 {
            return Ok(());
        }
        let permits = u32::try_from(bytes).ok();
        let more = permits.and_then(|permits| self.bodies.clone().try_acquire_many_owned(permits).ok());
        let more = more.ok_or_else(Problem::too_many_bodies)?;
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            None => self.taken = Some(more),
        }
        Ok(())
    }
}

fn counted(bytes: usize) -> usize {
    bytes.saturating_sub(UNCOUNTED)
}

/// The whole body, of at most `limit` bytes, which has [`Config::body_timeout`](super::Config) to arrive.
pub(super) async fn read(gateway: &Gateway, body: Body, limit: usize) -> Result<(Vec<u8>, Room), Problem> {
    let timeout = gateway.config.body_timeout;
    match tokio::time::timeout(timeout, collect(body, limit, gateway.bodies.room())).await {
        Ok(bytes) => bytes,
        Err(_) => Err(Problem::body_timeout(timeout)),
    }
}

async fn collect(body: Body, limit: usize, mut room: Room) -> Result<(Vec<u8>, Room), Problem> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let mut refused = (announced > limit).then(|| Problem::body_too_large(limit));
    if refused.is_some() && announced > limit.saturating_add(DISCARDED) {
        return Err(Problem::body_too_large(limit));
    }
    let mut bytes = Vec::new();
    let mut chunks = body.into_data_stream();
    while refused.is_none()
        && let Some(chunk) = chunks.next().await
    {
        let chunk = chunk.map_err(|_| Problem::body_malformed("the body ended before its end"))?;
        let with_it = bytes.len() + chunk.len();
        refused = match with_it <= limit {
            true => room.take(counted(with_it) - counted(bytes.len())).err(),
            false => Some(Problem::body_too_large(limit)),
        };
        bytes.extend_from_slice(&chunk);
    }
    let Some(problem) = refused else {
        return Ok((bytes, room));
    };
    drop((bytes, room));
    let mut discarded = 0;
    let discard = async {
        while let Some(Ok(chunk)) = chunks.next().await
            && discarded <= DISCARDED
        {
            discarded += chunk.len();
        }
    };
    // Whether or not it was in time: the client is told.
    let _ = tokio::time::timeout(DISCARDING, discard).await;
    Err(problem)
}

/// A JSON object; no body at all stands for an empty one.
pub(super) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let bytes = if bytes.is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(bytes)
        .map(|Object(read)| read)
        .map_err(|error| {
            Problem::body_malformed(match error.classify() {
                Category::Data => error.to_string(),
                _ => format!("it is no JSON object: {error}"),
            })
        })
}

/// What is written as an object. A list of as many values would do as well otherwise, in an order that nobody has
/// promised.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
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
