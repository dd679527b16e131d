//! The token that a request shows, in `Fencing-Token` or its alias `X-Fencing-Token`.

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    http::{HeaderMap, HeaderName, request::Parts},
};

use super::Problem;
use crate::token::{Sequence, Token, TokenError};

/// The header, on requests and on the answer to an acquisition.
pub(super) const FENCING_TOKEN: HeaderName = HeaderName::from_static("fencing-token");
const ALIAS: HeaderName = HeaderName::from_static("x-fencing-token");

/// The token of a request. A request without one is refused, unless the handler takes an `Option`.
pub(super) enum ShownToken {
    /// A lease's.
    Whole(Token),
    /// A bare sequence, of a program that took its lock directly on the lock service.
    Foreign(Sequence),
}

/// The token of a lease. A request without one is refused, unless the handler takes an `Option`.
pub(super) struct Presented(pub(super) Token);

impl std::fmt::Display for ShownToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(token) => token.fmt(f),
            Self::Foreign(sequence) => sequence.fmt(f),
        }
    }
}

impl ShownToken {
    fn whole(self) -> Result<Token, Problem> {
        match self {
            Self::Whole(token) => Ok(token),
            Self::Foreign(sequence) => Err(Problem::token_foreign(sequence)),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for ShownToken {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        read(&parts.headers)?.ok_or_else(Problem::token_required)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for ShownToken {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Problem> {
        read(&parts.headers)
    }
}

impl<S: Sync> FromRequestParts<S> for Presented {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let shown = read(&parts.headers)?.ok_or_else(Problem::token_required)?;
        shown.whole().map(Self)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Presented {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Problem> {
        let shown = read(&parts.headers)?;
        Ok(shown.map(ShownToken::whole).transpose()?.map(Self))
    }
}

/// A header that is there but unreadable is never taken for one that is not.
pub(super) fn read(headers: &HeaderMap) -> Result<Option<ShownToken>, Problem> {
    let mut presented = headers
        .get_all(FENCING_TOKEN)
        .iter()
        .chain(headers.get_all(ALIAS));
    let Some(value) = presented.next() else {
        return Ok(None);
    };
    if presented.any(|other| other != value) {
        return Err(Problem::tokens_differ());
    }
    let text = value.to_str().map_err(|_| Problem::token_not_text())?;
    parse(text).map(Some)
}

/// Reads a token, wherever it was sent.
pub(super) fn parse(text: &str) -> Result<ShownToken, Problem> {
    match text.parse() {
        Ok(token) => Ok(ShownToken::Whole(token)),
        Err(TokenError::Foreign) => match text.parse().ok().and_then(Sequence::new) {
            Some(sequence) => Ok(ShownToken::Foreign(sequence)),
            None => Err(Problem::token_malformed(TokenError::Number)),
        },
        Err(error) => Err(Problem::token_malformed(error)),
    }
}
