//! Fault histories: clients lease, read, compute and write, over HTTP through two gateways, through the Rust guard, and
//! through SQL, at once, for every lock service, while clients, gateways, lock servers and Postgres are stopped, killed,
//! restarted and cut off. Every operation is recorded, and what was recorded is held against what is promised. As many
//! histories have the fence off, and lose updates: that the faults bite is part of the result. So is that parts of the
//! guard, when they are taken out, are found to be missing.
//!
//! `make chaos` runs it: `MINUTES=30`, or `SEEDS=3` for so many rounds of each lock service and fault;
//! `LOCKS=etcd FAULT=pause` for those alone, and with `SEED=17` for one round again; `HISTORIES=5` for so many side by
//! side; `PROOF=docs/proof.md` to write the table into that page. A seed repeats what is done to whom and when, and what
//! clients choose, not how the machine interleaves them.
//!
//! A history that breaks a promise is drawn as a text in `target/chaos`.

mod check;
mod client;
mod courier;
mod nemesis;
mod picture;
mod plan;
mod record;
mod rng;
mod round;
mod sabotage;
mod stage;
#[path = "../support/mod.rs"]
mod support;
mod table;

use std::{
    path::{Path, PathBuf},
    str::FromStr,
    time::{Duration, Instant},
};

use plan::{Fault, LockService};
use rng::Rng;
use round::Round;
use sabotage::Sabotage;

/// In so many rounds of one lock service, and so many of all, the control loses updates; a few may be harmless. Where the
/// machine was too busy for anything to come about, one round in ten was, and one in three of etcd's.
const ENOUGH: (usize, usize) = (8, 5);

/// What the environment asks for.
struct Asked {
    seed: Option<u64>,
    rounds: Option<u64>,
    time: Duration,
    histories: usize,
    cells: Vec<(LockService, Fault)>,
    proof: Option<PathBuf>,
    /// Whether it is about every lock service and fault.
    is_whole: bool,
}

fn variable<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    match text.parse() {
        Ok(value) => Some(value),
        Err(_) => panic!("{name}={text} cannot be read"),
    }
}

fn asked() -> Asked {
    let (locks, fault) = (variable::<String>("LOCKS"), variable::<String>("FAULT"));
    let all = LockService::ALL.into_iter();
    let cells: Vec<_> = all
        .flat_map(|service| Fault::ALL.map(|fault| (service, fault)))
        .filter(|(service, fault)| fault.applies_to(*service))
        .filter(|(service, _)| locks.as_ref().is_none_or(|name| name == service.name()))
        .filter(|(_, of)| fault.as_ref().is_none_or(|name| name == of.name()))
        .collect();
    assert!(!cells.is_empty(), "no lock service or fault has that name");
    let (seed, minutes) = (variable("SEED"), variable::<f64>("MINUTES"));
    let is_replay = seed.is_some() && cells.len() == 1;
    Asked {
        seed,
        rounds: variable("SEEDS").or((is_replay && minutes.is_none()).then_some(1)),
        time: Duration::from_secs_f64(60.0 * minutes.unwrap_or(2.0)),
        histories: variable("HISTORIES").unwrap_or(5),
        cells,
        proof: variable("PROOF"),
        is_whole: locks.is_none() && fault.is_none(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chaos() {
    let asked = asked();
    let mut seed = asked
        .seed
        .unwrap_or_else(|| record::now() as u64 / 1000 % 100_000_000);
    let mut table = table::Table::default();
    if asked.seed.is_none() && asked.is_whole {
        for sabotage in Sabotage::ALL {
            table.found(sabotage.is_found(seed).await);
        }
    }
    let begun = Instant::now();
    let mut stage = stage::Stage::start(None).await;
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/chaos");
    let is_over = |round: u64| match asked.rounds {
        Some(rounds) => round >= rounds,
        None => begun.elapsed() >= asked.time,
    };
    let mut pass = 0;
    'all: while !is_over(pass) {
        let mut cells = asked.cells.clone();
        Rng::new(seed).shuffle(&mut cells);
        for (service, fault) in cells {
            if asked.rounds.is_none() && is_over(pass) {
                break 'all;
            }
            let round = Round {
                seed,
                service,
                fault,
                histories: asked.histories,
                sabotage: None,
            };
            let (tally, _) = round.run(&mut stage, Some(&pictures)).await;
            table.add(service, fault, &tally);
            seed += 1;
        }
        pass += 1;
    }
    println!("\n{}\n{}", table.render(), table.said());
    let harmless = table.harmless();
    if !harmless.is_empty() {
        println!("The control lost nothing with {}.", harmless.join(", "));
    }
    let total = table.total();
    if let Some(page) = &asked.proof {
        let day = time::OffsetDateTime::now_utc().date();
        let minutes = begun.elapsed().as_secs() / 60;
        table.write_into(page, &format!("On {day}, in {minutes} minutes:"));
    }
    assert_eq!(
        total.violations,
        0,
        "violations are drawn in {}",
        pictures.display()
    );
    let toothless = table.toothless(ENOUGH.0);
    assert!(
        toothless.is_empty(),
        "the control lost nothing with {}: the faults do not bite",
        toothless.join(", ")
    );
    assert!(
        total.lost > 0 || total.rounds < ENOUGH.1,
        "the control lost nothing: the faults do not bite"
    );
}
