//! One fence: its lock service, its store with a standby, its clients, and what must never happen to them.

use fencegate::{Epoch, Mark, Sequence};
use stateright::{Model, Property};

/// How many clients there are.
pub const CLIENTS: usize = 3;
/// The holder of a retired mark, whom nobody knows.
pub const NOBODY: u8 = 0;
/// The holder of a token that somebody made up.
pub const FORGER: u8 = 7;

/// What is done wrong on purpose, to see that the model finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// The token is handed out before it is sealed.
    SealAfterHandingOut,
    /// A grant does not seal: its first write does.
    SealByFirstWrite,
    /// A higher number is believed, whoever shows it.
    HigherIsBelieved,
    /// The holder is not looked at.
    HolderIgnored,
    /// A grant is sealed even where the mark is higher.
    SealDownwards,
    /// A transaction does not keep the fence's lock, so a seal does not end it.
    NoLockWhileWriting,
    /// The epoch is read after acquiring.
    EpochReadLate,
    /// The seal does not look at the epoch.
    SealIgnoresEpoch,
    /// A release deletes the lock and leaves the mark.
    ReleaseWithoutRetire,
    /// A release by force deletes the lock and leaves the mark.
    ForceLeavesMark,
    /// A release by force of a lock that is not sealed yet leaves the mark.
    ForceLeavesUnsealed,
    /// A renewal that comes too late takes the lock back.
    RenewalTakesBack,
    /// A rebase raises the number and leaves the marks.
    RebaseLeavesMarks,
    /// Nobody looks whether a standby has taken over.
    TimelineIgnored,
    /// After a standby has taken over, an epoch is used that the lost history had used.
    EpochsRepeat,
}

/// What may happen, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Left {
    /// Acquisitions, by all clients together.
    pub acquisitions: u8,
    /// The lock service forgets its latest numbers and says that it is the same.
    pub regressions: u8,
    /// Another lock service takes its place.
    pub replacements: u8,
    /// An operator raises the epoch.
    pub rebases: u8,
    /// An operator releases by force.
    pub forced: u8,
    /// The standby catches up.
    pub replications: u8,
    /// The standby, as far as it is, takes the store's place.
    pub failovers: u8,
}

/// The model.
#[derive(Debug, Clone, Copy)]
pub struct Fence {
    pub left: Left,
    /// Whether the lock service counts on from the mark.
    pub floor: bool,
    pub defect: Option<Defect>,
}

/// In the order of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token {
    pub epoch: u8,
    pub sequence: u8,
    pub holder: u8,
}

impl Token {
    /// As the crate has it.
    pub fn mark(self) -> Mark {
        Mark {
            epoch: Epoch::new(self.epoch.into()).expect("epochs begin at 1"),
            // A rebase leaves marks at 0.
            sequence: Sequence::new(i64::from(self.sequence) + 1).expect("sequences begin at 1"),
            holder: [self.holder; 32].into(),
        }
    }

    pub fn number(self) -> (u8, u8) {
        (self.epoch, self.sequence)
    }
}

/// Where a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    Idle,
    /// It has read the epoch, what that is bound to, and the mark.
    Prepared {
        epoch: u8,
        bound: Option<u8>,
        floor: u8,
    },
    /// It has the lock, and knows whose history its number is from.
    Acquired {
        token: Token,
        bound: Option<u8>,
        history: u8,
    },
    /// That history is the one that the epoch is bound to.
    Checked(Token),
    /// The mark is its token.
    Sealed(Token),
    /// It was handed its token. Whether its lock still lasts it cannot know.
    Holding(Token),
    /// It is releasing: its token is dead, its lock not yet deleted.
    Retired(Token),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Client {
    pub step: Step,
    /// The token under which its open transaction entered.
    pub transaction: Option<Token>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Service {
    /// Whose numbers these are.
    pub history: u8,
    pub counter: u8,
    /// The sequence and the holder.
    pub lock: Option<(u8, u8)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Store {
    pub epoch: u8,
    pub bound: Option<u8>,
    pub mark: Option<Token>,
    /// The timeline on which the marks are trusted.
    pub trusted: u8,
    /// Not the store's own knowledge, but lost with it: the token of the last write, and the highest one that had
    /// been handed out.
    pub written: Option<Token>,
    pub granted: Option<Token>,
}

/// A set of holders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Holders(u8);

impl Holders {
    pub fn add(&mut self, holder: u8) {
        self.0 |= 1 << holder;
    }

    pub fn has(self, holder: u8) -> bool {
        self.0 & 1 << holder != 0
    }
}

/// The promises that were broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Broken {
    pub monotone: bool,
    pub one_holder: bool,
    pub sealed_on_grant: bool,
    pub no_forged_advance: bool,
    pub released_is_dead: bool,
    pub no_resurrection: bool,
    pub left_history: bool,
}

/// A release by force that is under way: whose lock it ends, what is sealed being dead already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Forcing {
    /// The lock is to be deleted.
    Delete { holder: u8, dead: Token },
    /// The lock is deleted; the mark is to take its number, unless that was sealed meanwhile.
    Mark { holder: u8, dead: Token },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// In order, as it makes no difference which is which.
    pub clients: [Client; CLIENTS],
    pub service: Service,
    pub store: Store,
    pub standby: Store,
    pub timeline: u8,
    /// The highest epoch that there ever was. A store that has lost some cannot know it, and takes the time of day.
    pub epochs: u8,
    /// What is left to do of a release by force.
    pub forcing: Option<Forcing>,
    /// Every token that was handed out.
    pub tokens: Vec<Token>,
    /// How many acquisitions there were: each has the next number as its holder.
    pub holders: u8,
    /// Whose lock has ended.
    pub ended: Holders,
    /// Whose release has returned.
    pub released: Holders,
    /// Who had acquired before a rebase, or before a standby took over.
    pub before: Holders,
    pub left: Left,
    pub broken: Broken,
}

