//! What stands behind the question mark. What a call does not know is refused: a question that is passed over would be
//! answered as if it had not been asked.

use axum::{
    extract::{FromRequestParts, Query},
    http::request::Parts,
};
use serde::de::DeserializeOwned;

use super::Problem;

/// What axum puts before whatever is wrong.
const PREFIX: &str = "Failed to deserialize query string: ";

/// What a call may be asked.
pub(super) struct Asking<T>(pub(super) T);

/// That a call is asked nothing.
pub(super) struct NoQuery;

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Asking<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(asked)) => Ok(Self(asked)),
            Err(error) => {
                let text = error.body_text();
                Err(Problem::query_malformed(
                    text.strip_prefix(PREFIX).unwrap_or(&text),
                ))
            }
        }
    }
}

impl<S: Sync> FromRequestParts<S> for NoQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match parts.uri.query() {
            None | Some("") => Ok(Self),
            Some(_) => Err(Problem::query_malformed(
                "this call has no query: leave out all from the question mark on",
            )),
        }
    }
}
