//! What the gateway's rows do not say: latency under half of the load, the size of batches, what refusals cost, how it
//! is with a million fences, and memory.

use std::time::Duration;

use crate::{
    gateway::Gateway,
    server::{ROWS, Store},
    setting::Settings,
    table::{Better, Row, count, median},
    writes::Bench,
    wrk::{self, Targets},
};

/// Latency under half of the most that was reached, with pauses of random length between a connection's requests.
pub async fn latency(bench: &Bench, settings: &Settings) -> (String, String) {
    let targets = bench.targets(100).await;
    let mut most = bench.most;
    if most == 0.0 {
        most = wrk::run(bench.gateway.port, &targets, 256, settings.time)
            .all_written()
            .rate;
    }
    // Each of 256 connections makes a request in every mean pause, and the time of the request itself.
    let pause = Duration::from_secs_f64(2.0 * 256.0 / (most / 2.0));
    let report =
        wrk::run_with_pauses(bench.gateway.port, &targets, 256, settings.time * 2, pause).all_written();
    (
        "time of a fenced HTTP write at half of the most, 256 connections".into(),
        format!(
            "p50 {:.1} ms, p99 {:.1} ms, at {}/s of {}/s",
            report.p50.as_secs_f64() * 1e3,
            report.p99.as_secs_f64() * 1e3,
            count(report.rate),
            count(most)
        ),
    )
}

/// How many writes share a commit.
pub async fn batches(bench: &Bench, settings: &Settings) -> (String, String) {
    let targets = bench.targets(100).await;
    let mut sizes = Vec::new();
    for connections in [1, 64, 256] {
        let before = bench.store.commits().await;
        let report = wrk::run(bench.gateway.port, &targets, connections, settings.time).all_written();
        // Looking at the counter is a transaction too.
        let commits = bench.store.commits().await - before - 1;
        sizes.push(format!(
            "{:.1} ({connections})",
            report.answers as f64 / commits as f64
        ));
    }
    (
        "writes in a commit on average (connections)".into(),
        sizes.join(", "),
    )
}

/// A stale write against an accepted one, and what a million of them leave behind.
pub async fn stale(bench: &Bench, settings: &Settings) -> (Row, (String, String)) {
    let accepted = bench.targets(100).await;
    let fences: Vec<u32> = (2..=101).collect();
    let stale = Targets::under(&bench.store, &fences, ROWS, 1).await;
    let mut ratios = Vec::new();
    let mut rates = Vec::new();
    for _ in 0..settings.rounds {
        let good = wrk::run(bench.gateway.port, &accepted, 64, settings.time)
            .all_written()
            .rate;
        let bad = wrk::run(bench.gateway.port, &stale, 64, settings.time);
        assert!(bad.refused == bad.answers, "a stale write was accepted");
        ratios.push(good / bad.rate);
        rates.push((bad.rate, good));
    }
    let goal = if settings.short { 50_000 } else { 1_000_000 };
    // What is under way from before must not be counted.
    bench.store.settle().await;
    let before = (
        bench.store.wal().await,
        bench.store.commits().await,
        versions(&bench.store).await,
    );
    let mut refused = 0;
    while refused < goal {
        refused += wrk::run(bench.gateway.port, &stale, 64, Duration::from_secs(5)).refused;
    }
    let commits = bench.store.commits().await - before.1 - 1;
    let (wal, versions) = (
        bench.store.wal().await - before.0,
        versions(&bench.store).await - before.2,
    );
    let (bad, good): (Vec<_>, Vec<_>) = rates.into_iter().unzip();
    let row = Row {
        what: "a stale write, 64 connections".into(),
        against: "an accepted one".into(),
        must: 1.0,
        aim: 1.0,
        better: Better::Lower,
        unit: "x",
        figures: format!("{}/s, {}/s", count(median(&bad)), count(median(&good))),
        ratios,
    };
    let left = format!(
        "{} bytes of WAL, {versions} row versions of records and fences, {commits} transactions (of these the rejections \
         that are written down, once a second)",
        count(wal as f64)
    );
    (
        row,
        (
            format!("{} refused writes leave behind", count(refused as f64)),
            left,
        ),
    )
}

async fn versions(store: &Store) -> i64 {
    store
        .number(
            "select sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint from pg_stat_user_tables
              where schemaname = 'fencegate' and relname in ('record', 'fence')",
        )
        .await
}

/// The time of a write when there are a million fences and records, against a thousand.
pub async fn million(bench: &Bench, settings: &Settings) -> Row {
    let large = if settings.short { 100_000 } else { 1_000_000 };
    let mut sides = Vec::new();
    for size in [1_000, large] {
        let store = Store::new(&bench.server, size).await;
        store
            .run(&format!(
                "insert into fencegate.record (fence, key, value, content_type, version, epoch, sequence)
                 select 'f' || n + 1, 'r' || n, convert_to(repeat('x', 100), 'UTF8'), 'text/plain',
                        nextval('fencegate.record_version'), 1, n + 1 from generate_series(0, {size} - 1) n"
            ))
            .await;
        store.settle().await;
        let gateway = Gateway::start(&["--store", &store.url]).await;
        // Spread over all of them.
        let step = (size / 50_000).max(1);
        let fences: Vec<u32> = (1..=size / step).map(|n| n * step).collect();
        let targets = Targets::new(&store, &fences, fences.len() as u32).await;
        sides.push((gateway, targets, store));
    }
    let (mut ratios, mut times) = (Vec::new(), Vec::new());
    for _ in 0..settings.rounds {
        let rate = |side: &(Gateway, Targets, Store)| {
            wrk::run(side.0.port, &side.1, 64, settings.time)
                .all_written()
                .rate
        };
        let (few, many) = (rate(&sides[0]), rate(&sides[1]));
        ratios.push(few / many);
        times.push((1e6 / many, 1e6 / few));
    }
    let (many, few): (Vec<_>, Vec<_>) = times.into_iter().unzip();
    Row {
        what: format!(
            "time of a write with {} fences and records, 64 connections",
            count(f64::from(large))
        ),
        against: "with 1,000".into(),
        must: 1.3,
        aim: 1.1,
        better: Better::Lower,
        unit: "x",
        figures: format!("{:.1} us, {:.1} us", median(&many), median(&few)),
        ratios,
    }
}
