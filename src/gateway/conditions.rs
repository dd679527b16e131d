//! Conditional requests: entity tags, `If-Match`, `If-None-Match`.
//!
//! A record's entity tag is its version in quotes, and strong: every write makes a new one.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use super::Problem;
use crate::store::{Condition, Version};

/// No record is ever in this version.
const NEVER: Version = Version(0);

/// The entity tag of a version.
pub(super) fn etag(version: Version) -> HeaderValue {
    // A number in quotes is always a header value.
    HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"0\""))
}

/// Under which condition a write is to happen.
///
/// A date is none: of two versions within one second it cannot tell which is meant. Beside `If-Match` it says nothing, and
/// `If-Modified-Since` never does on a write (RFC 9110, 13.1.3 and 13.1.4).
pub(super) fn of_write(headers: &HeaderMap) -> Result<Condition, Problem> {
    let (date, tag) = (header::IF_UNMODIFIED_SINCE, header::IF_MATCH);
    if headers.contains_key(date) && !headers.contains_key(tag) {
        return Err(Problem::header_malformed(
            "a write takes no If-Unmodified-Since: send the ETag of the record as If-Match",
        ));
    }
    match (
        one(headers, header::IF_MATCH)?,
        one(headers, header::IF_NONE_MATCH)?,
    ) {
        (None, None) => Ok(Condition::Always),
        (Some("*"), None) => Ok(Condition::Present),
        (None, Some("*")) => Ok(Condition::Absent),
        (Some(tag), None) => Ok(Condition::Version(version(tag)?.unwrap_or(NEVER))),
        (None, Some(_)) => Err(Problem::header_malformed(
            "a write takes If-None-Match: * and nothing else there",
        )),
        (Some(_), Some(_)) => Err(Problem::header_malformed(
            "a write takes If-Match or If-None-Match, not both",
        )),
    }
}

/// Under which condition an operation of a transaction is to happen: `*`, an entity tag, or just the version.
pub(super) fn of_operation(
    if_match: Option<&str>,
    if_none_match: Option<&str>,
) -> Result<Condition, Problem> {
    match (if_match, if_none_match) {
        (None, None) => Ok(Condition::Always),
        (Some("*"), None) => Ok(Condition::Present),
        (None, Some("*")) => Ok(Condition::Absent),
        (Some(text), None) => {
            let is_bare = text.bytes().all(|byte| byte.is_ascii_digit());
            let tag = if is_bare {
                format!("\"{text}\"")
            } else {
                text.to_owned()
            };
            let version = version(&tag).map_err(|_| {
                Problem::body_malformed("if_match is *, an entity tag in its quotes, or a version")
            })?;
            Ok(Condition::Version(version.unwrap_or(NEVER)))
        }
        (None, Some(_)) => Err(Problem::body_malformed("if_none_match is * and nothing else")),
        (Some(_), Some(_)) => Err(Problem::body_malformed(
            "an operation has if_match or if_none_match, not both",
        )),
    }
}

/// Whether a reader has this version already.
pub(super) fn is_known(headers: &HeaderMap, version: Version) -> bool {
    let mut tags = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim);
    let current = format!("\"{version}\"");
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == current)
}

fn one(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(&name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    match (value.to_str(), values.next()) {
        (Ok(text), None) => Ok(Some(text.trim())),
        _ => Err(Problem::header_malformed(format!(
            "{name} is not one header of ASCII text"
        ))),
    }
}

/// The version in an entity tag; `None` for a tag that no record here ever had, such as a weak one.
fn version(tag: &str) -> Result<Option<Version>, Problem> {
    let opaque = tag.strip_prefix("W/").unwrap_or(tag);
    let inner = opaque.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
    let Some(inner) = inner.filter(|inner| !inner.contains(['"', ' '])) else {
        return Err(Problem::header_malformed(
            "If-Match takes * or one entity tag, in its quotes, as in the ETag of the record",
        ));
    };
    let plain = inner.bytes().all(|byte| byte.is_ascii_digit()) && !inner.starts_with('0');
    let number = inner.parse().ok().filter(|_| plain && opaque == tag);
    Ok(number.map(Version))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(pairs: &[(HeaderName, &str)]) -> Option<Condition> {
        let headers = pairs
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect();
        of_write(&headers).ok()
    }

    #[test]
    fn reads_conditions() {
        use header::{IF_MATCH, IF_NONE_MATCH};
        assert_eq!(condition(&[]), Some(Condition::Always));
        assert_eq!(condition(&[(IF_MATCH, "*")]), Some(Condition::Present));
        assert_eq!(condition(&[(IF_NONE_MATCH, "*")]), Some(Condition::Absent));
        assert_eq!(
            condition(&[(IF_MATCH, "\"17\"")]),
            Some(Condition::Version(Version(17)))
        );
        for foreign in [
            "W/\"17\"",
            "\"017\"",
            "\"abc\"",
            "\"\"",
            "\"99999999999999999999\"",
            "\"+1\"",
        ] {
            assert_eq!(
                condition(&[(IF_MATCH, foreign)]),
                Some(Condition::Version(NEVER)),
                "{foreign}"
            );
        }
        for unreadable in ["17", "\"1\", \"2\"", "\"", "'1'", ""] {
            assert_eq!(condition(&[(IF_MATCH, unreadable)]), None, "{unreadable}");
        }
        assert_eq!(condition(&[(IF_NONE_MATCH, "\"1\"")]), None);
        assert_eq!(condition(&[(IF_MATCH, "*"), (IF_NONE_MATCH, "*")]), None);
        assert_eq!(condition(&[(IF_MATCH, "\"1\""), (IF_MATCH, "\"2\"")]), None);
    }
}
