//! Keeping a grant: it is renewed at a third of its time to live, and lost at the latest when its deadline passes.
//!
//! A deadline is a TTL after the last successful renewal was *sent*, on a clock that counts the time in which the
//! machine was suspended. Leases from a lock service and leases from a gateway are kept alike.

use std::{
    fmt,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::{clock::Moment, lock::Term, name::FenceName, token::Token};

/// How often the clock that counts suspend is looked at, which timers do not.
const LOOK: Duration = Duration::from_millis(250);

/// The pause after a renewal that did not end in time.
const SHORT: Duration = Duration::from_millis(10);

/// What renews grants.
pub(crate) trait Keeper: fmt::Debug + Send + Sync + 'static {
    /// Why a renewal failed.
    type Error: fmt::Display + Send;

    /// Makes a grant last its TTL again.
    fn keep(
        &self,
        name: &FenceName,
        token: &Token,
        ttl: Duration,
    ) -> impl Future<Output = Result<Term, Self::Error>> + Send;

    /// Whether an error says that the grant is over.
    fn is_lost(error: &Self::Error) -> bool;

    /// The error that says so.
    fn lost() -> Self::Error;
}

/// A grant that is kept.
#[derive(Debug)]
pub(crate) struct Kept<K> {
    pub(crate) keeper: K,
    pub(crate) name: FenceName,
    pub(crate) token: Token,
    term: Mutex<Term>,
    lost: CancellationToken,
}

impl<K: Keeper> Kept<K> {
    /// Keeps it from now on, in the background.
    pub(crate) fn start(keeper: K, name: FenceName, token: Token, term: Term) -> Arc<Self> {
        let kept = Arc::new(Self {
            keeper,
            name,
            token,
            term: Mutex::new(term),
            lost: CancellationToken::new(),
        });
        tokio::spawn(keep(kept.clone()));
        kept
    }

    /// The time to live that was granted.
    pub(crate) fn ttl(&self) -> Duration {
        self.term().ttl
    }

    /// How long it lasts if no further renewal succeeds. Zero when it is lost.
    pub(crate) fn remaining(&self) -> Duration {
        if self.lost.is_cancelled() {
            Duration::ZERO
        } else {
            self.term().deadline.remaining()
        }
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.is_cancelled() || self.term().deadline.has_passed()
    }

    /// Ends when it is lost or given up.
    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Is cancelled when it is lost or given up.
    pub(crate) fn cancelled(&self) -> CancellationToken {
        self.lost.child_token()
    }

    /// Ends its being kept.
    pub(crate) fn give_up(&self) {
        self.lost.cancel();
    }

    /// Runs a future until it ends or the grant is lost.
    pub(crate) async fn run<F: Future>(&self, future: F) -> Result<F::Output, K::Error> {
        let future = pin!(future);
        tokio::select! {
            biased;
            () = self.lost() => Err(K::lost()),
            output = future => Ok(output),
        }
    }

    /// Renews now.
    pub(crate) async fn renew(&self) -> Result<(), K::Error> {
        if self.is_lost() {
            self.give_up();
            return Err(K::lost());
        }
        match self.keeper.keep(&self.name, &self.token, self.ttl()).await {
            Ok(term) => {
                let mut current = self.term();
                // An answer that comes after the deadline finds a lease that others believe lost.
                if current.deadline.has_passed() {
                    self.give_up();
                    return Err(K::lost());
                }
                if term.deadline > current.deadline {
                    *current = term;
                }
                Ok(())
            }
            Err(error) => {
                if K::is_lost(&error) {
                    self.give_up();
                }
                Err(error)
            }
        }
    }

    fn term(&self) -> MutexGuard<'_, Term> {
        self.term.lock().expect("nothing panics while it holds the term")
    }
}

/// Renews until the grant is lost or given up. A renewal that fails is tried again while there is time.
async fn keep<K: Keeper>(kept: Arc<Kept<K>>) {
    // What nobody renews any more, be it for a panic, must not pass for kept.
    let _told = kept.lost.clone().drop_guard();
    let mut next = renewal_after(*kept.term());
    while !kept.lost.is_cancelled() {
        let deadline = kept.term().deadline;
        if deadline.has_passed() {
            tracing::warn!(fence = %kept.name, token = %kept.token, "lease lost: it could not be renewed in time");
            kept.give_up();
            return;
        }
        if !next.has_passed() {
            let pause = next.remaining().min(deadline.remaining()).min(LOOK);
            tokio::select! {
                () = kept.lost.cancelled() => return,
                () = tokio::time::sleep(pause) => continue,
            }
        }
        let renewal = tokio::select! {
            () = kept.lost.cancelled() => return,
            // One that hangs is given up in time for another.
            renewal = tokio::time::timeout(deadline.remaining() / 2, kept.renew()) => renewal,
        };
        let term = *kept.term();
        next = match renewal {
            Ok(Ok(())) => renewal_after(term),
            Ok(Err(error)) if K::is_lost(&error) => {
                tracing::warn!(fence = %kept.name, token = %kept.token, "lease lost: the lock service ended it");
                return;
            }
            Ok(Err(error)) => {
                tracing::warn!(fence = %kept.name, token = %kept.token, %error, "renewal failed, trying again");
                Moment::now() + (term.ttl / 20).max(Duration::from_millis(10))
            }
            Err(_) => Moment::now() + SHORT,
        };
    }
}

/// A third of the TTL after the last renewal was sent.
fn renewal_after(term: Term) -> Moment {
    Moment::now() + term.deadline.remaining().saturating_sub(term.ttl * 2 / 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{Epoch, Holder, Sequence};

    /// Answers once the first term is over.
    #[derive(Debug)]
    struct Late(Moment);

    impl Keeper for Late {
        type Error = &'static str;

        async fn keep(&self, _: &FenceName, _: &Token, ttl: Duration) -> Result<Term, Self::Error> {
            while !self.0.has_passed() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok(Term::new(Moment::now(), ttl))
        }

        fn is_lost(error: &Self::Error) -> bool {
            *error == Self::lost()
        }

        fn lost() -> Self::Error {
            "lost"
        }
    }

    #[tokio::test]
    async fn an_answer_that_comes_after_the_deadline_revives_nothing() {
        let term = Term::new(Moment::now(), Duration::from_millis(200));
        let token = Token {
            epoch: Epoch::FIRST,
            sequence: Sequence::FIRST,
            holder: Holder::random(),
        };
        let kept = Kept::start(Late(term.deadline), "f".parse().unwrap(), token, term);
        assert_eq!(kept.renew().await, Err("lost"));
        assert!(kept.is_lost() && kept.remaining().is_zero());
    }
}
