//! The line of those in this process who wait for the same fence, along which the lock itself goes from hand to hand.
//!
//! Only the first in a line has a key in etcd's queue, so a lock costs etcd the same whether one or a thousand wait
//! for it here, and other processes, which have a key each too, are not starved. A release in this process does not call
//! the first in line to ask for the lock, as those of `lock/line.rs` do: as long as no other process waits, its
//! transaction deletes one key, puts the next, and the first in line has the lock. Once the first in line has a key,
//! the release sees in its transaction who is first in the queue then; if that is the first in line, it is told at once.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::sync::{oneshot, watch};

use super::{hand_over::Handed, queue::Queue};
use crate::{lock::Request, name::FenceName, token::HolderHash};

/// The lines of all fences that somebody here waits for. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Relays(Arc<Mutex<HashMap<FenceName, Arc<Relay>>>>);

/// The line of one fence.
#[derive(Debug)]
pub(super) struct Relay {
    /// Held by the first in line until it has the lock; the others queue for it in order.
    first: Arc<tokio::sync::Mutex<()>>,
    /// The last release in this process.
    released: watch::Sender<Option<Release>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many are in it.
    waiting: u64,
    /// How many have ever been.
    joined: u64,
    /// Those whom the lock can be handed to, in order.
    takers: VecDeque<Taker>,
    /// Whether the first in line has a key in etcd's queue, or is about to.
    queues: bool,
}

/// Somebody whom the lock can be handed to.
#[derive(Debug)]
pub(super) struct Taker {
    place: u64,
    pub(super) holder: HolderHash,
    pub(super) label: String,
    pub(super) ttl: Duration,
    hand: oneshot::Sender<Handed>,
}

impl Taker {
    /// Gives it the lock. If it is not there any more, the lock is given back.
    pub(super) fn take(self, handed: Handed) {
        drop(self.hand.send(handed));
    }
}

/// A release in this process, and the queue as it left it.
#[derive(Debug, Clone)]
pub(super) struct Release {
    /// The create revision of the key that was deleted.
    pub(super) deleted: i64,
    /// The queue behind it, if the release looked: the owner and the identity.
    pub(super) queue: Option<Queue>,
}

/// A place in a line. A line goes when nobody is in it any more.
pub(super) struct Place {
    number: u64,
    relays: Relays,
    name: FenceName,
    relay: Arc<Relay>,
    hand: Option<oneshot::Receiver<Handed>>,
    queues: bool,
    /// Dropped last, so that the next in line finds everything in order.
    first: Option<tokio::sync::OwnedMutexGuard<()>>,
}

impl Relays {
    /// Joins the line of this fence at its end.
    pub(super) fn join(&self, request: &Request) -> Place {
        let mut relays = self.relays();
        let relay = relays.entry(request.name.clone()).or_insert_with(|| {
            Arc::new(Relay {
                first: Arc::default(),
                released: watch::Sender::new(None),
                state: Mutex::default(),
            })
        });
        let (hand, mine) = oneshot::channel();
        let mut state = relay.state();
        state.waiting += 1;
        state.joined += 1;
        let number = state.joined;
        state.takers.push_back(Taker {
            place: number,
            holder: request.holder.hash(),
            label: request.label.clone(),
            ttl: request.ttl,
            hand,
        });
        drop(state);
        Place {
            number,
            relays: self.clone(),
            name: request.name.clone(),
            relay: relay.clone(),
            hand: Some(mine),
            queues: false,
            first: None,
        }
    }

    /// The line of this fence, if anybody is in it.
    pub(super) fn get(&self, name: &FenceName) -> Option<Arc<Relay>> {
        self.relays().get(name).cloned()
    }

    fn relays(&self) -> MutexGuard<'_, HashMap<FenceName, Arc<Relay>>> {
        self.0.lock().expect("nothing panics while it holds the lines")
    }
}

impl Relay {
    /// Takes out the one to whom the lock is to be handed: the first in line, unless it has a key of its own.
    pub(super) fn next_taker(&self) -> Option<Taker> {
        let mut state = self.state();
        if state.queues {
            return None;
        }
        state.takers.pop_front()
    }

    /// Tells the first in line of a release.
    pub(super) fn tell(&self, release: Release) {
        self.released.send_replace(Some(release));
    }

    /// What is told from now on.
    pub(super) fn listen(&self) -> watch::Receiver<Option<Release>> {
        self.released.subscribe()
    }

    /// How many are in it without a key in etcd.
    pub(super) fn without_key(&self) -> u64 {
        let state = self.state();
        state.waiting.saturating_sub(u64::from(state.queues))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics while it holds the state")
    }
}

impl Place {
    /// What is handed over to this one; `None` once nothing will be.
    ///
    /// # Cancel safety
    /// Yes.
    pub(super) async fn handed(&mut self) -> Option<Handed> {
        let handed = self.hand.as_mut()?.await.ok();
        self.hand = None;
        handed
    }

    /// Waits to be first in line; the lock, if it is handed over before.
    ///
    /// # Cancel safety
    /// Yes.
    pub(super) async fn turn(&mut self) -> Option<Handed> {
        let first = self.relay.first.clone().lock_owned();
        tokio::select! {
            biased;
            Some(handed) = self.handed() => Some(handed),
            first = first => {
                self.first = Some(first);
                None
            }
        }
    }

    /// Whoever is first in line queues in etcd from now on, and is handed nothing; `false` if somebody is about to
    /// hand it the lock.
    pub(super) fn will_queue(&mut self) -> bool {
        let mut state = self.relay.state();
        state.queues = true;
        self.queues = true;
        let before = state.takers.len();
        state.takers.retain(|taker| taker.place != self.number);
        before > state.takers.len()
    }
}

impl std::ops::Deref for Place {
    type Target = Relay;

    fn deref(&self) -> &Relay {
        &self.relay
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut relays = self.relays.relays();
        let mut state = self.relay.state();
        state.waiting -= 1;
        state.takers.retain(|taker| taker.place != self.number);
        if self.queues {
            state.queues = false;
        }
        if state.waiting == 0 {
            relays.remove(&self.name);
        }
    }
}
