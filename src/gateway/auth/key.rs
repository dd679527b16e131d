//! API keys: 256 random bits, of which only a hash is kept.
//!
//! SHA-256 is enough here. What slow hashes protect is passwords, which can be guessed; nobody guesses 256 random
//! bits, and a slow hash on each request would slow every write down.
//!
//! A key also has an id, which is no secret: the hash to compare with is found by it, and then compared in constant
//! time. So nothing that takes longer or shorter depends on the secret.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What every key begins with, so that one that leaks is recognised for what it is.
pub(super) const PREFIX: &str = "fgk_";

const ID: usize = 8;
const SECRET: usize = 32;

/// An API key as its client has it: `fgk_`, its id and its secret. Neither `Debug` nor `Display`, so that it gets into
/// no message by mistake.
pub struct ApiKey(String);

/// Which key it is. No secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct KeyId([u8; ID]);

/// What is kept of a key: its id, and a hash of all of it. As text, `<id>:<hash>`, both in hexadecimal digits.
///
/// It has no `PartialEq`, which would stop at the first difference.
#[derive(Clone)]
pub struct HashedKey {
    pub(super) id: KeyId,
    hash: [u8; 32],
}

impl ApiKey {
    /// A fresh one.
    ///
    /// # Errors
    /// If the operating system has no random numbers.
    pub fn generate() -> Result<Self, std::io::Error> {
        let mut bytes = [0; ID + SECRET];
        getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
        let (id, secret) = bytes.split_at(ID);
        Ok(Self(format!(
            "{PREFIX}{}_{}",
            hex::encode(id),
            hex::encode(secret)
        )))
    }

    /// The whole key, to be shown to its client once.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub fn hashed(&self) -> HashedKey {
        HashedKey {
            id: id(&self.0).expect("a key that was made has an id"),
            hash: hash(&self.0),
        }
    }
}

impl HashedKey {
    /// Whether this is the key. Takes as long whatever the answer is.
    pub(super) fn is_of(&self, key: &str) -> bool {
        hash(key).ct_eq(&self.hash).into()
    }
}

/// The id of a text that may be a key.
pub(super) fn id(key: &str) -> Option<KeyId> {
    let (id, secret) = key.strip_prefix(PREFIX)?.split_once('_')?;
    let mut bytes = [0; ID];
    hex::decode_to_slice(id, &mut bytes).ok()?;
    (secret.len() == 2 * SECRET).then_some(KeyId(bytes))
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

impl fmt::Display for HashedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", hex::encode(self.id.0), hex::encode(self.hash))
    }
}

/// Never shows the text, which may be a key that was written there by mistake.
impl FromStr for HashedKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const WRONG: &str = "keys has what `fencegate key new` prints: 16 hexadecimal digits, a colon, and 64 more; never a \
                             key itself";
        let (id, hash) = text.split_once(':').ok_or(WRONG)?;
        let mut key = Self {
            id: KeyId([0; ID]),
            hash: [0; 32],
        };
        hex::decode_to_slice(id, &mut key.id.0).map_err(|_| WRONG)?;
        hex::decode_to_slice(hash, &mut key.hash).map_err(|_| WRONG)?;
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_by_its_hash_and_nothing_near_it_is() {
        let key = ApiKey::generate().unwrap();
        let kept: HashedKey = key.hashed().to_string().parse().unwrap();
        assert!(kept.is_of(key.expose()));
        assert!(id(key.expose()).is_some_and(|id| id == kept.id));
        for other in [
            "",
            PREFIX,
            &key.expose()[1..],
            &key.expose()[..key.expose().len() - 1],
            &format!("{} ", key.expose()),
            &key.expose().to_uppercase(),
            ApiKey::generate().unwrap().expose(),
        ] {
            assert!(!kept.is_of(other), "{other}");
        }
    }

    #[test]
    fn every_bit_of_the_hash_counts() {
        let key = ApiKey::generate().unwrap();
        for bit in 0..256 {
            let mut kept = key.hashed();
            kept.hash[bit / 8] ^= 1 << (bit % 8);
            assert!(!kept.is_of(key.expose()), "{bit}");
        }
    }

    #[test]
    fn no_two_keys_are_alike() {
        let keys: std::collections::HashSet<_> = (0..1000)
            .map(|_| ApiKey::generate().unwrap().expose().to_owned())
            .collect();
        assert_eq!(keys.len(), 1000);
        assert!(keys.iter().all(|key| key.len() == 4 + 16 + 1 + 64));
    }

    #[test]
    fn what_is_no_hashed_key_is_refused_without_being_shown() {
        let key = ApiKey::generate().unwrap();
        for text in [
            "",
            ":",
            "0011223344556677",
            key.expose(),
            &format!("{}0", key.hashed()),
        ] {
            let error = text.parse::<HashedKey>().err().unwrap();
            assert!(text.is_empty() || text == ":" || !error.contains(text), "{error}");
        }
    }
}