impl State {
    /// Whether marks may have been lost.
    pub fn quarantined(&self) -> bool {
        self.timeline != self.store.trusted
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The steps of a grant.
    Prepare(usize),
    Acquire(usize),
    Check(usize),
    Seal(usize),
    HandOut(usize),
    /// A transaction of several steps.
    Enter(usize),
    Commit(usize),
    Rollback(usize),
    /// The steps of a release.
    Retire(usize),
    Delete(usize),
    /// A renewal, once the lock has ended.
    RenewLate(usize),
    /// A write that was sent some time, in one step: a late duplicate, or an invention.
    Deliver(Token),
    /// The lock ends by itself.
    Expire,
    /// The lock service is back at this number.
    Regress(u8),
    Replace,
    Rebase,
    ForceRetire,
    ForceDelete,
    ForceMark,
    Replicate,
    Failover,
}

impl Model for Fence {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let store = Store {
            epoch: 1,
            bound: None,
            mark: None,
            trusted: 1,
            written: None,
            granted: None,
        };
        let idle = Client {
            step: Step::Idle,
            transaction: None,
        };
        vec![State {
            clients: [idle; CLIENTS],
            service: Service {
                history: 1,
                counter: 0,
                lock: None,
            },
            store,
            standby: store,
            timeline: 1,
            epochs: 1,
            forcing: None,
            tokens: Vec::new(),
            holders: 0,
            ended: Holders::default(),
            released: Holders::default(),
            before: Holders::default(),
            left: self.left,
            broken: Broken::default(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (i, client) in state.clients.iter().enumerate() {
            actions.push(match client.step {
                Step::Idle => Action::Prepare(i),
                Step::Prepared { .. } => Action::Acquire(i),
                Step::Acquired { .. } => Action::Check(i),
                Step::Checked(_) => Action::Seal(i),
                Step::Sealed(_) => Action::HandOut(i),
                Step::Holding(_) => Action::Retire(i),
                Step::Retired(_) => Action::Delete(i),
            });
            match (client.step, client.transaction) {
                (_, Some(_)) => actions.extend([Action::Commit(i), Action::Rollback(i)]),
                (Step::Holding(_), None) => actions.extend([Action::Enter(i), Action::RenewLate(i)]),
                (Step::Checked(_), None) if self.defect == Some(Defect::SealAfterHandingOut) => {
                    actions.push(Action::HandOut(i));
                }
                _ => {}
            }
        }
        actions.extend(state.tokens.iter().map(|token| Action::Deliver(*token)));
        // The number of the mark, and the next one: whoever saw the mark can make them up.
        if let Some(mark) = state.store.mark {
            for sequence in [mark.sequence, mark.sequence + 1] {
                actions.push(Action::Deliver(Token {
                    epoch: state.store.epoch,
                    sequence,
                    holder: FORGER,
                }));
            }
        }
        actions.extend((0..state.service.counter).map(Action::Regress));
        actions.extend([
            Action::Expire,
            Action::Replace,
            Action::Rebase,
            Action::ForceRetire,
            Action::ForceDelete,
            Action::ForceMark,
            Action::Replicate,
            Action::Failover,
        ]);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        self.step(&mut next, action)?;
        next.clients.sort_unstable();
        // What changes nothing leads nowhere new.
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always("monotone", |_, state: &State| !state.broken.monotone),
            Property::<Self>::always("one holder per token", |_, state: &State| {
                !state.broken.one_holder
            }),
            Property::<Self>::always("sealed on grant", |_, state: &State| {
                !state.broken.sealed_on_grant
            }),
            Property::<Self>::always("no forged advance", |_, state: &State| {
                !state.broken.no_forged_advance
            }),
            Property::<Self>::always("released is dead", |_, state: &State| {
                !state.broken.released_is_dead
            }),
            Property::<Self>::always("no resurrection", |_, state: &State| {
                !state.broken.no_resurrection
            }),
            Property::<Self>::always("nobody from a history that was left", |_, state: &State| {
                !state.broken.left_history
            }),
            // That it is not all refused.
            Property::<Self>::sometimes("a second holder writes", |_, state: &State| {
                state.store.written.is_some_and(|token| token.holder == 2)
            }),
        ]
    }
}
