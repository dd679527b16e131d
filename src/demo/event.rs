//! What happens in the demo, with the moment at which it did.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use fencegate::clock;

/// How far behind the clock events are told, so that those of different processes are told in their order.
const LAG: Duration = Duration::from_millis(50);

/// Who does something, or where something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Who {
    /// The first writer, which has bad luck.
    A,
    /// The second one.
    B,
    /// The lock service.
    #[serde(rename = "lock service")]
    Lock,
    /// The store.
    #[serde(rename = "store")]
    Store,
    /// The demo itself.
    #[serde(rename = "demo")]
    Demo,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::B => "B",
            Self::Lock => "the lock service",
            Self::Store => "the store",
            Self::Demo => "the demo",
        })
    }
}

/// What is done. Tokens are written as epoch-sequence, which is harmless to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "happening", rename_all = "snake_case")]
pub enum Happening {
    /// A writer asks for the fence.
    Asks,
    /// It was granted a lease.
    Holds { token: String, ttl_ms: u64 },
    /// It was refused one.
    NotGranted { status: u16, problem: String },
    /// It has read the ledger.
    Read { ledger: Vec<String> },
    /// Its renewal failed, which tells it nothing of who holds the fence.
    NotRenewed { status: u16, problem: String },
    /// It sends a whole transaction, to its commit.
    Sends { token: String, ledger: Vec<String> },
    /// It was told that its write is done.
    Wrote {
        token: String,
        ledger: Vec<String>,
        /// The entry that it added.
        added: String,
    },
    /// Its write was refused.
    Refused {
        token: String,
        ledger: Vec<String>,
        status: u16,
        problem: String,
        mark: Option<String>,
    },
    /// It released its lease.
    Released,

    /// The lock service gave the lock to a writer.
    Locked { to: Who, sequence: String },
    /// The lock service no longer has a writer's lock, which was not released.
    Over { of: Who },
    /// A writer's lock was released.
    Freed { of: Who },

    /// The mark was raised to a token.
    Sealed { token: String },
    /// The mark stands in the way of a token that was just granted.
    NotSealed { token: String },

    /// A was stopped with SIGSTOP.
    Stopped,
    /// A was woken with SIGCONT.
    Woken,
    /// A's way to the lock service was cut.
    Cut,
    /// It was mended.
    Mended,
    /// The lock service's clock jumped: it has let A's lock go before its time.
    ClockJumped {
        /// What was done for it.
        how: String,
    },
    /// The lock service lost its last writes: A's lock and the count.
    LostWrites { how: String },
    /// A's grant is held up between the lock and the seal.
    HeldUp,
    /// A was killed with SIGKILL.
    Killed,
    /// A's session at the database goes on without A.
    SessionGoesOn,
    /// That session has ended; whether it was ended, or came to its end and committed.
    SessionOver { committed: bool },
}

/// Something that happened.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// How long after the run's start.
    #[serde(rename = "at_us", serialize_with = "microseconds")]
    pub at: Duration,
    /// Who did it, or where it was.
    pub who: Who,
    /// What it was.
    #[serde(flatten)]
    pub happening: Happening,
}

fn microseconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

/// A ledger, as people read it.
pub(super) fn list(ledger: &[String]) -> String {
    format!("[{}]", ledger.join(", "))
}

/// Passes events on, with their moments counted from the run's start. Clones pass them to the same.
#[derive(Debug, Clone)]
pub(super) struct Reporter {
    start: Duration,
    events: mpsc::UnboundedSender<Event>,
}

impl Reporter {
    /// A run starts here. What it reports is to be read with [`in_order`].
    pub(super) fn start() -> (Self, Reported) {
        let (start, (events, receiver)) = (clock::boot().1, mpsc::unbounded_channel());
        (Self { start, events }, Reported { start, receiver })
    }

    /// Something that happens now.
    pub(super) fn note(&self, who: Who, happening: Happening) {
        self.at(clock::boot().1, who, happening);
    }

    /// Something that happened at a moment of the clock that all processes share.
    pub(super) fn at(&self, moment: Duration, who: Who, happening: Happening) {
        let at = moment.saturating_sub(self.start);
        // Whoever reads them may have had enough.
        let _ = self.events.send(Event { at, who, happening });
    }
}

/// What reporters have to say.
pub(super) struct Reported {
    start: Duration,
    receiver: mpsc::UnboundedReceiver<Event>,
}

impl Reported {
    /// Tells each event, a moment late and in the order in which they happened, until `done`. Answers with all of
    /// them.
    pub(super) async fn in_order(mut self, done: &CancellationToken, tell: impl Fn(&Event)) -> Vec<Event> {
        let (mut told, mut waiting) = (Vec::new(), Vec::new());
        loop {
            // Before the look for more, so that none is missed.
            let is_done = done.is_cancelled();
            if let Ok(Some(event)) = tokio::time::timeout(LAG / 2, self.receiver.recv()).await {
                waiting.push(event);
            }
            while let Ok(event) = self.receiver.try_recv() {
                waiting.push(event);
            }
            waiting.sort_by_key(|event| event.at);
            let ripe = match is_done {
                true => Duration::MAX,
                false => clock::boot().1.saturating_sub(self.start).saturating_sub(LAG),
            };
            let upto = waiting.partition_point(|event| event.at <= ripe);
            for event in waiting.drain(..upto) {
                tell(&event);
                told.push(event);
            }
            if is_done {
                // A process that was slow to tell may have been late all the same.
                told.sort_by_key(|event| event.at);
                return told;
            }
        }
    }
}
