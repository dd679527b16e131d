//! Sessions with ZooKeeper, shared by all leases of about the same TTL.
//!
//! A session's timeout is fixed when it begins, and a server takes 60 connections from one address, so there is
//! one for each of a few timeouts, never one for each lease. A lease's TTL is the timeout of its session: that
//! is how long its lock outlives this process.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Semaphore, SemaphorePermit};
use zookeeper_client::{Client, Error, SessionState};

use super::{address::Address, together::Writes};
use crate::{
    clock::Moment,
    lock::{LockError, Term},
};

/// How long a call may take, with what it takes to connect.
pub(super) const LIMIT: Duration = Duration::from_secs(5);

/// After how much silence a server is given up for another one, if the session's timeout does not demand less.
const SILENCE: Duration = Duration::from_secs(2);

/// How many bytes of paths a session watches. After a broken connection the client asks for all of them anew, and if they need
/// more than one request, of 128 KiB, it takes the answer to the second for an error, and the session ends.
const WATCHED: usize = 96 * 1024;

/// The timeouts that sessions are asked for, in milliseconds. A TTL between two of them is rounded up.
const TIMEOUTS: [u64; 18] = [
    500, 1_000, 2_000, 5_000, 10_000, 15_000, 20_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_200_000,
    1_800_000, 3_600_000, 7_200_000, 21_600_000, 86_400_000,
];

/// A session. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) client: Client,
    /// The timeout that the server granted.
    pub(super) timeout: Duration,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    broken: AtomicBool,
    /// Whether the last call ran out of time.
    unanswered: AtomicBool,
    /// When the last request was sent whose answer proves that the leader knew the session.
    proven: Mutex<Moment>,
    writes: Mutex<Writes>,
    /// The bytes of paths that may yet be watched.
    watches: Semaphore,
    /// The path of the znode of the identity.
    identity: String,
}

impl Session {
    /// Makes a call, or several that were sent together. Gives [`Error::Timeout`] after [`LIMIT`].
    pub(super) async fn call<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let result = tokio::time::timeout(LIMIT, call)
            .await
            .unwrap_or(Err(Error::Timeout));
        let unanswered = matches!(result, Err(Error::Timeout));
        self.state.unanswered.store(unanswered, Ordering::Relaxed);
        if matches!(result, Err(Error::UnexpectedError(_))) {
            // The client does not understand the server, or its task is gone.
            self.state.broken.store(true, Ordering::Relaxed);
        }
        result
    }

    /// Reads, again if the connection broke meanwhile.
    pub(super) async fn read<T, F>(&self, read: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let patiently = async {
            loop {
                match read().await {
                    Err(error) if is_broken_connection(&error) => {}
                    result => return result,
                }
            }
        };
        self.call(patiently).await
    }

    /// Notes that the leader, not only the server that one is connected to, answered what was sent then: a write,
    /// or a `sync`. The session lives for its timeout from then on.
    pub(super) fn prove(&self, sent: Moment) {
        let mut proven = self.proven();
        *proven = sent.max(*proven);
    }

    /// Whether that was a moment ago, short against the timeout.
    pub(super) fn is_proven(&self) -> bool {
        self.proven().elapsed() < self.timeout / 50
    }

    /// What was asked of it, and waits to be sent.
    pub(super) fn writes(&self) -> MutexGuard<'_, Writes> {
        self.state
            .writes
            .lock()
            .expect("nothing panics while it holds the writes")
    }

    /// The right to watch a znode, to be kept as long as the watch; `None` if too many are watched.
    pub(super) fn room_to_watch(&self, path: &str) -> Option<SemaphorePermit<'_>> {
        let bytes = u32::try_from(path.len()).ok()?;
        self.state.watches.try_acquire_many(bytes).ok()
    }

    pub(super) fn identity(&self) -> &str {
        &self.state.identity
    }

    /// How long it lives, as far as is proven.
    pub(super) fn term(&self) -> Term {
        Term::new(*self.proven(), self.timeout)
    }

    fn proven(&self) -> MutexGuard<'_, Moment> {
        self.state
            .proven
            .lock()
            .expect("nothing panics while it holds a moment")
    }

    /// Whether it may begin to serve. One that cannot connect again goes on trying, for those that it serves: an
    /// ensemble that was restored refuses whoever has seen more than it knows, but takes new sessions.
    fn is_of_use(&self) -> bool {
        let is_stuck = || {
            self.state.unanswered.load(Ordering::Relaxed) && self.client.state() == SessionState::Disconnected
        };
        !self.is_over() && !is_stuck()
    }

    /// Whether it has ended, and everything that it held with it.
    pub(super) fn is_over(&self) -> bool {
        self.state.broken.load(Ordering::Relaxed) || self.client.state().is_terminated()
    }
}

