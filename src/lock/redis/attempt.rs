//! One attempt at a lock, which leaves nothing behind unless its caller has it.

use std::time::Duration;

use redis::RedisError;

use super::{
    RedisLocks,
    link::Wire,
    scripts::{self, whole_ms},
};
use crate::{
    clock::Moment,
    lock::{Claim, Held, LockError, Request, Term, until_done, wait::Undo},
    name::FenceName,
    token::{HolderHash, Sequence},
};

/// Before an undoing whose connection broke is tried on another one.
const PAUSE: Duration = Duration::from_millis(250);

/// What an attempt came to.
pub(super) enum Attempt {
    Held(Held),
    Busy {
        expires_in: Option<Duration>,
        /// Whether its release will be told.
        told: bool,
    },
}

/// What an attempt is doing.
struct Doing {
    wire: Wire,
    name: FenceName,
    holder: HolderHash,
    attempt: scripts::Attempt,
    /// When what it may have done is over by itself.
    until: Moment,
}

impl RedisLocks {
    /// Asks for the lock once, and once more if the connection broke: the script gives its holder the same lock.
    ///
    /// # Cancel safety
    /// Yes: the lock is given back in the background.
    pub(super) async fn attempt(&self, request: &Request) -> Result<Attempt, LockError> {
        if let Ok(answer) = self.ask(request).await? {
            return Ok(answer);
        }
        self.ask(request).await?.map_err(|error| self.link.error(&error))
    }

    /// Asks once; the inner error is that the connection broke.
    async fn ask(&self, request: &Request) -> Result<Result<Attempt, RedisError>, LockError> {
        let wire = self.wire().await?;
        let (sent, ttl, attempt) = (Moment::now(), whole_ms(request.ttl), scripts::Attempt::new());
        let doing = Doing {
            wire: wire.clone(),
            name: request.name.clone(),
            holder: request.holder.hash(),
            attempt,
            until: sent + ttl,
        };
        let undo = Undo::new(self.clone().undo(doing));
        let script = self.keys.acquire(request, attempt);
        let answer = match self.link.run::<(i64, i64, String)>(&wire, &script).await {
            Ok((1, sequence, identity)) => {
                Attempt::Held(self.held(request, Term::new(sent, ttl), sequence, &identity)?)
            }
            Ok((_, left, told)) => Attempt::Busy {
                expires_in: u64::try_from(left).ok().map(Duration::from_millis),
                told: told == "1",
            },
            Err(error) if error.is_connection_dropped() => return Ok(Err(error)),
            Err(error) => return Err(self.link.error(&error)),
        };
        undo.disarm();
        Ok(Ok(answer))
    }

    fn held(&self, request: &Request, term: Term, sequence: i64, identity: &str) -> Result<Held, LockError> {
        if term.deadline.has_passed() {
            return Err(LockError::Unavailable {
                service: self.link.service().into(),
                detail: "it granted the lock too late".into(),
            });
        }
        Ok(Held {
            claim: Claim {
                name: request.name.clone(),
                sequence: Sequence::new(sequence).ok_or_else(|| self.unexpected("a counter below 1"))?,
                holder: request.holder.hash(),
            },
            term,
            identity: self.identity_of(identity)?,
        })
    }

    async fn wire(&self) -> Result<Wire, LockError> {
        self.link.wire().await.map_err(|error| self.link.error(&error))
    }

    /// Takes back what an attempt has done, or is yet to do: told on the same connection, it comes behind it.
    ///
    /// A later attempt of the same holder is left alone.
    async fn undo(self, doing: Doing) {
        let script = self.keys.undo(&doing.name, &doing.holder, doing.attempt);
        if self.link.run::<i64>(&doing.wire, &script).await.is_err() {
            // The holder may be asking again, and finds what it has.
            tokio::time::sleep(PAUSE.min(doing.until.remaining())).await;
            let again = || async { self.link.ask::<i64>(&script).await.map(drop) };
            until_done(&doing.name, doing.until, again).await;
        }
        self.lines.released(&doing.name, &doing.holder);
    }
}
