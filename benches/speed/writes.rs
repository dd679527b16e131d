//! The gateway's rows: fenced HTTP writes against bare updates, and against a gateway that does not gather.

use std::time::Duration;

use crate::{
    gateway::Gateway,
    pgbench::{self, Rows},
    server::{ROWS, Store},
    setting::Settings,
    support::Postgres,
    table::{Better, Row, count, median},
    wrk::{self, Targets},
};

/// One load: over how many fences, from how many connections, and what it must reach.
struct Load {
    fences: u32,
    connections: u32,
    must: f64,
    aim: f64,
    rates: Vec<f64>,
    ratios: Vec<f64>,
}

fn loads() -> Vec<Load> {
    let mut loads = Vec::new();
    for (fences, must, aim) in [(1, 2.5, 3.5), (100, 2.5, 3.5), (10_000, 2.0, 3.0)] {
        for connections in [64, 256] {
            loads.push(Load {
                fences,
                connections,
                must,
                aim,
                rates: Vec::new(),
                ratios: Vec::new(),
            });
        }
    }
    loads
}

/// What the other parts measure with.
pub struct Bench {
    pub server: Postgres,
    pub store: Store,
    pub gateway: Gateway,
    /// The most writes a second that were seen.
    pub most: f64,
}

impl Bench {
    pub async fn start() -> Self {
        let server = crate::server::start().await;
        let store = Store::new(&server, 10_000).await;
        let gateway = Gateway::start(&["--store", &store.url]).await;
        Self {
            server,
            store,
            gateway,
            most: 0.0,
        }
    }

    /// Records over the first so many fences, which are there already.
    pub async fn targets(&self, fences: u32) -> Targets {
        let numbers: Vec<u32> = (1..=fences).collect();
        self.store
            .run(&format!(
                "insert into fencegate.record (fence, key, value, content_type, version, epoch, sequence)
                 select 'f' || n % {fences} + 1, 'r' || n, convert_to(repeat('x', 100), 'UTF8'), 'text/plain',
                        nextval('fencegate.record_version'), 1, n % {fences} + 1
                   from generate_series(0, {ROWS} - 1) n on conflict do nothing"
            ))
            .await;
        self.store.settle().await;
        Targets::new(&self.store, &numbers, ROWS).await
    }

    /// Bare updates a second: the better of 16 and 64 clients, after one another.
    fn reference(&self, time: Duration) -> f64 {
        let rate =
            |clients| pgbench::rate(&self.server, Rows::Any, clients, time.max(Duration::from_secs(1)));
        rate(16).max(rate(64))
    }

    pub async fn rows(&mut self, settings: &Settings) -> Vec<Row> {
        let mut loads = loads();
        let over = [
            (1, self.targets(1).await),
            (100, self.targets(100).await),
            (10_000, self.targets(10_000).await),
        ];
        let targets = |fences| &over.iter().find(|(of, _)| *of == fences).unwrap().1;
        let alone = [
            Gateway::alone(&self.store.url, 16).await,
            Gateway::alone(&self.store.url, 64).await,
        ];
        let hot = Targets::new(&self.store, &[1], 1).await;
        let (mut bare, mut alone_rates, mut gathered) = (Vec::new(), Vec::new(), Vec::new());
        let (mut single, mut single_bare) = (Vec::new(), Vec::new());
        let (mut hot_rates, mut hot_bare) = (Vec::new(), Vec::new());
        let time = settings.time;
        wrk::run(self.gateway.port, targets(100), 64, Duration::from_secs(2)).all_written();
        for round in 0..settings.rounds {
            eprintln!("gateway: round {} of {}", round + 1, settings.rounds);
            for fences in [1, 100, 10_000] {
                // Before and after what it is compared with, since the machine's own speed drifts.
                let before = self.reference(time / 2);
                let of: Vec<&mut Load> = loads.iter_mut().filter(|load| load.fences == fences).collect();
                let mut measured = Vec::new();
                for load in of {
                    let rate = wrk::run(self.gateway.port, targets(fences), load.connections, time);
                    let rate = rate.all_written().rate;
                    measured.push(rate);
                    load.rates.push(rate);
                }
                let after = self.reference(time / 2);
                let reference = f64::midpoint(before, after);
                bare.push(reference);
                let of = loads.iter_mut().filter(|load| load.fences == fences);
                for (load, rate) in of.zip(measured) {
                    load.ratios.push(rate / reference);
                }
            }
            let together = wrk::run(self.gateway.port, targets(100), 64, time)
                .all_written()
                .rate;
            let one_by_one = alone
                .iter()
                .map(|alone| wrk::run(alone.port, targets(100), 64, time).all_written().rate)
                .fold(0.0, f64::max);
            alone_rates.push(one_by_one);
            gathered.push(together / one_by_one);

            let one = wrk::run(self.gateway.port, targets(100), 1, time)
                .all_written()
                .rate;
            let plain = pgbench::rate(&self.server, Rows::Any, 1, time);
            single.push(plain / one);
            single_bare.push((1e6 / one, 1e6 / plain));

            let crowd = wrk::run(self.gateway.port, &hot, 100, time).all_written().rate;
            let row = pgbench::rate(&self.server, Rows::One, 100, time);
            hot_rates.push(crowd / row);
            hot_bare.push((crowd, row));
        }
        self.most = loads.iter().map(|load| median(&load.rates)).fold(0.0, f64::max);

        let reference = median(&bare);
        let mut rows: Vec<Row> = loads
            .into_iter()
            .map(|load| Row {
                what: format!(
                    "fenced HTTP writes a second, {} connections, {} fence{}",
                    load.connections,
                    count(f64::from(load.fences)),
                    if load.fences == 1 { "" } else { "s" }
                ),
                against: "pgbench, prepared single-row `update`, the better of 16 and 64 clients".into(),
                must: load.must,
                aim: load.aim,
                better: Better::Higher,
                unit: "x",
                figures: format!("{}/s, {}/s", count(median(&load.rates)), count(reference)),
                ratios: load.ratios,
            })
            .collect();
        rows.push(Row {
            what: "the same, 64 connections, 100 fences".into(),
            against: "the same gateway with one transaction a request, the better of 16 and 64 at once"
                .into(),
            must: 4.0,
            aim: 6.0,
            better: Better::Higher,
            unit: "x",
            figures: format!("against {}/s", count(median(&alone_rates))),
            ratios: gathered,
        });
        let (ours, theirs): (Vec<_>, Vec<_>) = single_bare.into_iter().unzip();
        rows.push(Row {
            what: "time of one fenced HTTP write, one client".into(),
            against: "pgbench, the same with one client".into(),
            must: 1.5,
            aim: 1.2,
            better: Better::Lower,
            unit: "x",
            figures: format!("{:.0} us, {:.0} us", median(&ours), median(&theirs)),
            ratios: single,
        });
        let (ours, theirs): (Vec<_>, Vec<_>) = hot_bare.into_iter().unzip();
        rows.push(Row {
            what: "fenced HTTP writes a second, 100 clients, one record".into(),
            against: "pgbench, 100 clients, one row".into(),
            must: 10.0,
            aim: 20.0,
            better: Better::Higher,
            unit: "x",
            figures: format!("{}/s, {}/s", count(median(&ours)), count(median(&theirs))),
            ratios: hot_rates,
        });
        rows
    }
}