/// Whether the connection broke, so that nobody knows whether the server did what it was asked. The client makes
/// another one, for the same session.
pub(super) fn is_broken_connection(error: &Error) -> bool {
    // What the operating system says comes as `Custom`.
    matches!(error, Error::ConnectionLoss | Error::Custom(_))
}

/// Whether an error says that the session has ended.
pub(super) fn ends_session(error: &Error) -> bool {
    matches!(error, Error::SessionExpired | Error::ClientClosed)
}

/// The sessions of this process with one ensemble.
#[derive(Debug)]
pub(super) struct Sessions {
    address: Address,
    slots: Mutex<HashMap<Duration, Slot>>,
}

/// Locked while its session is being made, so that it is made once.
type Slot = Arc<tokio::sync::Mutex<Option<Session>>>;

impl Sessions {
    pub(super) fn new(address: Address) -> Self {
        Self {
            address,
            slots: Mutex::default(),
        }
    }

    /// One whose timeout is the TTL or somewhat more, as far as the server grants it.
    pub(super) async fn for_ttl(&self, ttl: Duration) -> Result<Session, LockError> {
        let timeout = TIMEOUTS
            .map(Duration::from_millis)
            .into_iter()
            .find(|timeout| *timeout >= ttl);
        self.get(timeout.unwrap_or(ttl)).await
    }

    /// One to read with, whatever its timeout.
    pub(super) async fn any(&self) -> Result<Session, LockError> {
        for slot in self.slots().values() {
            if let Ok(slot) = slot.try_lock()
                && let Some(session) = slot.as_ref().filter(|session| session.is_of_use())
            {
                return Ok(session.clone());
            }
        }
        self.get(Duration::from_secs(10)).await
    }

    async fn get(&self, timeout: Duration) -> Result<Session, LockError> {
        let slot = self.slots().entry(timeout).or_default().clone();
        let get = async {
            let mut slot = slot.lock().await;
            match slot.as_ref().filter(|session| session.is_of_use()) {
                Some(session) => Ok(session.clone()),
                None => Ok(slot.insert(self.connect(timeout).await?).clone()),
            }
        };
        let result = tokio::time::timeout(LIMIT, get)
            .await
            .unwrap_or(Err(Error::Timeout));
        result.map_err(|error| self.error(error))
    }

    async fn connect(&self, timeout: Duration) -> Result<Session, Error> {
        let sent = Moment::now();
        let client = Client::connector()
            .with_session_timeout(timeout)
            .with_connection_timeout(SILENCE.min(timeout * 2 / 5))
            .with_fail_eagerly()
            .connect(&self.address.connect_string())
            .await?;
        Ok(Session {
            timeout: client.session_timeout(),
            client,
            state: Arc::new(State {
                broken: AtomicBool::new(false),
                unanswered: AtomicBool::new(false),
                proven: Mutex::new(sent),
                writes: Mutex::default(),
                watches: Semaphore::new(WATCHED),
                identity: self.address.identity_path(),
            }),
        })
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// What an error means to whoever asked for a lock.
    pub(super) fn error(&self, error: Error) -> LockError {
        let service = self.address.service();
        let detail = match &error {
            Error::NoHosts => "none of its servers takes a connection".to_owned(),
            Error::Timeout => format!("no answer within {} s", LIMIT.as_secs()),
            error => error.to_string(),
        };
        let is_transient = matches!(
            error,
            Error::NoHosts | Error::Timeout | Error::SessionMoved | Error::Throttled | Error::NotReadOnly
        );
        if is_transient || is_broken_connection(&error) || ends_session(&error) {
            LockError::Unavailable { service, detail }
        } else {
            LockError::Unexpected { service, detail }
        }
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Duration, Slot>> {
        self.slots
            .lock()
            .expect("nothing panics while it holds the slots")
    }
}
