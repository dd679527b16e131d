//! How many connections clients may have. Where the process can open no more files, it can neither accept anybody nor
//! reach its store, so it stays well below.
//!
//! Whoever comes beyond is told so with a 503, and probes are answered: for that there are a few spare connections, each
//! for one request and to be used at once. When they are taken as well, what comes is closed. Nobody is left waiting in the
//! system's queue instead: who is refused can go to another replica, and who waits behind idle connections waits for
//! their timeouts, probes as well.

mod door;
mod not_accepted;
mod placed;
mod when_full;

use std::sync::Arc;

use rustix::process::{Resource, getrlimit};
use tokio::sync::Semaphore;

pub(super) use self::{
    door::{Door, PlaceAcceptor},
    not_accepted::NotAccepted,
    when_full::{for_one_request, when_full},
};

/// Files that are left for the store, the lock service, the log, and those who are told that there is no place.
const RESERVE: u64 = 256;
/// The most connections on which that is told.
const SPARE: usize = 64;

/// The places for connections.
pub(super) struct Connections {
    most: usize,
    places: Arc<Semaphore>,
    most_spare: usize,
    spare: Arc<Semaphore>,
}

impl Connections {
    /// Of `most` connections, or as many as the limit of open files allows.
    pub(super) fn new(most: usize) -> Arc<Self> {
        let allowed = allowed(getrlimit(Resource::Nofile).current);
        if allowed < most {
            tracing::warn!(
                allowed,
                max_connections = most,
                "the limit of open files allows fewer connections: raise it, as by ulimit -n or LimitNOFILE, or lower --max-connections"
            );
        }
        let most = most.min(allowed).min(Semaphore::MAX_PERMITS);
        let most_spare = (most / 8).clamp(1, SPARE);
        Arc::new(Self {
            most,
            places: Arc::new(Semaphore::new(most)),
            most_spare,
            spare: Arc::new(Semaphore::new(most_spare)),
        })
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.most + self.most_spare - self.places.available_permits() - self.spare.available_permits()
    }
}

/// How many connections this limit of open files allows.
fn allowed(files: Option<u64>) -> usize {
    let Some(files) = files else { return usize::MAX };
    let connections = files.saturating_sub(RESERVE).max(files / 2);
    usize::try_from(connections).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_left_for_the_store() {
        assert_eq!(allowed(None), usize::MAX);
        assert_eq!(allowed(Some(1024)), 768);
        assert_eq!(allowed(Some(20_000)), 19_744);
        for files in [0, 1, 64, 255, 256, 300] {
            assert_eq!(allowed(Some(files)) as u64, files / 2, "{files}");
        }
    }
}
