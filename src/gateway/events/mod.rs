//! What happens, as it happens, for those who listen to this gateway.
//!
//! A replica tells what went through itself: it knows nothing of what other replicas grant and write, nor of leases
//! that run out (`lost` says that a holder found out). Nothing of this is stored. What happens to leases is always
//! remembered for a while, so that a listener who lost its connection can go on; writes and refusals, of which there
//! may be tens of thousands a second, only while somebody listens and for [`LINGER`] after that.
//!
//! No listener is ever waited for, and nothing is kept for one beyond what is remembered anyway: who is too slow is
//! told that it missed some.

mod ring;
mod stream;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::name::FenceName;
use ring::Ring;
pub(super) use stream::{EVENTS, routes};

/// How many events a listener may be behind.
const BEHIND: usize = 4096;
/// How long writes and refusals are remembered when nobody listens any more.
const LINGER: Duration = Duration::from_secs(60);

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// A lease was granted.
    Granted,
    /// Its holder gave it back.
    Released,
    /// An operator ended it.
    ForceReleased,
    /// Its holder found out that it is over.
    Lost,
    /// A record was written, or deleted.
    Written,
    /// The guard refused a token.
    Refused,
}

impl What {
    pub(super) const ALL: [Self; 6] = [
        Self::Granted,
        Self::Released,
        Self::ForceReleased,
        Self::Lost,
        Self::Written,
        Self::Refused,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Released => "released",
            Self::ForceReleased => "force-released",
            Self::Lost => "lost",
            Self::Written => "written",
            Self::Refused => "refused",
        }
    }

    /// Whether there may be very many of them.
    fn is_frequent(self) -> bool {
        matches!(self, Self::Written | Self::Refused)
    }
}

/// What there is to say of an event. Tokens and marks are shown as epoch-sequence.
#[derive(Debug, Default, Serialize)]
#[serde(default)]
pub(super) struct Said {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ttl_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) waited_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) change: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mark: Option<String>,
}

#[derive(Serialize)]
struct Json<'a> {
    at: Option<String>,
    fence: &'a str,
    #[serde(flatten)]
    said: &'a Said,
}

#[derive(Debug)]
struct Event {
    number: u64,
    what: What,
    fence: FenceName,
    json: String,
}

/// Where a listener is: the run of the gateway, and the last event of it that it has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    run: u32,
    number: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", self.run, self.number)
    }
}

/// The events of one run of a gateway.
pub(super) struct Events {
    run: u32,
    live: broadcast::Sender<Arc<Event>>,
    /// Whether frequent events are wanted.
    eager: AtomicBool,
    past: Mutex<Past>,
}

struct Past {
    /// The number of the last event.
    last: u64,
    rare: Ring,
    frequent: Ring,
    listeners: usize,
    /// When the last listener left.
    left: Instant,
}

/// What a listener gets first, and the rest as it comes.
struct Listening {
    past: Vec<Arc<Event>>,
    /// Whether there were others that nobody remembers.
    missed: bool,
    /// Where it is with all of `past`.
    place: Place,
    live: broadcast::Receiver<Arc<Event>>,
    _counted: Counted,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            run: Uuid::new_v4().as_fields().0,
            live: broadcast::Sender::new(BEHIND),
            eager: AtomicBool::new(false),
            past: Mutex::new(Past {
                last: 0,
                rare: Ring::default(),
                frequent: Ring::default(),
                listeners: 0,
                left: Instant::now(),
            }),
        }
    }
}

impl Events {
    /// Whether it is worth the while to say that this happened.
    pub(super) fn wants(&self, what: What) -> bool {
        !what.is_frequent() || self.eager.load(Ordering::Relaxed)
    }

