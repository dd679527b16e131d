//! The fence and the record that a path names.
//!
//! Read from the path as it was sent, since the router decodes leniently: a `%zz` would pass as those three
//! characters, and two clients would not agree on what the name is.

use std::borrow::Cow;

use axum::{extract::FromRequestParts, http::request::Parts};
use percent_encoding::percent_decode_str;

use super::{Problem, query::NoQuery};
use crate::name::{FenceName, RecordKey};

const FENCES: &str = "/v1/fences/";
const RECORDS: &str = "records/";

/// The fence that the path names.
pub(super) struct Fence(pub(super) FenceName);

/// The record that the path names. Its slashes may be sent as they are, or encoded. No call about one record has a query.
pub(super) struct Key(pub(super) RecordKey);

impl<S: Sync> FromRequestParts<S> for Fence {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match fence(parts.uri.path()) {
            Some(fence) => Ok(Self(fence?)),
            None => Err(Problem::route_not_found()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let NoQuery = NoQuery::from_request_parts(parts, state).await?;
        key(parts.uri.path()).map(Self)
    }
}

/// The fence in a path, if the path has a place for one.
pub(super) fn fence(path: &str) -> Option<Result<FenceName, Problem>> {
    let (name, _) = split(path)?;
    Some(decode(name).and_then(|name| name.parse().map_err(|error| Problem::name_malformed(&error))))
}

/// The record in a path.
pub(super) fn key(path: &str) -> Result<RecordKey, Problem> {
    let key = split(path).and_then(|(_, rest)| rest.strip_prefix(RECORDS));
    let key = decode(key.ok_or_else(Problem::route_not_found)?)?.parse();
    key.map_err(|error| Problem::name_malformed(&error))
}

/// The fence as it was sent, and what follows it.
fn split(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix(FENCES)?;
    Some(rest.split_once('/').unwrap_or((rest, "")))
}

fn decode(text: &str) -> Result<Cow<'_, str>, Problem> {
    let whole = text.as_bytes();
    let is_encoded = |at: usize| {
        let digits = whole.get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    let percents = whole.iter().enumerate().filter(|(_, byte)| **byte == b'%');
    for (at, _) in percents {
        if !is_encoded(at) {
            return Err(Problem::path_malformed(
                "a percent sign in the path is followed by two hexadecimal digits: send %25 for itself",
            ));
        }
    }
    percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| Problem::path_malformed("the path is not UTF-8 once it is decoded"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_strictly() {
        for (sent, name) in [
            ("a%2Fb", "a/b"),
            ("%25", "%"),
            ("a+b", "a+b"),
            ("%C3%BC", "ü"),
            ("", ""),
        ] {
            assert_eq!(decode(sent).ok().as_deref(), Some(name));
        }
        for sent in ["%", "%2", "a%zz", "%%41", "%C3", "%ff", "%+1"] {
            assert!(decode(sent).is_err(), "{sent}");
        }
    }
}
