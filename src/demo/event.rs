//! What happens in the demo, with the moment at which it did.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use fencegate::clock;

/// Who does something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The first writer, which is stopped.
    A,
    /// The second one.
    B,
    /// The demo itself.
    Demo,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::B => "B",
            Self::Demo => "-",
        })
    }
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "happening", rename_all = "snake_case")]
pub enum Happening {
    /// A writer asks for the fence.
    Asks,
    /// It was granted a lease.
    Holds {
        /// The token, as epoch-sequence.
        token: String,
        /// Its time to live.
        ttl_ms: u64,
    },
    /// It has read the ledger.
    Read {
        /// What the ledger held.
        ledger: Vec<String>,
    },
    /// It was told that its write is done.
    Wrote {
        /// The token that it showed, as epoch-sequence.
        token: String,
        /// What it wrote.
        ledger: Vec<String>,
        /// The entry that it added.
        added: String,
    },
    /// Its write was refused.
    Refused {
        /// The token that it showed, as epoch-sequence.
        token: String,
        /// The HTTP status.
        status: u16,
        /// The kind of the refusal.
        problem: String,
        /// The fence's mark, as epoch-sequence.
        mark: Option<String>,
    },
    /// It released its lease.
    Released,
    /// The demo stopped A.
    Stopped,
    /// The demo woke A.
    Woken,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub struct Event {
    /// How long after the run's start.
    pub at: Duration,
    /// Who did it.
    pub who: Who,
    /// What it was.
    pub happening: Happening,
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asks => write!(f, "asks for the fence"),
            Self::Holds { token, ttl_ms } => {
                write!(f, "holds it: token {token}, for {} s", *ttl_ms as f64 / 1000.0)
            }
            Self::Read { ledger } => write!(f, "reads the ledger: [{}]", ledger.join(", ")),
            Self::Wrote { token, ledger, .. } => {
                write!(f, "writes [{}] with token {token}: accepted", ledger.join(", "))
            }
            Self::Refused {
                token,
                status,
                problem,
                mark,
            } => {
                write!(f, "writes with token {token}: REFUSED, {status} {problem}")?;
                match mark {
                    Some(mark) => write!(f, ", mark {mark}"),
                    None => Ok(()),
                }
            }
            Self::Released => write!(f, "releases the fence"),
            Self::Stopped => write!(f, "A is stopped with SIGSTOP, before it can write"),
            Self::Woken => write!(f, "A is woken with SIGCONT: it still believes that it holds it"),
        }
    }
}

/// One line of the time line, at most 80 columns wide for the demo's own names.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>8.3} s  {}  {}",
            self.at.as_secs_f64(),
            self.who,
            self.happening
        )
    }
}

/// Passes events on, with their moments counted from its own start.
pub(super) struct Reporter<'a> {
    start: Duration,
    report: &'a (dyn Fn(&Event) + Send + Sync),
}

impl<'a> Reporter<'a> {
    pub(super) fn new(report: &'a (dyn Fn(&Event) + Send + Sync)) -> Self {
        Self {
            start: clock::boot().1,
            report,
        }
    }

    /// Something that happens now.
    pub(super) fn note(&self, who: Who, happening: Happening) {
        self.at(clock::boot().1, who, happening);
    }

    /// Something that happened at a moment of the clock that all processes share.
    pub(super) fn at(&self, moment: Duration, who: Who, happening: Happening) {
        (self.report)(&Event {
            at: moment.saturating_sub(self.start),
            who,
            happening,
        });
    }
}
