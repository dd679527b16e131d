//! The two rounds of an acquisition.
//!
//! The ballot is unique, and greater than those of all holders before: a holder's ballot is written to a majority
//! while it has the lock there; the next holder takes the lock on a majority, so on at least one of the
//! same instances, and later, and it is told the ballot with it. No clock has a part in this.

use std::{collections::HashSet, time::Duration};

use super::{
    Redlock,
    first::First,
    instances::{Trail, limit},
    members::{Members, unavailable, unexpected},
    scripts::{self, Answer, Taken},
};
use crate::{
    clock::Moment,
    lock::{
        Claim, Held, LockError, Request, Term,
        redis::scripts::{Attempt, whole_ms},
        wait::Undo,
    },
    name::FenceName,
    token::HolderHash,
};

/// What one attempt came to.
pub(super) enum Outcome {
    Held(Held),
    /// Others have the lock on too many instances.
    Busy {
        expires_in: Option<Duration>,
    },
    /// Nobody may have it: worth another attempt.
    Unsettled(LockError),
}

/// How long a majority surely holds a lock: clocks run at different speeds, and the time to live is in whole
/// milliseconds.
pub(super) fn validity(ttl: Duration) -> Duration {
    ttl.saturating_sub(ttl / 100 + Duration::from_millis(2))
}

/// What an attempt is doing.
#[derive(Clone)]
struct Doing {
    attempt: Attempt,
    trail: Trail,
    /// From before the first round.
    sent: Moment,
    ttl: Duration,
}

impl Redlock {
    /// Takes the lock on a majority and numbers it, or gives everything back.
    ///
    /// # Cancel safety
    /// Dropping the future gives everything back in the background.
    pub(super) async fn attempt(&self, request: &Request) -> Result<Outcome, LockError> {
        let members = self.members().await?;
        let doing = Doing {
            attempt: Attempt::new(),
            trail: Trail::new(self.instances.count()),
            sent: Moment::now(),
            ttl: whole_ms(request.ttl),
        };
        let undo = Undo::new({
            let (locks, doing) = (self.clone(), doing.clone());
            let (name, holder) = (request.name.clone(), request.holder.hash());
            async move {
                locks.give_back(&name, &holder, &doing).await;
                // It may have been held: the next in line need not wait for its turn to ask.
                locks.lines.released(&name, &holder);
            }
        });
        let outcome = self.two_rounds(request, &members, &doing).await;
        undo.disarm();
        if !matches!(outcome, Ok(Outcome::Held(_))) {
            self.give_back(&request.name, &request.holder.hash(), &doing)
                .await;
        }
        outcome
    }

    async fn two_rounds(
        &self,
        request: &Request,
        members: &Members,
        doing: &Doing,
    ) -> Result<Outcome, LockError> {
        let (majority, count) = (self.instances.majority(), self.instances.count());
        let first = self.take(request, members, doing).await;
        if first.taken() < majority {
            return Ok(self.not_taken(&first));
        }
        let term = Term {
            ttl: doing.ttl,
            deadline: doing.sent + validity(doing.ttl),
        };
        let unsettled = |detail: &str| Ok(Outcome::Unsettled(unavailable(&self.instances, detail)));
        if term.deadline.has_passed() {
            return unsettled("the first round took too long");
        }
        let ballot = first.ballot(majority, request.floor);
        let claim = Claim {
            name: request.name.clone(),
            sequence: ballot.ok_or_else(|| unexpected(&self.instances, "a counter that is used up"))?,
            holder: request.holder.hash(),
        };
        let numbered = self.number(&claim, members, doing).await;
        if numbered < majority {
            return unsettled(&format!("only {numbered} of {count} instances took the ballot"));
        }
        if term.deadline.has_passed() {
            return unsettled("the second round took too long");
        }
        Ok(Outcome::Held(Held {
            claim,
            term,
            identity: members.identity(),
        }))
    }

    /// The first round, until it is decided.
    async fn take(&self, request: &Request, members: &Members, doing: &Doing) -> First {
        let script = || scripts::take(&self.keys, &members.list, request, doing.attempt);
        let mut round = self
            .instances
            .ask_on::<Taken>(&doing.trail, limit(doing.ttl), script);
        let mut first = First::new(self.instances.count());
        while !first.is_decided(self.instances.majority())
            && let Some((index, answer)) = round.next().await
        {
            if let Err(error) = &answer {
                tracing::debug!(instance = self.instances.address(index), %error, "does not count");
            }
            first.add(answer.ok());
        }
        first
    }

    /// The second round: how many instances have the ballot, up to a majority.
    async fn number(&self, claim: &Claim, members: &Members, doing: &Doing) -> usize {
        let script = || scripts::number(&self.keys, &members.list, claim);
        let mut round = self
            .instances
            .ask_on::<Answer>(&doing.trail, limit(doing.ttl), script);
        let mut numbered = HashSet::new();
        while numbered.len() < self.instances.majority()
            && let Some((_, answer)) = round.next().await
        {
            if let Ok(Answer::Yes { instance, .. }) = answer {
                numbered.insert(instance);
            }
        }
        numbered.len()
    }

    fn not_taken(&self, first: &First) -> Outcome {
        let (majority, count) = (self.instances.majority(), self.instances.count());
        if first.no_members() > count - majority {
            // They may have agreed on another set since.
            self.forget_members();
            let detail = format!(
                "{} instances have lost their data, so they do not count",
                first.no_members()
            );
            return Outcome::Unsettled(unavailable(&self.instances, &detail));
        }
        if first.taken() + first.busy() >= majority {
            return Outcome::Busy {
                expires_in: first.expires_in(majority),
            };
        }
        let detail = format!(
            "{} of {count} instances answer, and {majority} are needed ({} have lost their data, so they do not count)",
            first.taken() + first.busy(),
            first.no_members()
        );
        Outcome::Unsettled(unavailable(&self.instances, &detail))
    }

    /// Takes back what an attempt did, wherever it may have done something. Waits for no more than a majority.
    async fn give_back(&self, name: &FenceName, holder: &HolderHash, doing: &Doing) {
        let script = || self.keys.undo(name, holder, doing.attempt);
        let mut round =
            self.instances
                .take_back(&doing.trail, limit(doing.ttl), doing.sent + doing.ttl, script);
        let mut answers = 0;
        while answers < self.instances.majority()
            && let Some((_, answer)) = round.next().await
        {
            answers += usize::from(answer.is_ok());
        }
    }
}
