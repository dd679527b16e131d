//! Foreign tokens: bare sequences, confirmed with the lock service each time before anything is done under them.

use super::{Gateway, Problem, auth::Client, token_header::ShownToken};
use crate::{
    grant::GrantError,
    guard::Refusal,
    name::FenceName,
    token::{Epoch, HolderHash, Mark, Sequence},
};

/// A token as the guard is to see it.
pub(super) struct Admissible {
    pub(super) mark: Mark,
    /// Why it may do nothing. The mark is then one that no guard admits: what was done before, under an idempotency
    /// key, is still answered.
    pub(super) refused: Option<Refused>,
}

/// A bare sequence that was not confirmed.
pub(super) struct Refused {
    pub(super) problem: Problem,
    /// What is to be written down of it, unless it was only that nobody could be asked.
    refusal: Option<Box<Refusal>>,
}

impl Gateway {
    /// Confirms a bare sequence; a whole token is left to the guard. To be asked just before the write.
    pub(super) async fn admissible(
        &self,
        client: &Client,
        fence: &FenceName,
        shown: &ShownToken,
    ) -> Admissible {
        let sequence = match shown {
            ShownToken::Whole(token) => {
                return Admissible {
                    mark: token.mark(),
                    refused: None,
                };
            }
            ShownToken::Foreign(sequence) => *sequence,
        };
        let confirming = self.locks.confirm(fence, sequence, client.name());
        let refused = match tokio::time::timeout(self.config.lease_timeout, confirming).await {
            Ok(Ok(mark)) => return Admissible { mark, refused: None },
            Ok(Err(error)) => Refused::because(error),
            Err(_) => Refused {
                problem: Problem::confirmation_unavailable(),
                refusal: None,
            },
        };
        let epoch = refused.refusal.as_ref().map(|refusal| refusal.presented.epoch);
        Admissible {
            mark: nobodys(epoch.unwrap_or(Epoch::FIRST), sequence),
            refused: Some(Refused {
                problem: refused.problem.on(fence),
                ..refused
            }),
        }
    }

    /// Writes a refusal down that no guard has seen, and gives the problem.
    pub(super) fn told(&self, client: &Client, refused: Refused) -> Problem {
        if let Some(refusal) = &refused.refusal {
            self.witness.refused(client, refusal);
        }
        refused.problem
    }
}

impl Refused {
    fn because(error: GrantError) -> Self {
        let refusal = match &error {
            GrantError::Unconfirmed { refusal, .. } | GrantError::Refused(refusal) => Some(refusal.clone()),
            _ => None,
        };
        Self {
            problem: Problem::not_confirmed(error),
            refusal,
        }
    }
}

fn nobodys(epoch: Epoch, sequence: Sequence) -> Mark {
    Mark {
        epoch,
        sequence,
        holder: HolderHash::of_nobody(),
    }
}
