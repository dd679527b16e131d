//! Asking all instances at once.
//!
//! Nobody waits for the slowest: a round ends when its caller has heard enough, or when its time is up.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use redis::{ConnectionInfo, FromRedisValue, RedisResult, ScriptInvocation};
use tokio::{sync::mpsc, time::Instant};

use super::scripts;
use crate::clock::Moment;
use crate::lock::{
    Server,
    redis::{
        AddressError,
        address::Servers,
        link::{Link, Wire},
        servers,
    },
};

/// The longest that an instance may take for an answer.
pub(super) const LONGEST: Duration = Duration::from_millis(500);
/// What an instance may take however short the lock is.
const SHORTEST: Duration = Duration::from_millis(50);

/// The first pause before an instance that could not be told is told again.
const PAUSE: Duration = Duration::from_millis(250);

/// The instances of a redlock. Clones share their connections.
#[derive(Clone)]
pub(super) struct Instances(Arc<[Link]>);

/// One question to all instances.
pub(super) struct Round<T> {
    answers: mpsc::UnboundedReceiver<(usize, RedisResult<T>)>,
    until: Instant,
    over: Arc<AtomicBool>,
}

/// The connections on which an attempt has reached the instances.
#[derive(Clone)]
pub(super) struct Trail(Arc<Mutex<Vec<Option<Wire>>>>);

/// How long an instance may take, for a lock with this TTL: short against it, so that one instance that does not
/// answer costs little of the time that the lock is valid.
pub(super) fn limit(ttl: Duration) -> Duration {
    (ttl / 5).clamp(SHORTEST, LONGEST)
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

    /// What each says of itself.
    pub(super) async fn ask_servers(&self) -> Vec<Server> {
        let asked = self.0.iter().enumerate();
        join_all(asked.map(|(index, link)| servers::ask(self.address(index), link))).await
    }

    /// Runs a script on each, made anew for each.
    ///
    /// A connection that must be made first is waited for no longer than the limit, and what could not be sent
    /// before the round was over is not sent. Whoever stops listening leaves what is under way to itself.
    pub(super) fn ask<T>(&self, limit: Duration, script: impl Fn() -> ScriptInvocation<'static>) -> Round<T>
    where
        T: FromRedisValue + Send + 'static,
    {
        self.ask_on(&Trail::new(self.count()), limit, script)
    }

    /// The same, and leaves a trail.
    pub(super) fn ask_on<T>(
        &self,
        trail: &Trail,
        limit: Duration,
        script: impl Fn() -> ScriptInvocation<'static>,
    ) -> Round<T>
    where
        T: FromRedisValue + Send + 'static,
    {
        let over = Arc::<AtomicBool>::default();
        self.each(limit, over.clone(), |index, link| {
            let (script, trail, over) = (script(), trail.clone(), over.clone());
            async move {
                let before = |wire: &Wire| {
                    let may_send = !over.load(Ordering::Relaxed);
                    if may_send {
                        trail.leave(index, wire);
                    }
                    may_send
                };
                ask_one(&link, limit, &script, before).await
            }
        })
    }

    /// Runs a script that takes back on each, late or not.
    pub(super) fn tell(&self, script: impl Fn() -> ScriptInvocation<'static>) -> Round<i64> {
        self.each(LONGEST, Arc::default(), |_, link| {
            let script = script();
            async move { ask_one(&link, LONGEST, &script, |_| true).await }
        })
    }

    /// The same, where a trail leads: first on the connection on which the instance was reached, behind what is to
    /// be taken back; then again and again, until it is done or `until` has passed.
    pub(super) fn take_back(
        &self,
        trail: &Trail,
        limit: Duration,
        until: Moment,
        script: impl Fn() -> ScriptInvocation<'static>,
    ) -> Round<i64> {
        self.each(limit, Arc::default(), |index, link| {
            let (script, wire) = (script(), trail.at(index));
            async move {
                let Some(wire) = wire else { return Ok(-1) };
                let mut answer = link.run(&wire, &script).await;
                let mut pause = PAUSE;
                while answer.is_err() && !until.has_passed() {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST * 10);
                    answer = ask_one(&link, LONGEST, &script, |_| true).await;
                }
                answer
            }
        })
    }

    fn each<T, F>(
        &self,
        limit: Duration,
        over: Arc<AtomicBool>,
        request: impl Fn(usize, Link) -> F,
    ) -> Round<T>
    where
        T: Send + 'static,
        F: Future<Output = RedisResult<T>> + Send + 'static,
    {
        let (sender, answers) = mpsc::unbounded_channel();
        for (index, link) in self.0.iter().enumerate() {
            let (sender, request) = (sender.clone(), request(index, link.clone()));
            // Nobody listens when the round is over.
            tokio::spawn(async move { sender.send((index, request.await)) });
        }
        Round {
            answers,
            until: Instant::now() + limit,
            over,
        }
    }
}

/// Asks on the connection that stands, if `before` lets it.
async fn ask_one<T: FromRedisValue>(
    link: &Link,
    limit: Duration,
    script: &ScriptInvocation<'_>,
    before: impl Fn(&Wire) -> bool,
) -> RedisResult<T> {
    let timeout = || std::io::Error::from(std::io::ErrorKind::TimedOut).into();
    let started = Instant::now();
    loop {
        let wire = tokio::time::timeout(limit, link.wire())
            .await
            .map_err(|_| timeout())??;
        if !before(&wire) {
            return Err(timeout());
        }
        match link.run(&wire, script).await {
            // It broke when it was not used, or the instance has been started again: worth another.
            Err(error) if error.is_connection_dropped() && started.elapsed() < limit => {}
            answer => return answer,
        }
    }
}

impl Trail {
    pub(super) fn new(count: usize) -> Self {
        Self(Arc::new(Mutex::new(vec![None; count])))
    }

    fn leave(&self, index: usize, wire: &Wire) {
        self.wires()[index] = Some(wire.clone());
    }

    fn at(&self, index: usize) -> Option<Wire> {
        self.wires()[index].clone()
    }

    fn wires(&self) -> MutexGuard<'_, Vec<Option<Wire>>> {
        self.0.lock().expect("nothing panics while it holds the wires")
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
