//! JSON merge patches (RFC 7396).
//!
//! What a patch does not name keeps its text as it was stored: a number of thirty digits does not become another
//! one because something beside it was changed.

use std::collections::BTreeMap;

use serde_json::{Value, value::RawValue};

/// A merge patch, which is JSON. Nested at most as deep as `serde_json` reads values.
#[derive(Clone)]
pub struct MergePatch {
    text: Box<RawValue>,
    longest: usize,
}

/// Why a patch cannot be applied, or is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// The patch is not JSON.
    #[error("the patch is not JSON: {0}")]
    Patch(String),
    /// There is no record.
    #[error("there is no record to patch: put one")]
    Absent,
    /// What is stored is not JSON.
    #[error("the stored value is not JSON, so no merge patch applies: put a new one")]
    NotJson,
    /// The patched value is too long.
    #[error("the patched value would have {length} bytes, and may have {longest}")]
    TooLong {
        /// What it would have.
        length: usize,
        /// What it may have.
        longest: usize,
    },
}

impl MergePatch {
    /// Reads a patch whose results may have `longest` bytes.
    ///
    /// # Errors
    /// [`MergeError::Patch`] if it is not JSON, or nested too deep.
    pub fn new(text: &[u8], longest: usize) -> Result<Self, MergeError> {
        let not_json = |error: serde_json::Error| MergeError::Patch(error.to_string());
        // Raw text is read to any depth, values are not.
        serde_json::from_slice::<Value>(text).map_err(not_json)?;
        Ok(Self {
            text: serde_json::from_slice(text).map_err(not_json)?,
            longest,
        })
    }

    /// The patch as it was given.
    pub fn text(&self) -> &str {
        self.text.get()
    }

    /// What comes of a stored value.
    ///
    /// # Errors
    /// [`MergeError::NotJson`] and [`MergeError::TooLong`].
    pub fn apply(&self, stored: &[u8]) -> Result<Vec<u8>, MergeError> {
        let stored = serde_json::from_slice::<&RawValue>(stored).map_err(|_| MergeError::NotJson)?;
        let merged = merge(Some(stored), &self.text).map_err(|_| MergeError::NotJson)?;
        let (length, longest) = (merged.get().len(), self.longest);
        if length > longest {
            return Err(MergeError::TooLong { length, longest });
        }
        Ok(String::from(Box::<str>::from(merged)).into_bytes())
    }
}

/// A patch may be long, and secret.
impl std::fmt::Debug for MergePatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MergePatch({} bytes)", self.text().len())
    }
}

impl PartialEq for MergePatch {
    fn eq(&self, other: &Self) -> bool {
        (self.text(), self.longest) == (other.text(), other.longest)
    }
}

impl Eq for MergePatch {}

type Members<'a> = BTreeMap<String, &'a RawValue>;

/// The algorithm of RFC 7396, section 2. As deep as the patch, whatever the target is.
fn merge(target: Option<&RawValue>, patch: &RawValue) -> Result<Box<RawValue>, serde_json::Error> {
    if !is_object(patch) {
        return Ok(patch.to_owned());
    }
    let named: Members = serde_json::from_str(patch.get())?;
    let kept: Members = match target.filter(|target| is_object(target)) {
        Some(target) => serde_json::from_str(target.get())?,
        None => Members::new(),
    };
    let mut merged: BTreeMap<String, Box<RawValue>> = BTreeMap::new();
    for (name, patch) in &named {
        if patch.get() != "null" {
            merged.insert(name.clone(), merge(kept.get(name).copied(), patch)?);
        }
    }
    for (name, value) in kept {
        if !named.contains_key(&name) {
            merged.insert(name, value.to_owned());
        }
    }
    serde_json::value::to_raw_value(&merged)
}

/// Raw text has no space before it.
fn is_object(text: &RawValue) -> bool {
    text.get().starts_with('{')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(stored: &str, patch: &str) -> String {
        let patch = MergePatch::new(patch.as_bytes(), 1000).unwrap();
        String::from_utf8(patch.apply(stored.as_bytes()).unwrap()).unwrap()
    }

    /// Appendix A of RFC 7396.
    #[test]
    fn does_what_the_standard_shows() {
        for (stored, patch, result) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (
                r#"{"a":{"b":"c"}}"#,
                r#"{"a":{"b":"d","c":null}}"#,
                r#"{"a":{"b":"d"}}"#,
            ),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
            (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
            (r#"{"a":"foo"}"#, "null", "null"),
            (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"a":1,"e":null}"#),
            ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            assert_eq!(merged(stored, patch), result, "{stored} and {patch}");
        }
    }

    #[test]
    fn leaves_the_rest_as_it_was() {
        let stored = r#" {"n": 123456789012345678901234567890.50, "o": {"x": 1e400}, "z" : 1 } "#;
        assert_eq!(
            merged(stored, r#"{"o":{"y":1.10},"z":2}"#),
            r#"{"n":123456789012345678901234567890.50,"o":{"x":1e400,"y":1.10},"z":2}"#
        );
    }

    #[test]
    fn refuses_what_it_cannot_do() {
        for patch in [
            "",
            "{",
            "nope",
            r#"{"a":1}{"#,
            &"[".repeat(100_000),
            &"{\"a\":".repeat(100_000),
        ] {
            assert!(matches!(
                MergePatch::new(patch.as_bytes(), 10),
                Err(MergeError::Patch(_))
            ));
        }
        let patch = MergePatch::new(br#"{"a":"0123456789"}"#, 20).unwrap();
        assert_eq!(patch.apply(b"{}").unwrap(), br#"{"a":"0123456789"}"#);
        assert_eq!(
            patch.apply(br#"{"b":1}"#),
            Err(MergeError::TooLong {
                length: 24,
                longest: 20
            })
        );
        for stored in [&b""[..], b"text", b"\xff", b"{}x"] {
            assert_eq!(patch.apply(stored), Err(MergeError::NotJson), "{stored:?}");
        }
        // As deep as may be stored, since it is not looked into.
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(patch.apply(deep.as_bytes()).is_ok());
    }
}