    /// Something happened to a fence.
    pub(super) fn tell(&self, what: What, fence: &FenceName, said: &Said) {
        if !self.wants(what) {
            return;
        }
        let json = serde_json::to_string(&Json {
            at: OffsetDateTime::now_utc().format(&Rfc3339).ok(),
            fence: fence.as_str(),
            said,
        });
        let Ok(json) = json else { return };
        let mut past = self.past();
        if what.is_frequent() && past.listeners == 0 && past.left.elapsed() > LINGER {
            self.eager.store(false, Ordering::Relaxed);
            past.frequent.forget();
            return;
        }
        past.last += 1;
        let event = Arc::new(Event {
            number: past.last,
            what,
            fence: fence.clone(),
            json,
        });
        past.ring(what).push(event.clone());
        // Under the lock, so that all listeners get them in the order of their numbers. Nobody may be listening.
        let _ = self.live.send(event);
    }

    /// How many listen.
    pub(super) fn listeners(&self) -> usize {
        self.past().listeners
    }

    /// Listens on from `after`, or from now on; `None` if there are too many listeners already.
    fn listen(self: &Arc<Self>, after: Option<&Place>, kinds: &[What], most: usize) -> Option<Listening> {
        let mut past = self.past();
        if past.listeners >= most {
            return None;
        }
        if !self.eager.swap(true, Ordering::Relaxed) {
            // There may have been others, which have no numbers.
            past.last += 1;
            let unseen = past.last;
            past.frequent.begin_after(unseen);
        }
        past.listeners += 1;
        let (mut events, mut missed) = (Vec::new(), false);
        if let Some(after) = after {
            let known = after.run == self.run && after.number <= past.last;
            missed = !known || kinds.iter().any(|what| !past.ring(*what).reaches(after.number));
            if known {
                events.extend(past.rare.after(after.number));
                events.extend(past.frequent.after(after.number));
                events.sort_unstable_by_key(|event| event.number);
            }
        }
        Some(Listening {
            past: events,
            missed,
            place: Place {
                run: self.run,
                number: past.last,
            },
            live: self.live.subscribe(),
            _counted: Counted(self.clone()),
        })
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Past {
    fn ring(&mut self, what: What) -> &mut Ring {
        if what.is_frequent() {
            &mut self.frequent
        } else {
            &mut self.rare
        }
    }
}

/// A listener, for as long as it is there.
struct Counted(Arc<Events>);

impl Drop for Counted {
    fn drop(&mut self) {
        let mut past = self.0.past();
        past.listeners -= 1;
        past.left = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(events: &Events, what: What) {
        events.tell(what, &"f".parse().unwrap(), &Said::default());
    }

    #[test]
    fn writes_that_nobody_wanted_to_hear_of_are_missed_and_grants_are_not() {
        let events = Arc::new(Events::default());
        let listen = |after: Option<&Place>, kinds: &[What]| events.listen(after, kinds, 10).unwrap();
        tell(&events, What::Written);
        tell(&events, What::Granted);
        let from_the_start = Place {
            run: events.run,
            number: 0,
        };
        let all = listen(Some(&from_the_start), &What::ALL);
        assert_eq!((all.past.len(), all.missed), (1, true));
        let leases = listen(Some(&from_the_start), &[What::Granted]);
        assert_eq!((leases.past.len(), leases.missed), (1, false));

        // While somebody listens, and for a while after, all is remembered.
        tell(&events, What::Written);
        let place = all.place.clone();
        drop((all, leases));
        tell(&events, What::Refused);
        let again = listen(Some(&place), &What::ALL);
        assert_eq!((again.past.len(), again.missed), (2, false));
        drop(again);

        let long_ago = Instant::now().checked_sub(LINGER + Duration::from_secs(1));
        events.past().left = long_ago.expect("the machine has been up for longer");
        tell(&events, What::Written);
        assert!(!events.wants(What::Written));
        tell(&events, What::Granted);
        let late = listen(Some(&place), &What::ALL);
        assert_eq!((late.past.len(), late.missed), (1, true));
        assert_eq!(events.listeners(), 1);
    }

    #[test]
    fn a_place_that_is_yet_to_come_is_another_history() {
        let events = Arc::new(Events::default());
        tell(&events, What::Granted);
        let place = Place {
            run: events.run,
            number: 99,
        };
        let listening = events.listen(Some(&place), &[What::Granted], 10).unwrap();
        assert_eq!((listening.past.len(), listening.missed), (0, true));
    }
}
