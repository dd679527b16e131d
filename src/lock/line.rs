//! The line of those in this process who wait for the same fence.
//!
//! Only the first in a line asks the server, so a lock costs the server the same whether one or a thousand wait
//! for it here. A release in this process calls the first in line at once. With Redis the two requests leave one behind
//! the other on one connection, and a hand-over takes one round trip.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::sync::Notify;

use super::{Held, LockError, Request, Term};
use crate::{clock::Moment, name::FenceName, token::HolderHash};

/// How many times a lock goes from hand to hand in this process while other processes wait for it.
const TURNS: u32 = 8;
/// More than a hand-over takes.
const PASSING: Duration = Duration::from_millis(5);

/// The lines of all fences that somebody here holds or waits for. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Lines(Arc<Mutex<Map>>);

#[derive(Debug, Default)]
struct Map {
    lines: HashMap<FenceName, Arc<Line>>,
    /// When the map has grown to this size, locks that ended without a release are cleared out.
    sweep_at: usize,
}

/// The line of one fence.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Held by the first in line; the others queue for it in order.
    first: tokio::sync::Mutex<()>,
    /// Calls the first in line when somebody here has released the lock, or news came from the server.
    pub(super) called: Notify,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Who holds the lock, as far as is known here, and until when at the least.
    held: Option<(HolderHash, Moment)>,
    /// Until when the first in line may be expected to have taken a lock that was released here.
    passing: Option<Moment>,
    /// How often it went from hand to hand here while others waited.
    turns: u32,
    /// Whether the first in line listens for news, and is among those who are told.
    listens: bool,
    others_wait: bool,
}

impl State {
    fn taken(&mut self, holder: HolderHash, until: Moment) {
        self.held = Some((holder, until));
        self.passing = None;
    }
}

/// A place near a line, which is forgotten when nobody needs it any more.
pub(super) struct Place {
    lines: Lines,
    name: FenceName,
    line: Arc<Line>,
}

impl Lines {
    /// The line of this fence.
    pub(super) fn at(&self, name: &FenceName) -> Place {
        let line = self.map().lines.entry(name.clone()).or_default().clone();
        Place {
            lines: self.clone(),
            name: name.clone(),
            line,
        }
    }

    /// A lock was acquired here: who comes next need not ask at once.
    pub(super) fn acquired(&self, name: &FenceName, holder: HolderHash, term: &Term) {
        let mut map = self.map();
        map.lines
            .entry(name.clone())
            .or_default()
            .state()
            .taken(holder, term.deadline);
        if map.lines.len() > map.sweep_at {
            map.lines.retain(|_, line| line.is_of_use());
            map.sweep_at = (map.lines.len() * 2).max(1024);
        }
    }

    /// A lock is being released here: calls who is first in its line.
    pub(super) fn released(&self, name: &FenceName, holder: &HolderHash) {
        let mut map = self.map();
        let Some(line) = map.lines.get(name) else { return };
        let mut state = line.state();
        if state.held.take_if(|(held_by, _)| held_by == holder).is_some() && line.first.try_lock().is_err() {
            state.passing = Some(Moment::now() + PASSING);
        }
        drop(state);
        line.called.notify_one();
        if !line.is_of_use() {
            map.lines.remove(name);
        }
    }

    /// How many were told of a release.
    pub(super) fn told(&self, name: &FenceName, listeners: i64) {
        if let Some(line) = self.map().lines.get(name) {
            let mut state = line.state();
            state.others_wait = listeners > i64::from(state.listens);
        }
    }

    fn map(&self) -> MutexGuard<'_, Map> {
        self.0.lock().expect("nothing panics while it holds the lines")
    }
}

/// What came of joining a line.
pub(super) enum Joined<'a> {
    /// The lock, at the first attempt.
    Held(Held),
    /// The first place, until this is dropped.
    First(#[expect(dead_code, reason = "it is there to be dropped")] tokio::sync::MutexGuard<'a, ()>),
}

