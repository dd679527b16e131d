//! Names of fences and keys of records: what they may be, checked once, where they come in.

use std::{fmt, str::FromStr};

/// The name of a fence: 1 to 200 bytes of UTF-8 without `/` or control characters, and not `.` or `..`.
///
/// A slash would put the queue of `a/b` inside that of `a`, so write `invoices:2026-11`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FenceName(String);

/// The key of a record: 1 to 1,024 bytes of UTF-8 without control characters. Slashes are fine; a segment that
/// is `.` or `..` is not, since HTTP clients resolve it before it is sent.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey(String);

impl FenceName {
    /// The most bytes that a name has.
    pub const LONGEST: usize = 200;
}

impl RecordKey {
    /// The most bytes that a key has.
    pub const LONGEST: usize = 1024;
}

impl FromStr for FenceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        const WHAT: &str = "a fence name";
        check(WHAT, text, Self::LONGEST)?;
        if text.contains('/') {
            return Err(NameError::Slash);
        }
        if is_dots(text) {
            return Err(NameError::Dots(WHAT));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for RecordKey {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        const WHAT: &str = "a record key";
        check(WHAT, text, Self::LONGEST)?;
        if text.split('/').any(is_dots) {
            return Err(NameError::Dots(WHAT));
        }
        Ok(Self(text.to_owned()))
    }
}

fn is_dots(segment: &str) -> bool {
    segment == "." || segment == ".."
}

fn check(what: &'static str, text: &str, longest: usize) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty(what));
    }
    if text.len() > longest {
        return Err(NameError::TooLong {
            what,
            longest,
            length: text.len(),
        });
    }
    if text.chars().any(char::is_control) {
        return Err(NameError::Control(what));
    }
    Ok(())
}

macro_rules! text {
    ($name:ident) => {
        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = NameError;

            fn try_from(text: &str) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl TryFrom<&$name> for $name {
            type Error = NameError;

            fn try_from(name: &$name) -> Result<Self, NameError> {
                Ok(name.clone())
            }
        }
    };
}
text!(FenceName);
text!(RecordKey);

/// Why a text is not a name or a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// No bytes at all.
    #[error("{0} has at least one byte")]
    Empty(&'static str),
    /// More bytes than allowed.
    #[error("{what} has at most {longest} bytes of UTF-8, this one has {length}")]
    TooLong {
        /// What the text was to be.
        what: &'static str,
        /// The limit in bytes.
        longest: usize,
        /// Its length in bytes.
        length: usize,
    },
    /// A control character, such as a line end or NUL.
    #[error("{0} has no control characters, such as a line end or a NUL")]
    Control(&'static str),
    /// A slash in a fence's name.
    #[error("a fence name has no slash: write invoices:2026-11, and keep the slashes for record keys")]
    Slash,
    /// `.` or `..`.
    #[error("{0} cannot be, or have as a segment, \".\" or \"..\": clients resolve them before they send")]
    Dots(&'static str),
}

/// A name that is one already.
impl From<std::convert::Infallible> for NameError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_it_says() {
        for name in [
            "a",
            "invoices:2026-11",
            "ünï cödé %2F 🦀",
            "...",
            ".a",
            &"x".repeat(200),
        ] {
            assert_eq!(name.parse::<FenceName>().unwrap().as_str(), name);
        }
        for key in ["a", "a/b//c", "/a/", "100% / ü", ".../..a", &"x".repeat(1024)] {
            assert_eq!(key.parse::<RecordKey>().unwrap().as_str(), key);
        }
    }

    #[test]
    fn refuses_the_rest() {
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "a\nb",
            "a\0",
            "\u{7f}",
            "\u{85}",
            &"x".repeat(201),
            &"ü".repeat(101),
        ] {
            assert!(name.parse::<FenceName>().is_err(), "{name:?}");
        }
        for key in ["", "..", "a/../b", "./a", "a/.", "a\0b", &"x".repeat(1025)] {
            assert!(key.parse::<RecordKey>().is_err(), "{key:?}");
        }
    }
}
