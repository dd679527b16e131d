//! Fencing tokens: their parts, their order and their text form.
//!
//! A token orders the holders of one fence. Its text form is `<epoch>-<sequence>-<holder>`, for example
//! `1-1042-9f86d081884c7d659a2feaa0c55ad015`. The holder makes it a bearer credential, so neither `Debug` nor
//! `Display` shows it: they print `1-1042`. [`Token::expose`] gives the whole text, to be sent to whoever is
//! to hold it and nowhere else.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};

/// The longest text that can be a token: two numbers of 19 digits, a holder of 32, two hyphens.
const LONGEST: usize = 19 + 1 + 19 + 1 + 32;

/// A number kept in the store and raised when the history behind the sequences cannot be trusted to continue.
/// From 1 to [`i64::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(i64);

/// The number that the lock service gave one acquisition. From 1 to [`i64::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(i64);

macro_rules! positive {
    ($name:ident) => {
        impl $name {
            /// The smallest one.
            pub const FIRST: Self = Self(1);

            /// Takes a number from 1 to [`i64::MAX`]; `None` for any other.
            pub fn new(number: i64) -> Option<Self> {
                (number >= 1).then_some(Self(number))
            }

            /// The number.
            pub fn get(self) -> i64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}
positive!(Epoch);
positive!(Sequence);

/// 128 random bits, fresh for every acquisition. Whoever knows them may write as the holder.
#[derive(Clone, PartialEq, Eq)]
pub struct Holder([u8; 16]);

impl Holder {
    /// A new one, from the operating system's random numbers.
    pub fn random() -> Self {
        let mut bits = [0; 16];
        getrandom::fill(&mut bits).expect("the operating system gives random numbers");
        Self(bits)
    }

    /// Its SHA-256, which is all that is ever stored.
    pub fn hash(&self) -> HolderHash {
        HolderHash(Sha256::digest(self.0).into())
    }

    /// The bits themselves, for the database's eyes.
    #[cfg(feature = "postgres")]
    pub(crate) fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The 32 hexadecimal digits. A credential: not for logs.
    pub fn expose(&self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Holder(..)")
    }
}

impl FromStr for Holder {
    type Err = TokenError;

    /// Reads exactly 32 lower-case hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, TokenError> {
        let bytes = text.as_bytes();
        let digits = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
        let mut bits = [0; 16];
        if bytes.len() != 32 || !bytes.iter().all(digits) || hex::decode_to_slice(text, &mut bits).is_err() {
            return Err(TokenError::Holder);
        }
        Ok(Self(bits))
    }
}

/// The SHA-256 of a [`Holder`]: what the store and the lock services keep.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HolderHash([u8; 32]);

impl HolderHash {
    /// A hash that belongs to no holder that anybody knows. A mark that carries it is retired.
    pub fn of_nobody() -> Self {
        Holder::random().hash()
    }

    /// What stands for a client in the mark of its foreign token. No [`Holder`] has this hash: theirs are of 16
    /// bytes, and this one is of more.
    pub fn of_client(name: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"fencegate: the foreign tokens of the client ");
        hash.update(name.as_bytes());
        Self(hash.finalize().into())
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for HolderHash {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl TryFrom<&[u8]> for HolderHash {
    type Error = std::array::TryFromSliceError;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        bytes.try_into().map(Self)
    }
}

impl fmt::Debug for HolderHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HolderHash(..)")
    }
}

/// `(epoch, sequence, holder)`: what a writer shows to prove that it is the newest holder of a fence.
///
/// ```
/// let token: fencegate::Token = "1-1042-9f86d081884c7d659a2feaa0c55ad015".parse()?;
/// assert_eq!(token.to_string(), "1-1042");
/// assert_eq!(token.expose(), "1-1042-9f86d081884c7d659a2feaa0c55ad015");
/// # Ok::<(), fencegate::TokenError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The store's epoch when the token was granted.
    pub epoch: Epoch,
    /// The lock service's number for this acquisition.
    pub sequence: Sequence,
    /// The secret part.
    pub holder: Holder,
}

impl Token {
    /// The whole text, holder included. A credential: not for logs.
    pub fn expose(&self) -> String {
        format!("{}-{}-{}", self.epoch, self.sequence, self.holder.expose())
    }

    /// What a fence remembers of this token.
    pub fn mark(&self) -> Mark {
        Mark {
            epoch: self.epoch,
            sequence: self.sequence,
            holder: self.holder.hash(),
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.sequence)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({self})")
    }
}

impl FromStr for Token {
    type Err = TokenError;

    /// Strict: no sign, no leading zero, no space, nothing beyond [`i64::MAX`], the holder in 32 lower-case
    /// digits.
    fn from_str(text: &str) -> Result<Self, TokenError> {
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        if text.len() > LONGEST {
            return Err(TokenError::TooLong);
        }
        let mut parts = text.split('-');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(epoch), Some(sequence), Some(holder), None) => Ok(Self {
                epoch: Epoch(number(epoch)?),
                sequence: Sequence(number(sequence)?),
                holder: holder.parse()?,
            }),
            (Some(bare), None, None, None) => {
                number(bare)?;
                Err(TokenError::Foreign)
            }
            _ => Err(TokenError::Parts),
        }
    }
}

