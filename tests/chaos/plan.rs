//! What is done to whom, and when: all of it drawn from a seed.

use std::{fmt, time::Duration};

use crate::{courier::Weather, rng::Rng};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockService {
    Etcd,
    Zookeeper,
    Redis,
    Redlock,
    Postgres,
    Sqlite,
}

impl LockService {
    pub const ALL: [Self; 6] = [
        Self::Etcd,
        Self::Zookeeper,
        Self::Redis,
        Self::Redlock,
        Self::Postgres,
        Self::Sqlite,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Zookeeper => "zookeeper",
            Self::Redis => "redis",
            Self::Redlock => "redlock",
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
        }
    }

    /// A short time to live that it really grants.
    pub fn ttl(self) -> Duration {
        Duration::from_millis(match self {
            Self::Etcd | Self::Zookeeper => 1000,
            _ => 600,
        })
    }

    /// Whether it has servers of its own.
    fn is_apart(self) -> bool {
        !matches!(self, Self::Postgres | Self::Sqlite)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    Calm,
    PauseClients,
    KillClients,
    PauseGateway,
    KillGateway,
    PauseLocks,
    KillLocks,
    CutLocks,
    KillStore,
    StopStore,
    PauseStore,
    CutStore,
    Messages,
    Mix,
}

impl Fault {
    pub const ALL: [Self; 14] = [
        Self::Calm,
        Self::PauseClients,
        Self::KillClients,
        Self::PauseGateway,
        Self::KillGateway,
        Self::PauseLocks,
        Self::KillLocks,
        Self::CutLocks,
        Self::KillStore,
        Self::StopStore,
        Self::PauseStore,
        Self::CutStore,
        Self::Messages,
        Self::Mix,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::PauseClients => "pause",
            Self::KillClients => "kill",
            Self::PauseGateway => "pause-gateway",
            Self::KillGateway => "kill-gateway",
            Self::PauseLocks => "pause-locks",
            Self::KillLocks => "kill-locks",
            Self::CutLocks => "cut-locks",
            Self::KillStore => "kill-store",
            Self::StopStore => "stop-store",
            Self::PauseStore => "pause-store",
            Self::CutStore => "cut-store",
            Self::Messages => "messages",
            Self::Mix => "mix",
        }
    }

    /// What it is, for the table's reader.
    pub fn explained(self) -> &'static str {
        match self {
            Self::Calm => {
                "nothing is done to anybody; but one in 16 computations outlasts its lease, and one client in each process begins with such a one, here and in all others"
            }
            Self::PauseClients => "SIGSTOP of a process of clients, past the TTL of what it holds",
            Self::KillClients => "`kill -9` of a process of clients, and another one in its place",
            Self::PauseGateway => "SIGSTOP of a gateway, past the TTL",
            Self::KillGateway => "`kill -9` of a gateway, and a start",
            Self::PauseLocks => "SIGSTOP of a server of the lock service (etcd's leader), past the TTL",
            Self::KillLocks => {
                "`kill -9` of a server of the lock service (etcd's leader), and a start on the same data"
            }
            Self::CutLocks => "connections to the lock service are reset, silent, or silent in one direction",
            Self::KillStore => "`kill -9` of Postgres with all its sessions, and a start on the same data",
            Self::StopStore => "immediate shutdown of Postgres, and a start on the same data",
            Self::PauseStore => "SIGSTOP of Postgres with all its sessions",
            Self::CutStore => "connections to Postgres are reset, silent, or silent in one direction",
            Self::Messages => "HTTP requests are late, twice, in another order, or lost, and so are answers",
            Self::Mix => "three of these at once",
        }
    }

    pub fn applies_to(self, service: LockService) -> bool {
        let on_locks = matches!(self, Self::PauseLocks | Self::KillLocks | Self::CutLocks);
        !on_locks || service.is_apart()
    }
}

/// Something that is done.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    StopClients(usize),
    WakeClients(usize),
    KillClients(usize),
    StopGateway(usize),
    WakeGateway(usize),
    KillGateway(usize),
    StartGateway(usize),
    /// Of the lock service, its leader or the one with this number; the later steps are about the same one.
    StopServer(u64),
    WakeServer,
    KillServer(u64),
    StartServer,
    Resets(Side),
    Silence(Side),
    /// Requests arrive, and replies do not.
    SilentReplies(Side),
    Sound(Side),
    KillStore,
    StopStore,
    StartStore,
    FreezeStore,
    WakeStore,
    Weather(Weather),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Locks,
    Store,
}

/// When each is done, from the beginning of the histories on.
#[derive(Debug, Clone)]
pub struct Plan {
    pub steps: Vec<(Duration, Act)>,
    pub length: Duration,
}

/// The processes of clients.
pub const PROCESSES: usize = 2;

