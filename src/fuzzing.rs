//! What must hold of every text that comes in from outside, whatever it is.
//!
//! Each function takes bytes that somebody made up and panics if a promise is broken. They are compiled for tests and
//! for fuzzing only: `make fuzz` has libFuzzer make the bytes up, and the tests have proptest do it, after they went
//! through all that is kept in `fuzz/seeds`.

#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use crate::{
    name::{FenceName, RecordKey},
    scheme,
    store::MergePatch,
    token::{Sequence, Token, TokenError},
};

#[cfg(feature = "gateway")]
pub use crate::gateway::fuzzing::{conditions, paths, token_headers};
pub use crate::lock::fuzzing::addresses;

/// A function of this module.
pub type Target = fn(&[u8]);

/// All of them, by the names of their folders of seeds.
pub const TARGETS: &[(&str, Target)] = &[
    ("tokens", tokens),
    ("names", names),
    ("merge_patches", merge_patches),
    ("addresses", addresses),
    #[cfg(feature = "gateway")]
    ("token_headers", token_headers),
    #[cfg(feature = "gateway")]
    ("paths", paths),
    #[cfg(feature = "gateway")]
    ("conditions", conditions),
];

/// Whether a text is a whole token, read in another way than [`Token`] does.
pub(crate) fn is_token(text: &str) -> bool {
    let holder = |text: &str| text.len() == 32 && text.chars().all(|c| "0123456789abcdef".contains(c));
    let parts: Vec<&str> = text.split('-').collect();
    parts.len() == 3 && is_number(parts[0]) && is_number(parts[1]) && holder(parts[2])
}

/// Whether a text is 1 to [`i64::MAX`] as it is written by a machine.
pub(crate) fn is_number(text: &str) -> bool {
    let number: Option<i64> = text.parse().ok();
    number.is_some_and(|number| number > 0 && number.to_string() == text)
}

/// A token is read from exactly what it is written as, and shows its holder to nobody by accident.
pub fn tokens(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let read = text.parse::<Token>();
    assert_eq!(read.is_ok(), is_token(text), "{read:?}");
    assert_eq!(
        read == Err(TokenError::Foreign),
        is_number(text),
        "a bare number is a foreign token, and nothing else is"
    );
    if let Ok(token) = read {
        assert_eq!(token.expose(), text);
        let shown = format!("{token} {token:?} {} {:?}", token.mark(), token.mark());
        assert!(!shown.contains(&token.holder.expose()));
        assert_eq!(token.to_string(), format!("{}-{}", token.epoch, token.sequence));
        assert!(Sequence::new(token.sequence.get()) == Some(token.sequence));
    }
}

/// A name is what was given, letter for letter, and nothing that a path or a log line could be led astray by.
pub fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let plain = !text.is_empty() && !text.chars().any(char::is_control);
    let no_dots = |text: &str| text != "." && text != "..";
    let fence = text.parse::<FenceName>();
    let is_fence = plain && bytes.len() <= 200 && !text.contains('/') && no_dots(text);
    assert_eq!(fence.is_ok(), is_fence, "{fence:?}");
    let key = text.parse::<RecordKey>();
    let is_key = plain && bytes.len() <= 1024 && text.split('/').all(no_dots);
    assert_eq!(key.is_ok(), is_key, "{key:?}");
    if let Ok(fence) = fence {
        assert_eq!((fence.as_str(), fence.to_string().as_str()), (text, text));
    }
    if let Ok(key) = key {
        assert_eq!((key.as_str(), key.to_string().as_str()), (text, text));
    }
    if let Some(meant) = Some(scheme::hint(text, &["etcd", "redis"])).filter(|meant| !meant.is_empty()) {
        assert!(meant.contains("etcd") || meant.contains("redis"), "{meant}");
    }
}

/// A merge patch does what the standard's own few lines do, and doing it again changes nothing. The bytes are what is
/// stored, a line end, and the patch.
pub fn merge_patches(bytes: &[u8]) {
    const LONGEST: usize = 1 << 20;
    let at = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(bytes.len());
    let (stored, patch) = (&bytes[..at], bytes.get(at + 1..).unwrap_or_default());
    let as_value = serde_json::from_slice::<Value>(patch);
    let patch = MergePatch::new(patch, LONGEST);
    assert_eq!(patch.is_ok(), as_value.is_ok(), "{patch:?}");
    let (Ok(patch), Ok(as_value)) = (patch, as_value) else {
        return;
    };
    let Ok(merged) = patch.apply(stored) else {
        // Numbers and depths that a `Value` cannot have are fine where the patch does not reach.
        assert!(serde_json::from_slice::<Value>(stored).is_err());
        return;
    };
    assert_eq!(patch.apply(&merged).as_ref(), Ok(&merged), "twice is once");
    if let Ok(stored) = serde_json::from_slice::<Value>(stored) {
        let expected = as_the_standard_says(Some(stored), &as_value);
        assert_eq!(serde_json::from_slice::<Value>(&merged).ok(), Some(expected));
    }
    let shorter = MergePatch::new(patch.text().as_bytes(), merged.len().saturating_sub(1));
    if let Ok(shorter) = shorter {
        assert!(shorter.apply(stored).is_err(), "the limit is kept");
    }
}

/// `MergePatch` of RFC 7396, section 2, line by line.
fn as_the_standard_says(target: Option<Value>, patch: &Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch.clone();
    };
    let mut target = match target {
        Some(Value::Object(target)) => target,
        _ => Map::new(),
    };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            let before = target.remove(name);
            target.insert(name.clone(), as_the_standard_says(before, value));
        }
    }
    Value::Object(target)
}
