//! A round: some histories side by side under one fault, each on fences of its own, and as many with the fence off.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use fencegate::{GrantError, Options};
use futures::future::join_all;
use sqlx::{PgPool, Row as _};
use tokio::time::Instant;

use crate::{
    check::{self, History, Mark, Promise, Row, Violation},
    client::{HistorySpec, Spec, Way},
    nemesis::{Clients, Nemesis},
    picture,
    plan::{Fault, LockService, PROCESSES, Plan},
    record::{self, Place},
    sabotage::Sabotage,
    stage::{Set, Stage},
    support::{self, Process, eventually, eventually::PATIENCE},
};

/// How long those who oversleep may take for it, once everything is up again.
const OVERSLEEPING: Duration = Duration::from_secs(20);

/// How long clients may take to end, once they are told to.
const ENDING: Duration = Duration::from_secs(12);

#[derive(Debug, Clone, Copy)]
pub struct Round {
    pub seed: u64,
    pub service: LockService,
    pub fault: Fault,
    /// Histories with the fence on, and as many with it off.
    pub histories: usize,
    /// Where violations are what is wanted: they are not told then, and nothing is done with the fence off.
    pub sabotage: Option<Sabotage>,
}

/// What a round, or many, came to.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    pub rounds: usize,
    pub histories: usize,
    pub operations: usize,
    /// Of writes, these three.
    pub acknowledged: usize,
    pub refused: usize,
    pub unknown: usize,
    pub violations: usize,
    pub controls: usize,
    pub controls_that_lost: usize,
    pub rounds_that_lost: usize,
    pub lost: usize,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.rounds += other.rounds;
        self.histories += other.histories;
        self.operations += other.operations;
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.violations += other.violations;
        self.controls += other.controls;
        self.controls_that_lost += other.controls_that_lost;
        self.rounds_that_lost += other.rounds_that_lost;
        self.lost += other.lost;
    }
}

/// The processes of clients of a round.
struct Running {
    spec: Spec,
    folder: PathBuf,
    processes: Vec<Process>,
    /// What each of them was told.
    specs: Vec<Spec>,
    started: u8,
}

impl Running {
    fn start(&mut self, which: usize) -> Process {
        let mut spec = self.spec.clone();
        spec.process = char::from(b'A' + self.started).to_string();
        spec.journal = self.folder.join(format!("{}.journal", spec.process));
        self.started += 1;
        for history in &mut spec.histories {
            let ways = [Way::Http, Way::Guard, Way::Sql];
            let ways = (0..2).map(|i| ways[(which * 2 + i + history.number) % 3]);
            history.clients = match (history.is_alone, which) {
                (false, _) => ways.collect(),
                (true, 0) => vec![Way::Http],
                (true, _) => Vec::new(),
            };
        }
        let log = self.folder.join(format!("{}.log", spec.process));
        let process = Process::spawn("clients", spec.command(), &log);
        match self.specs.get_mut(which) {
            Some(told) => *told = spec,
            None => self.specs.push(spec),
        }
        process
    }

    fn events(&self) -> Vec<record::Event> {
        let journals = (0..self.started).map(|i| format!("{}.journal", char::from(b'A' + i)));
        let mut events: Vec<_> = journals
            .flat_map(|journal| record::read(&self.folder.join(journal)))
            .collect();
        events.sort_by_key(|event| event.at);
        events
    }
}

impl Clients for Running {
    fn stop(&mut self, which: usize) {
        if self.processes[which].ended().is_none() {
            self.processes[which].stop();
        }
    }

    fn wake(&mut self, which: usize) {
        if self.processes[which].ended().is_none() {
            self.processes[which].cont();
        }
    }

    fn kill(&mut self, which: usize) {
        self.processes[which].kill9();
        self.processes[which] = self.start(which);
    }
}

