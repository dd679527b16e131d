//! Waiting for a lock on a majority: in the line of this process, and then by asking again and again.

use std::time::Duration;

use super::{Redlock, rounds::Outcome};
use crate::{
    clock::Moment,
    lock::{
        Held, LockError, Request,
        line::{Joined, Line},
        wait::Backoff,
    },
};

/// How often an attempt that was lost to a fault is made again, however short the caller would wait.
const TRIES: u32 = 3;

/// What other processes get to take their turn.
const TURN: Duration = Duration::from_millis(10);

impl Redlock {
    /// Takes the lock, or waits in line for it.
    ///
    /// # Cancel safety
    /// Yes: the place in the line, or the lock, is given back.
    pub(super) async fn contend(&self, request: &Request) -> Result<Held, LockError> {
        let give_up = Moment::now() + request.wait;
        let line = self.lines.at(&request.name);
        match line.join(request, give_up, self.settle(request)).await? {
            Joined::Held(held) => Ok(held),
            _first => self.first_in_line(request, &line, give_up).await,
        }
    }

    /// Attempts until the lock is held, or others hold it: [`LockError::Busy`] then.
    async fn settle(&self, request: &Request) -> Result<Held, LockError> {
        let mut backoff = Backoff::new(Duration::from_secs(3600));
        for tries in 1.. {
            match self.attempt(request).await? {
                Outcome::Held(held) => return Ok(held),
                Outcome::Busy { expires_in } => return Err(LockError::Busy { expires_in }),
                Outcome::Unsettled(error) if tries == TRIES => return Err(error),
                Outcome::Unsettled(_) => backoff.pause(LockError::Busy { expires_in: None }).await?,
            }
        }
        unreachable!("the last try returns")
    }

    /// Attempts again and again, as the first of those who wait in this process.
    async fn first_in_line(
        &self,
        request: &Request,
        line: &Line,
        give_up: Moment,
    ) -> Result<Held, LockError> {
        let mut backoff = Backoff::new(give_up.remaining());
        loop {
            let busy = match self.settle(request).await {
                Err(busy @ LockError::Busy { .. }) => busy,
                done => return done,
            };
            tokio::select! {
                paused = backoff.pause(busy) => paused?,
                // Others only ask now and then, and nobody knows whether there are any.
                () = line.called.notified() => if line.should_let_others(TURN) {
                    tokio::time::sleep(TURN).await;
                }
            }
        }
    }
}
