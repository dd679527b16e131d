//! Credentials that were looked at lately, by their hash. A signature takes longer to verify than a write takes, and a
//! client sends the same token with each.

use std::{collections::HashMap, sync::RwLock, time::SystemTime};

use sha2::{Digest, Sha256};

use super::Client;

/// A credential that was believed.
#[derive(Clone)]
pub(super) struct Believed {
    pub(super) client: Client,
    /// `None` for one that does not end.
    pub(super) until: Option<SystemTime>,
}

impl Believed {
    fn counts(&self) -> bool {
        self.until.is_none_or(|until| SystemTime::now() < until)
    }
}

/// The most that are remembered.
const MOST: usize = 10_000;

#[derive(Default)]
pub(super) struct Remembered(RwLock<HashMap<[u8; 32], Believed>>);

impl Remembered {
    /// A credential that was believed, and may still be.
    pub(super) fn look(&self, credential: &[u8]) -> Option<Believed> {
        let all = self.0.read().ok()?;
        all.get(&hash(credential))
            .filter(|believed| believed.counts())
            .cloned()
    }

    pub(super) fn add(&self, credential: &[u8], believed: Believed) {
        let Ok(mut all) = self.0.write() else { return };
        if all.len() >= MOST {
            all.retain(|_, believed| believed.counts());
        }
        if all.len() >= MOST {
            all.clear();
        }
        all.insert(hash(credential), believed);
    }
}

fn hash(credential: &[u8]) -> [u8; 32] {
    Sha256::digest(credential).into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn believed(until: SystemTime) -> Believed {
        Believed {
            client: Client::anonymous(),
            until: Some(until),
        }
    }

    #[test]
    fn what_has_expired_is_not_believed_from_memory() {
        let remembered = Remembered::default();
        let now = SystemTime::now();
        remembered.add(b"old", believed(now));
        remembered.add(b"new", believed(now + Duration::from_secs(3600)));
        assert!(remembered.look(b"old").is_none());
        assert!(remembered.look(b"new").is_some());
        assert!(remembered.look(b"other").is_none());
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let remembered = Remembered::default();
        let later = SystemTime::now() + Duration::from_secs(3600);
        for number in 0..MOST + 10 {
            remembered.add(number.to_string().as_bytes(), believed(later));
        }
        assert!(remembered.0.read().unwrap().len() <= MOST);
        assert!(remembered.look((MOST + 9).to_string().as_bytes()).is_some());
    }
}
