//! Asking all instances at once.
//!
//! Nobody waits for the slowest: a round ends when its caller has heard enough, or when its time is up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redis::{ConnectionInfo, FromRedisValue, RedisResult, ScriptInvocation};
use tokio::{sync::mpsc, time::Instant};

use super::scripts;
use crate::lock::redis::{AddressError, address::Servers, link::Link};

/// The longest that an instance may take for an answer.
pub(super) const LONGEST: Duration = Duration::from_millis(500);
/// What an instance may take however short the lock is.
const SHORTEST: Duration = Duration::from_millis(50);

/// The instances of a redlock. Clones share their connections.
#[derive(Clone)]
pub(super) struct Instances(Arc<[Link]>);

/// One question to all instances.
pub(super) struct Round<T> {
    answers: mpsc::UnboundedReceiver<(usize, RedisResult<T>)>,
    until: Instant,
    over: Arc<AtomicBool>,
}

/// What becomes of a question that could not be sent before its round was over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Late {
    /// It is not sent any more: nobody would undo what it does.
    Drop,
    /// It is sent all the same: it only takes back.
    Send,
}

/// How long an instance may take, for a lock with this TTL: short against it, so that one instance that does not
/// answer costs little of the time that the lock is valid.
pub(super) fn limit(ttl: Duration) -> Duration {
    (ttl / 10).clamp(SHORTEST, LONGEST)
}

impl Instances {
    /// Asks none of them yet.
    pub(super) fn new(servers: Vec<ConnectionInfo>) -> Result<Self, AddressError> {
        let link = |server| Link::new(Servers::One(server), "redlock", LONGEST, &scripts::ALL);
        let links: Result<_, _> = servers.into_iter().map(link).collect();
        Ok(Self(links.map_err(|_| AddressError::Host)?))
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// How many are more than half.
    pub(super) fn majority(&self) -> usize {
        self.0.len() / 2 + 1
    }

    /// An instance's address, for errors.
    pub(super) fn address(&self, index: usize) -> &str {
        let service = self.0[index].service();
        service.strip_prefix("redlock at ").unwrap_or(service)
    }

    /// All addresses, for errors.
    pub(super) fn service(&self) -> String {
        let addresses: Vec<_> = (0..self.count()).map(|index| self.address(index)).collect();
        format!("redlock at {}", addresses.join(","))
    }

    /// Runs a script on each, made anew for each.
    ///
    /// A connection that must be made first is waited for no longer than the limit. Whoever stops listening
    /// leaves the scripts that are under way to themselves.
    pub(super) fn ask<T>(
        &self,
        limit: Duration,
        late: Late,
        script: impl Fn() -> ScriptInvocation<'static>,
    ) -> Round<T>
    where
        T: FromRedisValue + Send + 'static,
    {
        let (sender, answers) = mpsc::unbounded_channel();
        let over = Arc::<AtomicBool>::default();
        for (index, link) in self.0.iter().cloned().enumerate() {
            let (sender, script, over) = (sender.clone(), script(), over.clone());
            tokio::spawn(async move {
                let may_send = || late == Late::Send || !over.load(Ordering::Relaxed);
                let answer = ask_one(&link, limit, &script, may_send).await;
                // Nobody listens when the round is over.
                let _ = sender.send((index, answer));
            });
        }
        Round {
            answers,
            until: Instant::now() + limit,
            over,
        }
    }
}

async fn ask_one<T: FromRedisValue>(
    link: &Link,
    limit: Duration,
    script: &ScriptInvocation<'_>,
    may_send: impl Fn() -> bool,
) -> RedisResult<T> {
    let timeout = || std::io::Error::from(std::io::ErrorKind::TimedOut).into();
    loop {
        let started = Instant::now();
        let wire = tokio::time::timeout(limit, link.wire())
            .await
            .map_err(|_| timeout())??;
        if !may_send() {
            return Err(timeout());
        }
        match link.run(&wire, script).await {
            // It broke when it was not used, or the instance has been started again: worth another.
            Err(error) if error.is_connection_dropped() && started.elapsed() < limit && may_send() => {}
            answer => return answer,
        }
    }
}

impl<T> Round<T> {
    /// The next answer and whose it is; `None` when all have answered or the time is up.
    ///
    /// # Cancel safety
    /// Yes.
    pub(super) async fn next(&mut self) -> Option<(usize, RedisResult<T>)> {
        tokio::time::timeout_at(self.until, self.answers.recv())
            .await
            .ok()?
    }

    /// All answers that come in time, by instance.
    pub(super) async fn all(mut self, count: usize) -> Vec<Option<RedisResult<T>>> {
        let mut all: Vec<_> = (0..count).map(|_| None).collect();
        while let Some((index, answer)) = self.next().await {
            all[index] = Some(answer);
        }
        all
    }
}

impl<T> Drop for Round<T> {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
