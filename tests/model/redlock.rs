//! Redlock's two rounds on three instances whose locks may end at any time, and which may lose all that they have.

use stateright::{Model, Property};

pub const INSTANCES: usize = 3;
pub const CLIENTS: usize = 2;

/// What is done wrong on purpose, to see that the model finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// One instance is enough.
    NoMajority,
    /// The ballot is not written down.
    NoSecondRound,
    /// The ballot is written whosever the lock is by then.
    NumberForAnybody,
    /// The ballot follows the lowest count, and is written whatever an instance has counted.
    BallotsFall,
    /// An instance that has lost its data votes on.
    LostDataVotes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Left {
    /// Acquisitions, by all clients together.
    pub acquisitions: u8,
    /// The same holder asks once more.
    pub repeats: u8,
    /// An instance loses its data.
    pub losses: u8,
}

#[derive(Debug, Clone, Copy)]
pub struct Redlock {
    pub left: Left,
    pub defect: Option<Defect>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lock {
    holder: u8,
    /// 0 before the second round.
    ballot: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Instance {
    member: bool,
    counter: u8,
    lock: Option<Lock>,
}

/// What an instance says to the first round: how far it has counted, and the ballot of this holder's lock.
type Taken = Option<(u8, u8)>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    Idle,
    First {
        holder: u8,
        asked: [bool; INSTANCES],
        taken: [Taken; INSTANCES],
        /// The highest ballot that was granted before it began.
        after: u8,
    },
    Second {
        holder: u8,
        ballot: u8,
        asked: [bool; INSTANCES],
        accepted: u8,
        after: u8,
    },
    Holding {
        holder: u8,
        ballot: u8,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    clients: [Step; CLIENTS],
    instances: [Instance; INSTANCES],
    holders: u8,
    /// The ballots that were granted, and to whom.
    granted: Vec<(u8, u8)>,
    left: Left,
    /// Two holders had one ballot.
    shared: bool,
    /// A ballot was not above one that had been granted before it was asked for.
    fell: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Begin(usize),
    /// The first round, on one instance. Its answer may be lost.
    Take(usize, usize),
    TakeUnheard(usize, usize),
    Decide(usize),
    /// The second round, on one instance; after the grant it is what a renewal does.
    Number(usize, usize),
    Grant(usize),
    /// Whatever it was doing, it stops. What it has on the instances stays until it expires.
    Leave(usize),
    /// It stops, and asks again as the same holder.
    Repeat(usize),
    Expire(usize),
    LoseData(usize),
}

impl Redlock {
    fn is(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    fn majority(&self) -> usize {
        if self.is(Defect::NoMajority) {
            1
        } else {
            INSTANCES / 2 + 1
        }
    }

    fn first(state: &State, holder: u8) -> Step {
        Step::First {
            holder,
            asked: [false; INSTANCES],
            taken: [None; INSTANCES],
            after: state.granted.iter().map(|(ballot, _)| *ballot).max().unwrap_or(0),
        }
    }

    /// The ballot to write: that of an acquisition of this holder that lasts, or the next one.
    fn ballot(&self, taken: &[Taken; INSTANCES]) -> Option<u8> {
        let answers = || taken.iter().flatten();
        if answers().count() < self.majority() {
            return None;
        }
        let highest = answers().map(|(_, ballot)| *ballot).max()?;
        if highest > 0 {
            let lasting = answers().filter(|(_, ballot)| *ballot == highest).count() >= self.majority();
            return Some(if lasting { highest } else { self.next(taken) });
        }
        Some(self.next(taken))
    }

    fn next(&self, taken: &[Taken; INSTANCES]) -> u8 {
        let counted = taken.iter().flatten().map(|(counter, _)| *counter);
        if self.is(Defect::BallotsFall) {
            counted.min().unwrap_or(0) + 1
        } else {
            counted.max().unwrap_or(0) + 1
        }
    }

    fn take(instance: &mut Instance, holder: u8) -> Taken {
        if !instance.member || instance.lock.is_some_and(|lock| lock.holder != holder) {
            return None;
        }
        let lock = instance.lock.get_or_insert(Lock { holder, ballot: 0 });
        Some((instance.counter, lock.ballot))
    }

    fn number(&self, instance: &mut Instance, holder: u8, ballot: u8) -> bool {
        if !instance.member {
            return false;
        }
        if self.is(Defect::NumberForAnybody) {
            instance.counter = instance.counter.max(ballot);
            return true;
        }
        match &mut instance.lock {
            Some(lock) if lock.holder == holder && lock.ballot == ballot => true,
            Some(lock)
                if lock.holder == holder && (instance.counter < ballot || self.is(Defect::BallotsFall)) =>
            {
                instance.counter = ballot;
                lock.ballot = ballot;
                true
            }
            _ => false,
        }
    }

    fn step(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Begin(i) => {
                state.left.acquisitions = state.left.acquisitions.checked_sub(1)?;
                state.holders += 1;
                state.clients[i] = Self::first(state, state.holders);
            }
            Action::Take(i, at) | Action::TakeUnheard(i, at) => {
                if let Step::First {
                    holder, asked, taken, ..
                } = &mut state.clients[i]
                {
                    asked[at] = true;
                    let answer = Self::take(&mut state.instances[at], *holder);
                    if matches!(action, Action::Take(..)) {
                        taken[at] = answer;
                    }
                }
            }
            Action::Decide(i) => {
                if let Step::First {
                    holder, taken, after, ..
                } = state.clients[i]
                {
                    let ballot = self.ballot(&taken)?;
                    state.clients[i] = Step::Second {
                        holder,
                        ballot,
                        asked: [false; INSTANCES],
                        accepted: if self.is(Defect::NoSecondRound) { 2 } else { 0 },
                        after,
                    };
                }
            }
            Action::Number(i, at) => match &mut state.clients[i] {
                Step::Second {
                    holder,
                    ballot,
                    asked,
                    accepted,
                    ..
                } => {
                    asked[at] = true;
                    *accepted += u8::from(self.number(&mut state.instances[at], *holder, *ballot));
                }
                Step::Holding { holder, ballot } => {
                    self.number(&mut state.instances[at], *holder, *ballot);
                }
                _ => return None,
            },
            Action::Grant(i) => {
                let Step::Second {
                    holder,
                    ballot,
                    accepted,
                    after,
                    ..
                } = state.clients[i]
                else {
                    return None;
                };
                if usize::from(accepted) < self.majority() {
                    return None;
                }
                let again = state.granted.contains(&(ballot, holder));
                state.fell |= ballot <= after && !again;
                state.shared |= state
                    .granted
                    .iter()
                    .any(|(other, by)| *other == ballot && *by != holder);
                if !again {
                    state.granted.push((ballot, holder));
                    state.granted.sort_unstable();
                }
                state.clients[i] = Step::Holding { holder, ballot };
            }
            Action::Leave(i) => state.clients[i] = Step::Idle,
            Action::Repeat(i) => {
                let (Step::First { holder, .. } | Step::Second { holder, .. } | Step::Holding { holder, .. }) =
                    state.clients[i]
                else {
                    return None;
                };
                state.left.repeats = state.left.repeats.checked_sub(1)?;
                state.clients[i] = Self::first(state, holder);
            }
            Action::Expire(at) => state.instances[at].lock = None,
            Action::LoseData(at) => {
                state.left.losses = state.left.losses.checked_sub(1)?;
                state.instances[at] = Instance {
                    member: self.is(Defect::LostDataVotes),
                    counter: 0,
                    lock: None,
                };
            }
        }
        Some(())
    }
}

impl Model for Redlock {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let empty = Instance {
            member: true,
            counter: 0,
            lock: None,
        };
        vec![State {
            clients: [Step::Idle; CLIENTS],
            instances: [empty; INSTANCES],
            holders: 0,
            granted: Vec::new(),
            left: self.left,
            shared: false,
            fell: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (i, client) in state.clients.iter().enumerate() {
            let at = 0..INSTANCES;
            match client {
                Step::Idle => actions.push(Action::Begin(i)),
                Step::First { asked, .. } => {
                    for at in at.filter(|at| !asked[*at]) {
                        actions.extend([Action::Take(i, at), Action::TakeUnheard(i, at)]);
                    }
                    actions.extend([Action::Decide(i), Action::Leave(i), Action::Repeat(i)]);
                }
                Step::Second { asked, .. } => {
                    actions.extend(at.filter(|at| !asked[*at]).map(|at| Action::Number(i, at)));
                    actions.extend([Action::Grant(i), Action::Leave(i), Action::Repeat(i)]);
                }
                Step::Holding { .. } => {
                    actions.extend(at.map(|at| Action::Number(i, at)));
                    actions.extend([Action::Leave(i), Action::Repeat(i)]);
                }
            }
        }
        for at in 0..INSTANCES {
            actions.extend([Action::Expire(at), Action::LoseData(at)]);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        self.step(&mut next, action)?;
        next.clients.sort_unstable();
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always("a ballot has one holder", |_, state: &State| !state.shared),
            Property::<Self>::always("ballots rise", |_, state: &State| !state.fell),
            Property::<Self>::sometimes("two are granted", |_, state: &State| state.granted.len() > 1),
        ]
    }
}