impl Round {
    /// Draws histories that break a promise into the folder.
    pub async fn run(self, stage: &mut Stage, pictures: Option<&Path>) -> (Tally, Vec<Violation>) {
        stage.prepare(self.service).await;
        let plan = Plan::new(self.seed, self.service, self.fault);
        if self.sabotage.is_none() {
            println!(
                "SEED={} LOCKS={} FAULT={}: {plan}",
                self.seed,
                self.service.name(),
                self.fault.name()
            );
        }
        let folder = support::folder("round");
        let controls = if self.sabotage.is_none() {
            self.histories
        } else {
            0
        };
        let (set, postgres, to_postgres) = stage.set(self.service);
        let mut clients = Running {
            spec: Spec {
                process: String::new(),
                seed: self.seed,
                journal: folder.path().to_owned(),
                store: set.store.clone(),
                locks: set.locks.clone(),
                gateways: set.couriers.iter().map(|courier| courier.url.clone()).collect(),
                ttl: set.ttl,
                stop: folder.path().join("stop"),
                histories: (0..self.histories + controls)
                    .map(|number| self.history(number))
                    .collect(),
            },
            folder: folder.path().to_owned(),
            processes: Vec::new(),
            specs: Vec::new(),
            started: 0,
        };
        for which in 0..PROCESSES {
            let process = clients.start(which);
            clients.processes.push(process);
        }
        // Not before they are under way.
        let journals = ["A.journal", "B.journal"].map(|name| folder.path().join(name));
        let is_under_way = |(which, journal): (usize, &PathBuf)| {
            let text = std::fs::read_to_string(journal).unwrap_or_default();
            let histories = clients.spec.histories.iter();
            let clients = histories
                .filter(|history| which == 0 || !history.is_alone)
                .count();
            text.matches("Granted").count() >= clients
        };
        eventually(4 * PATIENCE, async || {
            journals.iter().enumerate().all(is_under_way)
        })
        .await;

        let begun = record::now();
        let mut nemesis = Nemesis {
            set,
            postgres,
            to_postgres,
            clients: &mut clients,
            seed: self.seed,
            victim: None,
        };
        nemesis.run(&plan).await;
        nemesis.heal().await;
        for which in 0..PROCESSES {
            clients.wake(which);
        }
        let end = Instant::now() + OVERSLEEPING;
        while !clients.specs.iter().all(Spec::are_awake) && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        std::fs::write(folder.path().join("stop"), "").unwrap();
        let end = Instant::now() + ENDING;
        for process in &mut clients.processes {
            while process.ended().is_none() && Instant::now() < end {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            match process.ended() {
                Some(status) => assert!(status.success(), "clients failed: {}", process.log()),
                None => process.kill9(),
            }
        }

        let (set, ..) = stage.set(self.service);
        let events = clients.events();
        let (mut tally, mut all) = (Tally::default(), Vec::new());
        let seen = clients
            .spec
            .histories
            .iter()
            .map(|history| self.look(set, history, &events));
        for (spec, (history, stuck)) in clients.spec.histories.iter().zip(join_all(seen).await) {
            if !spec.fenced {
                let lost = check::lost_updates(&history);
                tally.controls += 1;
                tally.controls_that_lost += usize::from(lost > 0);
                tally.lost += lost;
                continue;
            }
            tally.histories += 1;
            tally.operations += check::count(&history.events);
            let (acknowledged, refused, unknown) = check::writes(&history.events);
            tally.acknowledged += acknowledged;
            tally.refused += refused;
            tally.unknown += unknown;
            let mut violations = check::violations(&history);
            violations.extend(stuck);
            tally.violations += violations.len();
            if let (Some(pictures), false) = (pictures, violations.is_empty()) {
                let name = format!(
                    "{}-{}-{}-{}.txt",
                    self.seed,
                    self.service.name(),
                    self.fault.name(),
                    spec.number
                );
                let text = picture::draw(&history, &violations, &plan, begun);
                std::fs::create_dir_all(pictures).unwrap();
                std::fs::write(pictures.join(&name), text).unwrap();
                println!("  VIOLATION, drawn in {}:", pictures.join(name).display());
                for violation in violations.iter().take(5) {
                    println!("    {:?}: {}", violation.promise, violation.text);
                }
            }
            all.extend(violations);
        }
        if self.sabotage.is_some() {
            return (tally, all);
        }
        tally.rounds = 1;
        tally.rounds_that_lost = usize::from(tally.lost > 0);
        println!(
            "  {} histories, {} operations, {} violations; the control lost {} updates in {} of {}",
            tally.histories,
            tally.operations,
            tally.violations,
            tally.lost,
            tally.controls_that_lost,
            tally.controls
        );
        (tally, all)
    }

    fn history(self, number: usize) -> HistorySpec {
        let id = format!("{}-{}-{number}", self.seed, record::now());
        HistorySpec {
            number,
            fences: vec![format!("{id}-x"), format!("{id}-y")],
            fenced: number < self.histories,
            is_alone: number % 4 == 3 || self.sabotage == Some(Sabotage::Retire),
            clients: Vec::new(),
        }
    }

    /// The whole of a history, and the fences that cannot be had again.
    async fn look(
        self,
        set: &Set,
        spec: &HistorySpec,
        events: &[record::Event],
    ) -> (History, Vec<Violation>) {
        let mut history = History {
            events: events
                .iter()
                .filter(|event| event.history == spec.number)
                .cloned()
                .collect(),
            ..History::default()
        };
        let mut stuck = Vec::new();
        if spec.fenced {
            // As anybody would before a look: after this, nothing older lands.
            for fence in &spec.fences {
                if let Err(error) = had_again(set, fence).await {
                    stuck.push(Violation {
                        promise: Promise::Alive,
                        text: format!("{fence} cannot be had again: {error}"),
                    });
                }
            }
        }
        history.ended = record::now();
        let table = if spec.fenced {
            "fencegate.record"
        } else {
            "chaos.plain"
        };
        read(&mut history, &set.pool, &spec.fences, table).await.unwrap();
        (history, stuck)
    }
}

/// Takes and releases a fence, for which there is time enough for every lock on it to expire.
async fn had_again(set: &Set, fence: &str) -> Result<(), GrantError> {
    let name = fence.parse().unwrap();
    let end = Instant::now() + PATIENCE;
    loop {
        let options = Options {
            wait: PATIENCE / 2,
            ttl: set.ttl,
            ..Options::default()
        };
        match set.direct.grant(&name, options).await {
            Ok(grant) => {
                let _ = set.direct.release(&name, &grant.token).await;
                return Ok(());
            }
            // As after a restart, once for each connection that it ended.
            Err(error) if error.is_retryable() && Instant::now() < end => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn read(history: &mut History, pool: &PgPool, fences: &[String], table: &str) -> sqlx::Result<()> {
    let rows = sqlx::query(
        "select n, fence, key, op, was, epoch, sequence, xid,
                (extract(epoch from pg_xact_commit_timestamp((xid::xid8)::xid)) * 1000000)::int8 as committed
           from chaos.log where fence = any($1) order by n",
    );
    for row in rows.bind(fences).fetch_all(pool).await? {
        history.rows.push(Row {
            n: row.try_get("n")?,
            place: Place {
                fence: row.try_get("fence")?,
                key: row.try_get("key")?,
            },
            op: row.try_get("op")?,
            was: row.try_get("was")?,
            under: (row.try_get("epoch")?, row.try_get("sequence")?),
            transaction: row.try_get("xid")?,
            committed: row.try_get("committed")?,
        });
    }
    let marks =
        sqlx::query("select n, fence, epoch, sequence from chaos.mark where fence = any($1) order by n");
    for row in marks.bind(fences).fetch_all(pool).await? {
        history.marks.push(Mark {
            n: row.try_get("n")?,
            fence: row.try_get("fence")?,
            number: (row.try_get("epoch")?, row.try_get("sequence")?),
        });
    }
    let last = format!("select fence, key, value from {table} where fence = any($1)");
    for row in sqlx::query(sqlx::AssertSqlSafe(last))
        .bind(fences)
        .fetch_all(pool)
        .await?
    {
        let place = Place {
            fence: row.try_get("fence")?,
            key: row.try_get("key")?,
        };
        let value: Vec<u8> = row.try_get("value")?;
        history
            .last
            .insert(place, serde_json::from_slice(&value).unwrap());
    }
    Ok(())
}
