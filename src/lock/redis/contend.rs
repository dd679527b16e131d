//! Waiting for a lock in Redis, which has no queue.
//!
//! Who has to wait joins the line of this process. The first in line asks when somebody here releases; when
//! another process tells of a release; when the lock is due to expire; and, as news can be lost and others release
//! without telling, from time to time.

use std::time::Duration;

use super::{RedisLocks, attempt::Attempt, news::Listener};
use crate::{
    clock::Moment,
    lock::{
        Held, LockError, Request,
        line::{Joined, Line},
        wait::random_share,
    },
};

/// How long a lock that passes from hand to hand in this process is held at most without anybody asking the server.
const SHORT_HOLD: Duration = Duration::from_millis(20);
/// The pauses before asking again: at first, at last, and at last where releases are told.
const PAUSES: (Duration, Duration, Duration) = (
    Duration::from_millis(5),
    Duration::from_millis(250),
    Duration::from_secs(1),
);
/// What other processes get to take their turn.
const TURN: Duration = Duration::from_millis(3);

impl RedisLocks {
    /// Takes the lock, or waits in line for it.
    ///
    /// # Cancel safety
    /// Yes: the place in the line, or the lock, is given back.
    pub(super) async fn contend(&self, request: &Request) -> Result<Held, LockError> {
        let give_up = Moment::now() + request.wait;
        let line = self.lines.at(&request.name);
        let attempt = async {
            match self.attempt(request).await? {
                Attempt::Held(held) => Ok(held),
                Attempt::Busy { expires_in, .. } => Err(LockError::Busy { expires_in }),
            }
        };
        match line.join(request, give_up, attempt).await? {
            Joined::Held(held) => Ok(held),
            _first => self.first_in_line(request, &line, give_up).await,
        }
    }

    async fn first_in_line(
        &self,
        request: &Request,
        line: &Line,
        give_up: Moment,
    ) -> Result<Held, LockError> {
        let mut ear = Ear { line, listener: None };
        let mut pause = PAUSES.0;
        // Whoever holds it in this process calls when it is free.
        let mut patience = if line.is_held_by_another(&request.holder.hash()) {
            SHORT_HOLD
        } else {
            pause
        };
        loop {
            ear.wait(patience.min(give_up.remaining())).await;
            let (expires_in, told) = match self.attempt(request).await? {
                Attempt::Held(held) => return Ok(held),
                Attempt::Busy { expires_in, told } => (expires_in, told),
            };
            if give_up.has_passed() {
                return Err(LockError::Busy { expires_in });
            }
            if pause > SHORT_HOLD && told && ear.listener.is_none() {
                ear.listener = Some(self.news.listen(self.keys.channel(&request.name)));
                line.listens(true);
            }
            let longest = if told && ear.hears() { PAUSES.2 } else { PAUSES.1 };
            // Between half and the whole, so that processes do not ask together.
            patience = pause.min(longest).mul_f64(0.5 + random_share() / 2.0);
            patience = patience.min(expires_in.unwrap_or(patience) + TURN.mul_f64(random_share()));
            pause = (pause * 2).min(longest);
        }
    }
}

/// What the first in line hears.
struct Ear<'a> {
    line: &'a Line,
    listener: Option<Listener>,
}

impl Ear<'_> {
    /// Waits until somebody here, or news from elsewhere, calls; no longer than `patience`.
    async fn wait(&self, patience: Duration) {
        let news = async {
            match &self.listener {
                Some(listener) => listener.called().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.line.called.notified() => {
                if self.line.should_let_others(TURN) {
                    tokio::time::sleep(TURN).await;
                }
            }
            () = news => {}
            () = tokio::time::sleep(patience) => {}
        }
    }

    fn hears(&self) -> bool {
        self.listener.as_ref().is_some_and(Listener::hears)
    }
}

impl Drop for Ear<'_> {
    fn drop(&mut self) {
        self.line.listens(false);
    }
}
