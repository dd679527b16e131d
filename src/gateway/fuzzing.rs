//! What must hold of every header and path: see [`crate::fuzzing`].

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{
    conditions, path,
    token_header::{self, FENCING_TOKEN, ShownToken},
};
use crate::{
    fuzzing::{is_number, is_token},
    name::{FenceName, RecordKey},
    store::{Condition, Version},
};

/// Headers of these lines, `letter` of which says to which of the names a line belongs.
fn headers(bytes: &[u8], names: [HeaderName; 2]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let (name, value) = match line {
            [b'1', b' ', value @ ..] => (&names[0], value),
            [b'2', b' ', value @ ..] => (&names[1], value),
            _ => continue,
        };
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    headers
}

/// However often, and under either name, a request shows one token or none, or is refused. Lines `1 TOKEN` are
/// `Fencing-Token`, lines `2 TOKEN` are its alias.
pub fn token_headers(bytes: &[u8]) {
    let headers = headers(bytes, [FENCING_TOKEN, HeaderName::from_static("x-fencing-token")]);
    let mut values = headers.values();
    let first = values.next();
    let agreed = first.filter(|first| values.all(|other| other == first));
    let text = agreed.and_then(|value| value.to_str().ok()).unwrap_or_default();
    match token_header::read(&headers) {
        Ok(None) => assert!(headers.is_empty(), "an unreadable token is not taken for none"),
        Ok(Some(ShownToken::Whole(token))) => assert_eq!(token.expose(), text),
        Ok(Some(ShownToken::Foreign(sequence))) => assert_eq!(sequence.to_string(), text),
        Err(_) => assert!(!headers.is_empty() && !is_token(text) && !is_number(text)),
    }
}

/// A path names one fence and one record, or is refused; and what our own client sends is what is read.
pub fn paths(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (fence, rest) = text.split_once('/').unwrap_or((text, ""));
    let read = path::fence(&format!("/v1/fences/{text}"));
    let read = read.expect("the path has a place for it").ok();
    let decoded = decoded(fence).and_then(|name| name.parse::<FenceName>().ok());
    assert_eq!(read, decoded);
    let read = path::key(&format!("/v1/fences/f/records/{rest}")).ok();
    let decoded = self::decoded(rest).and_then(|key| key.parse::<RecordKey>().ok());
    assert_eq!(read, decoded);
    assert!(path::fence(text.trim_start_matches("/v1/fences/")).is_none());
    #[cfg(feature = "client")]
    if let (Ok(fence), Ok(key)) = (fence.parse::<FenceName>(), rest.parse::<RecordKey>()) {
        use crate::client::path as ours;
        assert_eq!(
            path::fence(&ours::fence(&fence)).and_then(Result::ok),
            Some(fence.clone())
        );
        let sent = ours::record(&fence, &key);
        assert!(
            sent.bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'?' && byte != b'#')
        );
        assert_eq!(path::key(&sent).ok(), Some(key));
        assert_eq!(path::fence(&sent).and_then(Result::ok), Some(fence));
    }
}

/// Percent-decoding, as strictly as it can be done.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                u8::try_from(digit(bytes.next())? * 16 + digit(bytes.next())?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

/// A condition is met by exactly the version whose entity tag it is. Lines `1 TAG` are `If-Match`, lines `2 TAG` are
/// `If-None-Match`.
pub fn conditions(bytes: &[u8]) {
    let headers = headers(bytes, [header::IF_MATCH, header::IF_NONE_MATCH]);
    let text = |name| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::trim)
    };
    let (if_match, if_none_match) = (text(header::IF_MATCH), text(header::IF_NONE_MATCH));
    match conditions::of_write(&headers) {
        Ok(Condition::Always) => assert!(headers.is_empty(), "a condition is not left out"),
        Ok(Condition::Present) => assert_eq!((if_match, if_none_match), (Some("*"), None)),
        Ok(Condition::Absent) => assert_eq!((if_match, if_none_match), (None, Some("*"))),
        // No record is ever in version 0.
        Ok(Condition::Version(Version(0))) => assert!(if_match.is_some() && if_none_match.is_none()),
        Ok(Condition::Version(version)) => {
            assert_eq!(conditions::etag(version).to_str().ok(), if_match);
            assert!(version.0 > 0 && if_none_match.is_none());
        }
        Err(_) => assert!(!headers.is_empty()),
    }
    if let Ok(Condition::Version(version)) = conditions::of_operation(if_match, if_none_match) {
        let given = if_match.unwrap_or_default();
        let tag = format!("\"{version}\"");
        assert!(
            version.0 == 0 || given == tag || given == version.to_string(),
            "{given}"
        );
    }
    let mut version = 0;
    if let Some(digits) = if_none_match.and_then(|tags| tags.split('"').nth(1)) {
        version = digits.parse().unwrap_or_default();
    }
    if conditions::is_known(&headers, Version(version)) {
        let tags = headers.get_all(header::IF_NONE_MATCH).iter();
        let mut tags = tags.filter_map(|tags| tags.to_str().ok());
        assert!(tags.any(|tags| tags.contains('*') || tags.contains(&format!("\"{version}\""))));
    }
}