impl Plan {
    pub fn new(seed: u64, service: LockService, fault: Fault) -> Self {
        let mut rng = Rng::fork(seed, 1);
        let mut steps = Vec::new();
        match fault {
            Fault::Mix => {
                let mut faults: Vec<Fault> = Fault::ALL
                    .into_iter()
                    .filter(|fault| !matches!(fault, Fault::Calm | Fault::Mix) && fault.applies_to(service))
                    .collect();
                rng.shuffle(&mut faults);
                // What is stopped, killed and started is there once.
                let is_store =
                    |fault: &Fault| matches!(fault, Fault::KillStore | Fault::StopStore | Fault::PauseStore);
                let is_server = |fault: &Fault| matches!(fault, Fault::PauseLocks | Fault::KillLocks);
                let is_gateway = |fault: &Fault| matches!(fault, Fault::PauseGateway | Fault::KillGateway);
                let is_client = |fault: &Fault| matches!(fault, Fault::PauseClients | Fault::KillClients);
                for same in [
                    &is_store as &dyn Fn(&Fault) -> bool,
                    &is_server,
                    &is_gateway,
                    &is_client,
                ] {
                    let first = faults.iter().position(same);
                    let mut place = 0;
                    faults.retain(|fault| {
                        place += 1;
                        !same(fault) || Some(place - 1) == first
                    });
                }
                for fault in faults.into_iter().take(3) {
                    add(&mut steps, &mut rng, service, fault);
                }
            }
            fault => add(&mut steps, &mut rng, service, fault),
        }
        steps.sort_by_key(|step| step.0);
        let last = steps.last().map_or(Duration::ZERO, |step| step.0);
        // Time for whoever was woken to be refused, and for others to go on.
        let length = (last + Duration::from_millis(900)).max(Duration::from_millis(1800));
        Self { steps, length }
    }
}

fn add(steps: &mut Vec<(Duration, Act)>, rng: &mut Rng, service: LockService, fault: Fault) {
    let first = rng.millis(50, 500);
    let ttl = service.ttl();
    // Long enough for whoever comes next to write.
    let past = |rng: &mut Rng| ttl + rng.millis(500, 1200);
    let which = rng.below(2) as usize;
    let mut both = |at: Duration, act: Act, then: Duration, end: Act| {
        steps.extend([(at, act), (at + then, end)]);
    };
    match fault {
        Fault::Calm | Fault::Mix => {}
        Fault::PauseClients => {
            both(first, Act::StopClients(which), past(rng), Act::WakeClients(which));
            if rng.percent(30) {
                let (other, at) = (1 - which, first + rng.millis(100, 900));
                both(at, Act::StopClients(other), past(rng), Act::WakeClients(other));
            }
        }
        Fault::KillClients => {
            steps.push((first, Act::KillClients(which)));
            steps.push((
                first + rng.millis(100, 900),
                Act::KillClients(rng.below(2) as usize),
            ));
        }
        Fault::PauseGateway => both(first, Act::StopGateway(which), past(rng), Act::WakeGateway(which)),
        Fault::KillGateway => {
            let down = rng.millis(0, 500);
            both(first, Act::KillGateway(which), down, Act::StartGateway(which));
        }
        Fault::PauseLocks => both(first, Act::StopServer(rng.next()), past(rng), Act::WakeServer),
        Fault::KillLocks => {
            let down = rng.millis(0, 700);
            both(first, Act::KillServer(rng.next()), down, Act::StartServer);
        }
        Fault::KillStore => both(first, Act::KillStore, rng.millis(0, 400), Act::StartStore),
        Fault::StopStore => both(first, Act::StopStore, rng.millis(0, 400), Act::StartStore),
        Fault::PauseStore => both(first, Act::FreezeStore, rng.millis(200, 1200), Act::WakeStore),
        Fault::CutLocks | Fault::CutStore => {
            let side = if fault == Fault::CutLocks {
                Side::Locks
            } else {
                Side::Store
            };
            match rng.below(3) {
                0 => {
                    let mut at = first;
                    for _ in 0..rng.between(2, 6) {
                        steps.push((at, Act::Resets(side)));
                        at += rng.millis(20, 250);
                    }
                }
                1 => both(first, Act::Silence(side), rng.millis(200, 1400), Act::Sound(side)),
                _ => {
                    let long = rng.millis(200, 1400);
                    both(first, Act::SilentReplies(side), long, Act::Sound(side));
                    if rng.percent(50) {
                        steps.push((first + long, Act::Resets(side)));
                    }
                }
            }
        }
        Fault::Messages => {
            let weather = Weather {
                delay: rng.millis(0, 150),
                twice: rng.between(10, 50),
                again: rng.millis(20, 1200),
                late: rng.between(5, 40),
                unanswered: rng.between(0, 20),
                lost: rng.between(0, 10),
            };
            both(
                rng.millis(0, 200),
                Act::Weather(weather),
                rng.millis(1000, 1800),
                Act::Weather(Weather::default()),
            );
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, act) in &self.steps {
            write!(f, "{:.3} s {act:?}; ", at.as_secs_f64())?;
        }
        write!(f, "{:.3} s end", self.length.as_secs_f64())
    }
}
