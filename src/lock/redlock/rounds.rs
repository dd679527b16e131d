//! The two rounds of an acquisition.
//!
//! The ballot is unique, and greater than those of all holders before: a holder's ballot is written to a majority
//! while it has the lock there; the next holder takes the lock on a majority, so on at least one of the
//! same instances, and later, and it is told the ballot with it. No clock has a part in this.

use std::{collections::HashMap, time::Duration};

use super::{
    Redlock,
    instances::{LONGEST, Late, limit},
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
    token::{HolderHash, Sequence},
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

/// What the first round has found.
#[derive(Default)]
struct First {
    /// By instance: how far it has counted, and the ballot that the lock has there, or 0.
    taken: HashMap<String, (i64, i64)>,
    /// How long the locks of others last, where that is known.
    busy: Vec<Option<Duration>>,
    answers: usize,
    no_members: usize,
}

impl First {
    fn add(&mut self, answer: Option<Taken>) {
        self.answers += 1;
        match answer {
            Some(Taken::Mine {
                instance,
                counter,
                sequence,
            }) => {
                self.taken.insert(instance, (counter, sequence));
            }
            Some(Taken::Busy { left }) => self
                .busy
                .push(u64::try_from(left).ok().map(Duration::from_millis)),
            Some(Taken::NoMember) => self.no_members += 1,
            None => {}
        }
    }

    /// The ballot of an acquisition that lasts: the lock has it on a majority.
    fn lasting(&self, majority: usize) -> Option<i64> {
        let with = |ballot| {
            self.taken
                .values()
                .filter(|(_, sequence)| *sequence == ballot)
                .count()
        };
        let ballot = self.taken.values().map(|(_, sequence)| *sequence).max()?;
        (ballot > 0 && with(ballot) >= majority).then_some(ballot)
    }

    /// Whether to stop listening, of `count` instances.
    fn is_enough(&self, count: usize, majority: usize) -> bool {
        if self.taken.len() >= majority {
            // Part of an acquisition of the same holder: the others tell whether it lasts.
            let part = self.taken.values().any(|(_, sequence)| *sequence > 0);
            return !part || self.lasting(majority).is_some();
        }
        self.taken.len() + (count - self.answers) < majority
    }

    /// When so many locks of others have ended that a majority is free.
    fn expires_in(&self, majority: usize) -> Option<Duration> {
        let mut busy = self.busy.clone();
        busy.sort_by_key(|left| left.unwrap_or(Duration::MAX));
        *busy.get(majority.saturating_sub(self.taken.len() + 1))?
    }
}

/// How long a majority surely holds a lock: clocks run at different speeds, and the time to live is in whole
/// milliseconds.
pub(super) fn validity(ttl: Duration) -> Duration {
    ttl.saturating_sub(ttl / 100 + Duration::from_millis(2))
}

impl Redlock {
    /// Takes the lock on a majority and numbers it, or gives everything back.
    ///
    /// # Cancel safety
    /// Dropping the future gives everything back in the background.
    pub(super) async fn attempt(&self, request: &Request) -> Result<Outcome, LockError> {
        let members = self.members().await?;
        let (ttl, attempt) = (whole_ms(request.ttl), Attempt::new());
        let undo = Undo::new({
            let (locks, name, holder) = (self.clone(), request.name.clone(), request.holder.hash());
            async move { locks.give_back(&name, &holder, attempt).await }
        });
        let sent = Moment::now();
        let term = Term {
            ttl,
            deadline: sent + validity(ttl),
        };
        let outcome = self.two_rounds(request, &members, attempt, term).await;
        undo.disarm();
        if !matches!(outcome, Ok(Outcome::Held(_))) {
            self.give_back(&request.name, &request.holder.hash(), attempt)
                .await;
        }
        outcome
    }

    async fn two_rounds(
        &self,
        request: &Request,
        members: &Members,
        attempt: Attempt,
        term: Term,
    ) -> Result<Outcome, LockError> {
        let (majority, count) = (self.instances.majority(), self.instances.count());
        let first = self.take(request, members, attempt).await;
        if first.taken.len() < majority {
            return self.not_taken(&first);
        }
        let counted = first
            .taken
            .values()
            .map(|(counter, _)| *counter)
            .max()
            .unwrap_or(0);
        let lasting = first.lasting(majority).filter(|ballot| *ballot >= request.floor);
        let next = || counted.max(request.floor).checked_add(1);
        let ballot = lasting.or_else(next).and_then(Sequence::new);
        let claim = Claim {
            name: request.name.clone(),
            sequence: ballot.ok_or_else(|| unexpected(&self.instances, "a counter that is used up"))?,
            holder: request.holder.clone(),
        };
        let late = |round: &str| {
            Outcome::Unsettled(unavailable(
                &self.instances,
                &format!("the {round} round took too long"),
            ))
        };
        if term.deadline.has_passed() {
            return Ok(late("first"));
        }
        let script = || scripts::number(&self.keys, &members.list, &claim);
        let mut second = self
            .instances
            .ask::<Answer>(limit(request.ttl), Late::Drop, script);
        let mut numbered = std::collections::HashSet::new();
        while numbered.len() < majority
            && let Some((_, answer)) = second.next().await
        {
            if let Ok(Answer::Yes { instance, .. }) = answer {
                numbered.insert(instance);
            }
        }
        if numbered.len() < majority {
            return Ok(Outcome::Unsettled(unavailable(
                &self.instances,
                &format!("only {} of {count} instances took the ballot", numbered.len()),
            )));
        }
        if term.deadline.has_passed() {
            return Ok(late("second"));
        }
        Ok(Outcome::Held(Held {
            claim,
            term,
            identity: members.identity(),
        }))
    }

    async fn take(&self, request: &Request, members: &Members, attempt: Attempt) -> First {
        let script = || scripts::take(&self.keys, &members.list, request, attempt);
        let mut round = self
            .instances
            .ask::<Taken>(limit(request.ttl), Late::Drop, script);
        let mut first = First::default();
        while !first.is_enough(self.instances.count(), self.instances.majority()) {
            let Some((index, answer)) = round.next().await else {
                break;
            };
            if let Err(error) = &answer {
                tracing::debug!(instance = self.instances.address(index), %error, "does not count");
            }
            first.add(answer.ok());
        }
        first
    }

    fn not_taken(&self, first: &First) -> Result<Outcome, LockError> {
        let majority = self.instances.majority();
        if first.no_members > self.instances.count() - majority {
            // They may have agreed on another set since.
            self.forget_members();
            let detail = format!(
                "{} instances have lost their data, so they do not count",
                first.no_members
            );
            return Ok(Outcome::Unsettled(unavailable(&self.instances, &detail)));
        }
        if first.taken.len() + first.busy.len() >= majority {
            return Ok(Outcome::Busy {
                expires_in: first.expires_in(majority),
            });
        }
        let detail = format!(
            "{} of {} instances answer, and {majority} are needed ({} have lost their data, so they do not count)",
            first.taken.len() + first.busy.len(),
            self.instances.count(),
            first.no_members
        );
        Err(unavailable(&self.instances, &detail))
    }

    /// Takes back what an attempt did. All instances are told, for what they did is not known; those that
    /// answer are waited for.
    pub(super) async fn give_back(&self, name: &FenceName, holder: &HolderHash, attempt: Attempt) {
        let script = || self.keys.undo(name, holder, attempt);
        let mut round = self.instances.ask::<i64>(LONGEST, Late::Send, script);
        let mut answers = 0;
        while answers < self.instances.majority()
            && let Some((_, answer)) = round.next().await
        {
            answers += usize::from(answer.is_ok());
        }
        self.lines.released(name, holder);
    }
}
