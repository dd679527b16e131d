//! Rejections: who was refused, on which fence, with which token, and how late. Never a holder.
//!
//! They are gathered in bounded memory and written down in the background, one row for each fence and token at
//! most once a second: a crowd of stale writers must not become a crowd of writes.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex},
    time::Duration,
};

use time::OffsetDateTime;

use crate::{
    guard::Refusal,
    name::FenceName,
    rule::Reason,
    store::Store,
    token::{Epoch, Sequence},
};

/// The pause between two times that they are written down.
const PAUSE: Duration = Duration::from_secs(1);

/// How many fences and tokens are remembered between two such times, at most. Beyond it they are only logged.
const CAPACITY: usize = 1_000;

/// Who refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The guard in a program.
    Guard,
    /// The gateway.
    Gateway,
    /// A table that is protected in report mode: the write passed.
    Report,
}

impl Source {
    /// The name in the store and in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guard => "guard",
            Self::Gateway => "gateway",
            Self::Report => "report",
        }
    }
}

/// What is written down of a refusal, to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// Who refused.
    pub source: Source,
    /// Who was refused: a client, a program.
    pub who: String,
    /// The fence.
    pub fence: FenceName,
    /// Why.
    pub reason: Reason,
    /// The token's epoch-sequence.
    pub presented: String,
    /// The mark's epoch-sequence; `None` if the fence was never sealed.
    pub mark: Option<String>,
    /// When the last one was.
    pub at: OffsetDateTime,
    /// How often, since it was last written down.
    pub count: u64,
}

/// A rejection as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Rises with every row.
    pub id: i64,
    /// When it was.
    pub at: OffsetDateTime,
    /// The fence; empty where a row of a protected table names none.
    pub fence: String,
    /// Why: a [`Reason`], or what report mode says, as `missing`.
    pub reason: String,
    /// The token's epoch-sequence.
    pub presented: Option<String>,
    /// The mark's epoch-sequence.
    pub mark: Option<String>,
    /// How long after the mark was sealed, if it was still the mark when this was written.
    pub late: Option<Duration>,
    /// `guard`, `gateway` or `report`.
    pub source: String,
    /// Who was refused.
    pub who: String,
    /// The protected table, in report mode.
    pub relation: Option<String>,
    /// How often.
    pub count: i64,
}

/// Gathers rejections. Clones share what they gather.
#[derive(Debug, Clone)]
pub struct Rejections {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<dyn Store>,
    source: Source,
    gathered: Mutex<Gathered>,
}

#[derive(Debug, Default)]
struct Gathered {
    waiting: HashMap<(FenceName, Epoch, Sequence), Noted>,
    /// Whether there is a task that writes them down.
    writing: bool,
}

impl Rejections {
    /// Gathers for this store.
    pub fn new(store: Arc<dyn Store>, source: Source) -> Self {
        Self {
            shared: Arc::new(Shared {
                store,
                source,
                gathered: Mutex::default(),
            }),
        }
    }

    /// Takes a refusal, and returns at once. The first one is written down at once too, the next ones a second
    /// later at the earliest. Outside a Tokio runtime it waits for [`Rejections::flush`].
    pub fn note(&self, refusal: &Refusal, who: &str) {
        let mut gathered = self.shared.gathered();
        let full = gathered.waiting.len() >= CAPACITY;
        let key = (
            refusal.fence.clone(),
            refusal.presented.epoch,
            refusal.presented.sequence,
        );
        match gathered.waiting.entry(key) {
            Entry::Occupied(mut noted) => {
                let noted = noted.get_mut();
                noted.count += 1;
                noted.at = OffsetDateTime::now_utc();
            }
            Entry::Vacant(_) if full => {
                tracing::warn!(fence = %refusal.fence, presented = %refusal.presented, "too many rejections: one is not stored");
            }
            Entry::Vacant(free) => {
                free.insert(Noted {
                    source: self.shared.source,
                    who: who.to_owned(),
                    fence: refusal.fence.clone(),
                    reason: refusal.reason,
                    presented: refusal.presented.to_string(),
                    mark: refusal.mark.map(|mark| mark.to_string()),
                    at: OffsetDateTime::now_utc(),
                    count: 1,
                });
            }
        }
        if !gathered.writing
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            gathered.writing = true;
            runtime.spawn(write_down(self.clone()));
        }
    }

    /// Writes down what was gathered: for a program that is about to end.
    ///
    /// # Cancel safety
    /// What was being written may be lost.
    pub async fn flush(&self) {
        let waiting = std::mem::take(&mut self.shared.gathered().waiting);
        if waiting.is_empty() {
            return;
        }
        let noted: Vec<Noted> = waiting.into_values().collect();
        if let Err(error) = self.shared.store.note_rejections(&noted).await {
            tracing::warn!(rejections = noted.len(), %error, "rejections could not be stored");
        }
    }
}

impl Shared {
    fn gathered(&self) -> std::sync::MutexGuard<'_, Gathered> {
        self.gathered.lock().expect("nothing panics while it holds them")
    }
}

/// Until there are none.
async fn write_down(rejections: Rejections) {
    loop {
        {
            let mut gathered = rejections.shared.gathered();
            if gathered.waiting.is_empty() {
                gathered.writing = false;
                return;
            }
        }
        rejections.flush().await;
        tokio::time::sleep(PAUSE).await;
    }
}