impl Line {
    /// Attempts once, unless there is no use in it, and then waits to be the first.
    ///
    /// # Errors
    /// Those of the attempt; [`LockError::Busy`] when it is time to give up.
    ///
    /// # Cancel safety
    /// Yes: the place in the line is given back, and the attempt is as safe as it is by itself.
    pub(super) async fn join(
        &self,
        request: &Request,
        give_up: Moment,
        attempt: impl Future<Output = Result<Held, LockError>>,
    ) -> Result<Joined<'_>, LockError> {
        let mut busy = LockError::Busy { expires_in: None };
        if request.wait.is_zero() || !self.is_taken_for(&request.holder.hash()) {
            match attempt.await {
                Err(error @ LockError::Busy { .. }) => busy = error,
                done => return Ok(Joined::Held(done?)),
            }
        }
        if give_up.has_passed() {
            return Err(busy);
        }
        match tokio::time::timeout(give_up.remaining(), self.first.lock()).await {
            Ok(first) => Ok(Joined::First(first)),
            Err(_) => Err(busy),
        }
    }

    /// Whether another holder has the lock, as far as is known here.
    pub(super) fn is_held_by_another(&self, holder: &HolderHash) -> bool {
        let held = self.state().held;
        held.is_some_and(|(held_by, until)| held_by != *holder && !until.has_passed())
    }

    /// Whether there is no use in asking now: another has the lock, or is being given it.
    fn is_taken_for(&self, holder: &HolderHash) -> bool {
        let passing = self.state().passing;
        self.is_held_by_another(holder) || passing.is_some_and(|until| !until.has_passed())
    }

    /// Says whether the first in line listens for news.
    pub(super) fn listens(&self, listens: bool) {
        self.state().listens = listens;
    }

    /// Counts a hand-over in this process, and says whether it is now the turn of other processes. If so, whoever comes
    /// here within `turn` waits behind the first in line.
    pub(super) fn should_let_others(&self, turn: Duration) -> bool {
        let mut state = self.state();
        state.turns = if state.others_wait { state.turns + 1 } else { 0 };
        // Where locks are held for long, a moment's delay costs nothing, and eight turns would.
        if state.turns == 0 || (state.turns <= TURNS && !state.listens) {
            return false;
        }
        state.turns = 0;
        state.passing = Some(Moment::now() + turn.max(PASSING));
        true
    }

    /// Whether anybody knows it but the map, or it says who holds the lock.
    fn is_of_use(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1 || self.state().held.is_some_and(|(_, until)| !until.has_passed())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics while it holds the state")
    }
}

impl std::ops::Deref for Place {
    type Target = Line;

    fn deref(&self) -> &Line {
        &self.line
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut map = self.lines.map();
        // The map's and this one.
        if Arc::strong_count(&self.line) == 2 && self.line.state().held.is_none() {
            map.lines.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Holder;

    #[test]
    fn lines_go_when_nobody_needs_them() {
        let lines = Lines::default();
        let size = || lines.map().lines.len();
        let name: FenceName = "a".parse().unwrap();
        let (mine, other) = (Holder::random().hash(), Holder::random().hash());

        let place = lines.at(&name);
        assert!(!place.is_held_by_another(&mine));
        drop(place);
        assert_eq!(size(), 0);

        lines.acquired(&name, mine, &Term::new(Moment::now(), Duration::from_secs(60)));
        let place = lines.at(&name);
        assert!(!place.is_held_by_another(&mine));
        assert!(place.is_held_by_another(&other));
        drop(place);
        assert_eq!(size(), 1);
        lines.released(&name, &other);
        assert_eq!(size(), 1);
        lines.released(&name, &mine);
        assert_eq!(size(), 0);
    }

    #[test]
    fn locks_that_nobody_released_are_swept_out() {
        let lines = Lines::default();
        for i in 0..5000 {
            let name = format!("fence {i}").parse().unwrap();
            lines.acquired(
                &name,
                Holder::random().hash(),
                &Term::new(Moment::now(), Duration::ZERO),
            );
        }
        assert!(lines.map().lines.len() < 1100, "{}", lines.map().lines.len());
    }

    #[test]
    fn others_get_a_turn_after_some_hand_overs() {
        let lines = Lines::default();
        let name: FenceName = "a".parse().unwrap();
        let place = lines.at(&name);
        assert!((0..100).all(|_| !place.should_let_others(PASSING)));
        lines.told(&name, 1);
        let lets = || (0..90).filter(|_| place.should_let_others(PASSING)).count();
        assert_eq!(lets(), 10);
        place.listens(true);
        lines.told(&name, 1);
        assert_eq!(lets(), 0);
        lines.told(&name, 2);
        assert_eq!(lets(), 90);
    }
}
