//! Waiting for a lock where the service has no queue: ask, pause a random while, ask again.

use std::time::Duration;

use super::{LockError, give_back};
use crate::clock::Moment;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
use crate::token::Sequence;

/// The shortest and the longest pause between two tries.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));

/// Pauses between tries, until the wait has run out.
pub(super) struct Backoff {
    give_up: Moment,
    pause: Duration,
}

impl Backoff {
    /// Tries for as long as `wait`.
    pub(super) fn new(wait: Duration) -> Self {
        Self {
            give_up: Moment::now() + wait,
            pause: PAUSES.0,
        }
    }

    /// Pauses after an attempt that found the lock busy; gives the error back if there is no time left.
    ///
    /// The pause is between a half and the whole of one that doubles, so that waiters do not come back together.
    pub(super) async fn pause(&mut self, error: LockError) -> Result<(), LockError> {
        let left = self.give_up.remaining();
        if left.is_zero() || !matches!(error, LockError::Busy { .. }) {
            return Err(error);
        }
        tokio::time::sleep(self.pause.mul_f64(0.5 + random_share() / 2.0).min(left)).await;
        self.pause = (self.pause * 2).min(PAUSES.1);
        Ok(())
    }

    /// Pauses after an attempt that found the lock busy, until there is news, or the lock is due to expire; never
    /// for longer than `longest`. Gives the error back if there is no time left.
    #[cfg(feature = "postgres")]
    pub(super) async fn listen(
        &mut self,
        error: LockError,
        longest: Duration,
        news: impl Future<Output = ()>,
    ) -> Result<(), LockError> {
        let left = self.give_up.remaining();
        let LockError::Busy { expires_in } = error else {
            return Err(error);
        };
        if left.is_zero() {
            return Err(error);
        }
        let due = expires_in.map_or(longest, |due| due + PAUSES.0.mul_f64(random_share()));
        let pause = longest.mul_f64(0.5 + random_share() / 2.0).min(due).min(left);
        // Who is not woken in time asks by itself.
        let _ = tokio::time::timeout(pause, news).await;
        Ok(())
    }
}

/// From 0 to 1.
pub(super) fn random_share() -> f64 {
    let mut random = [0; 4];
    getrandom::fill(&mut random).expect("the operating system gives random numbers");
    f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX)
}

/// One of a holder's acquisitions, in a database: the holder may have come again since.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
#[derive(Clone, Copy)]
pub(super) enum Which<T> {
    /// By its number.
    Counted(Sequence),
    /// The one that expires then, whose number the answer would have said.
    Until(T),
}

#[cfg(any(feature = "postgres", feature = "sqlite"))]
impl<T> Which<T> {
    /// What it has to have: this number, or this end.
    pub(super) fn number_or_end(self) -> (Option<i64>, Option<T>) {
        match self {
            Self::Counted(sequence) => (Some(sequence.get()), None),
            Self::Until(end) => (None, Some(end)),
        }
    }
}

/// Starts a future in the background when it is dropped, unless it was disarmed: takes back what an attempt may
/// have done whose caller went away, or whose outcome is unknown.
pub(super) struct Undo<F: Future<Output = ()> + Send + 'static>(Option<F>);

impl<F: Future<Output = ()> + Send + 'static> Undo<F> {
    pub(super) fn new(undo: F) -> Self {
        Self(Some(undo))
    }

    pub(super) fn disarm(mut self) {
        self.0 = None;
    }
}

impl<F: Future<Output = ()> + Send + 'static> Drop for Undo<F> {
    fn drop(&mut self) {
        if let Some(undo) = self.0.take() {
            give_back(undo);
        }
    }
}
