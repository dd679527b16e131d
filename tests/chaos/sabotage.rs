//! Parts of the guard, taken out one at a time: the check must see each of them missing, or it would see nothing.

use std::collections::BTreeSet;

use crate::{
    check::Promise,
    plan::{Fault, LockService},
    round::{Round, Tally},
    stage::Stage,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// A transaction may write under any token.
    Enter,
    /// A seal does not wait for those who have entered.
    Seal,
    /// A release leaves the token as it is.
    Retire,
    /// Idempotency keys are not found again.
    Once,
}

/// How a sabotage was found.
pub struct Found {
    pub sabotage: Sabotage,
    pub tally: Tally,
    pub broken: BTreeSet<Promise>,
}

impl Sabotage {
    pub const ALL: [Self; 4] = [Self::Enter, Self::Seal, Self::Retire, Self::Once];

    pub fn explained(self) -> &'static str {
        match self {
            Self::Enter => "a transaction enters under any token",
            Self::Seal => "a seal does not wait for those who have entered",
            Self::Retire => "a release leaves the token as it is",
            Self::Once => "idempotency keys are not found again",
        }
    }

    pub fn statement(self) -> &'static str {
        match self {
            Self::Enter => {
                "create or replace function fencegate.try_enter(
                     fence text, epoch bigint, sequence bigint, holder bytea) returns boolean
                 language sql volatile as 'select true'"
            }
            Self::Seal => {
                "create or replace function fencegate.close_fence(
                     fence text, below_epoch bigint, below_sequence bigint, or_equal boolean, grace interval)
                 returns boolean language sql volatile as 'select true'"
            }
            Self::Retire => {
                "create or replace function fencegate.retire(
                     fence text, token_epoch bigint, token_sequence bigint, token_holder bytea,
                     grace interval default '500 ms') returns boolean language sql volatile as 'select true'"
            }
            Self::Once => {
                "create function chaos.forget() returns trigger language plpgsql as $$
                 begin
                     new.scope := sha256(uuid_send(gen_random_uuid()));
                     return new;
                 end $$;
                 create trigger chaos before insert on fencegate.idempotency
                     for each row execute function chaos.forget()"
            }
        }
    }

    /// The promise that it breaks, at least.
    fn breaks(self) -> Promise {
        match self {
            Self::Once => Promise::Once,
            _ => Promise::Dead,
        }
    }

    /// Under which it shows.
    fn fault(self) -> Fault {
        match self {
            Self::Enter | Self::Seal => Fault::PauseClients,
            Self::Retire | Self::Once => Fault::Messages,
        }
    }

    /// Rounds until it is found; a failure if it is not.
    pub async fn is_found(self, seed: u64) -> Found {
        let mut stage = Stage::start(Some(self)).await;
        let (mut tally, mut broken) = (Tally::default(), BTreeSet::new());
        for seed in seed..seed + 20 {
            let round = Round {
                seed,
                service: LockService::Postgres,
                fault: self.fault(),
                histories: 8,
                sabotage: Some(self),
            };
            let (round, violations) = round.run(&mut stage, None).await;
            tally.add(&round);
            broken.extend(violations.iter().map(|violation| violation.promise));
            if broken.contains(&self.breaks()) {
                println!(
                    "Taken out: {}: found in {} histories, as {broken:?}",
                    self.explained(),
                    tally.histories
                );
                let sabotage = self;
                return Found {
                    sabotage,
                    tally,
                    broken,
                };
            }
        }
        panic!(
            "{} is not found in {} histories",
            self.explained(),
            tally.histories
        );
    }
}
