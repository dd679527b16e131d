//! Where the calls are.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::name::{FenceName, RecordKey};

/// What stays as it is in a segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b':');
/// The same in a record's key, whose slashes are segments' ends.
const KEY: &AsciiSet = &SEGMENT.remove(b'/');

pub(super) const FENCES: &str = "/v1/fences";

pub(crate) fn fence(fence: &FenceName) -> String {
    format!("{FENCES}/{}", utf8_percent_encode(fence.as_str(), SEGMENT))
}

pub(super) fn lease(name: &FenceName) -> String {
    format!("{}/lease", fence(name))
}

pub(super) fn records(name: &FenceName) -> String {
    format!("{}/records", fence(name))
}

pub(crate) fn record(name: &FenceName, key: &RecordKey) -> String {
    format!("{}/{}", records(name), utf8_percent_encode(key.as_str(), KEY))
}

/// A path with these parameters, as far as they have values.
pub(super) fn query(path: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            query.append_pair(name, value);
        }
    }
    match query.finish().as_str() {
        "" => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}