/// Reads 1 to [`i64::MAX`] in plain decimal.
fn number(text: &str) -> Result<i64, TokenError> {
    let plain = !text.is_empty() && !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
    if !plain {
        return Err(TokenError::Number);
    }
    text.parse().map_err(|_| TokenError::TooLarge)
}

/// The newest token that a fence has been shown, with the holder as its hash. Ordered by `(epoch, sequence)`
/// through [`Mark::number`]; two marks of one number and different holders have no order.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark {
    /// The token's epoch.
    pub epoch: Epoch,
    /// The token's sequence.
    pub sequence: Sequence,
    /// The SHA-256 of the token's holder.
    pub holder: HolderHash,
}

impl Mark {
    /// `(epoch, sequence)`: what orders marks and tokens.
    pub fn number(&self) -> (Epoch, Sequence) {
        (self.epoch, self.sequence)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.sequence)
    }
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mark({self})")
    }
}

/// Why a text is not a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Nothing was given.
    #[error("the token is empty: send the one that the lease was answered with, epoch-sequence-holder")]
    Empty,
    /// More than any token has.
    #[error("the token is longer than {LONGEST} bytes, so it cannot be one: expected epoch-sequence-holder")]
    TooLong,
    /// Not three parts.
    #[error("a token is epoch-sequence-holder, three parts with a hyphen between, as 1-1042-<32 hex digits>")]
    Parts,
    /// A part that is not a plain positive number.
    #[error("epoch and sequence are decimal numbers from 1, without sign, space or leading zero")]
    Number,
    /// A number beyond [`i64::MAX`].
    #[error("epoch and sequence are at most 9223372036854775807")]
    TooLarge,
    /// A holder that is not 32 lower-case hexadecimal digits.
    #[error("the holder is 32 lower-case hexadecimal digits")]
    Holder,
    /// A sequence alone.
    #[error("a bare sequence is not a token: send the whole one, epoch-sequence-holder")]
    Foreign,
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLDER: &str = "9f86d081884c7d659a2feaa0c55ad015";

    #[test]
    fn reads_what_it_writes() {
        for text in [format!("1-1-{HOLDER}"), format!("{0}-{0}-{HOLDER}", i64::MAX)] {
            assert_eq!(text.parse::<Token>().unwrap().expose(), text);
        }
    }

    #[test]
    fn refuses_everything_else() {
        let long = "1".repeat(10_000);
        for (text, expected) in [
            ("", TokenError::Empty),
            (long.as_str(), TokenError::TooLong),
            ("1042", TokenError::Foreign),
            ("0", TokenError::Number),
            ("01", TokenError::Number),
            ("+1", TokenError::Number),
            ("1e3", TokenError::Number),
            (" 1", TokenError::Number),
            ("-1", TokenError::Parts),
            ("9223372036854775808", TokenError::TooLarge),
            ("1-2", TokenError::Parts),
            ("1-2-3-4", TokenError::Parts),
            (&format!("0-1-{HOLDER}"), TokenError::Number),
            (&format!("1-0-{HOLDER}"), TokenError::Number),
            (&format!("1-01-{HOLDER}"), TokenError::Number),
            (&format!("1--1-{HOLDER}"), TokenError::Parts),
            (&format!("1-9223372036854775808-{HOLDER}"), TokenError::TooLarge),
            (&format!("1-1-{}", HOLDER.to_uppercase()), TokenError::Holder),
            (&format!("1-1-{}", &HOLDER[1..]), TokenError::Holder),
            (&format!("1-1-{HOLDER} "), TokenError::Holder),
            ("1-1-", TokenError::Holder),
            ("1-1-é", TokenError::Holder),
            ("１-1-x", TokenError::Number),
        ] {
            assert_eq!(text.parse::<Token>(), Err(expected), "{text:?}");
        }
    }

    #[test]
    fn shows_no_holder() {
        let token: Token = format!("1-2-{HOLDER}").parse().unwrap();
        let shown = format!(
            "{token} {token:?} {:?} {:?} {:?}",
            token.mark(),
            token.holder,
            token.mark().holder
        );
        assert!(!shown.contains(&HOLDER[..6]), "{shown}");
        assert!(
            !shown.contains(&hex::encode(token.holder.hash().as_bytes())[..6]),
            "{shown}"
        );
    }

    proptest::proptest! {
        #[test]
        fn never_panics_and_reads_only_its_own_writing(text in "\\PC*") {
            if let Ok(token) = text.parse::<Token>() {
                proptest::prop_assert_eq!(token.expose(), text);
            }
        }

        #[test]
        fn every_token_survives_its_text(epoch in 1i64.., sequence in 1i64..) {
            let token = Token {
                epoch: Epoch::new(epoch).unwrap(),
                sequence: Sequence::new(sequence).unwrap(),
                holder: Holder::random(),
            };
            proptest::prop_assert_eq!(token.expose().parse::<Token>(), Ok(token));
        }
    }
}
