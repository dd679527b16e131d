//! `Idempotency-Key`: a write that is asked for again, since its answer was lost, happens once.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::FromRequestParts,
    http::{HeaderName, HeaderValue, request::Parts},
    response::Response,
};

use super::{Gateway, Problem, auth::Client};
use crate::store::Once;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// On an answer that is not the first one.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// The most bytes of a key.
const LONGEST: usize = 255;
/// How often keys whose time is over are forgotten.
const PAUSE: Duration = Duration::from_secs(60);

/// The key of a request, if it has one, and whose it is.
pub(super) struct IdempotencyKey {
    key: Option<String>,
    client: Client,
}

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let client = Client::from_request_parts(parts, state).await?;
        let mut given = parts.headers.get_all(KEY).iter();
        let Some(value) = given.next() else {
            return Ok(Self { key: None, client });
        };
        let text = value.to_str().unwrap_or_default();
        let readable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if given.next().is_some() || !readable || !(1..=LONGEST).contains(&text.len()) {
            return Err(Problem::header_malformed(format!(
                "Idempotency-Key is one key of 1 to {LONGEST} bytes of visible ASCII"
            )));
        }
        let key = Some(text.to_owned());
        Ok(Self { key, client })
    }
}

impl IdempotencyKey {
    /// Whose request it is.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// What the store is to record for the client's request of this method and path.
    pub(super) fn once(self, gateway: &Gateway, method: &str, path: &[&str]) -> Option<Once> {
        let keep = gateway.config.idempotency_keep;
        let key = self.key?;
        Some(Once::new(self.client.name(), method, path, &key, keep))
    }
}

/// Says of an answer that it is not the first one.
pub(super) fn mark(mut answer: Response, replayed: bool) -> Response {
    if replayed {
        answer
            .headers_mut()
            .insert(REPLAYED, HeaderValue::from_static("true"));
    }
    answer
}

/// Forgets keys in the background, for as long as the gateway serves.
pub(super) async fn forget(gateway: Arc<Gateway>) {
    loop {
        tokio::time::sleep(PAUSE).await;
        match gateway.locks.store().forget_keys().await {
            Ok(0) => {}
            Ok(keys) => tracing::debug!(keys, "idempotency keys were forgotten"),
            Err(error) => tracing::debug!(%error, "idempotency keys could not be forgotten"),
        }
    }
}
