//! The guard's rows: transactions of Rust programs with it and without, and protected tables by the row.

use std::time::{Duration, Instant};

use fencegate::{Isolation, Token, connect, guard};
use sqlx::{Executor, PgPool};

use crate::{
    setting::Settings,
    support::Postgres,
    table::{Better, Row, count, median},
};

/// What is compared.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Plain(Isolation),
    Guarded(Isolation),
    /// As a program in another language does it.
    Sql,
    /// No guard, and a statement more that does nothing: what a round trip costs here.
    RoundTrip,
}

async fn transaction(pool: &PgPool, way: Way, fence: &fencegate::FenceName, token: &Token, id: i32) {
    const UPDATE: &str = "update account set n = n + 1 where id = $1";
    match way {
        Way::Plain(isolation) => {
            let mut transaction = match isolation {
                Isolation::ReadCommitted => pool.begin().await.unwrap(),
                Isolation::RepeatableRead => pool
                    .begin_with("begin isolation level repeatable read")
                    .await
                    .unwrap(),
                Isolation::Serializable => pool
                    .begin_with("begin isolation level serializable")
                    .await
                    .unwrap(),
            };
            sqlx::query(UPDATE)
                .bind(id)
                .execute(&mut *transaction)
                .await
                .unwrap();
            transaction.commit().await.unwrap();
        }
        Way::Guarded(isolation) => {
            let mut transaction = guard::begin(pool, fence, token, isolation).await.unwrap();
            sqlx::query(UPDATE)
                .bind(id)
                .execute(&mut *transaction)
                .await
                .unwrap();
            transaction.commit().await.unwrap();
        }
        Way::RoundTrip => {
            let mut transaction = pool.begin().await.unwrap();
            sqlx::query("select $1")
                .bind(id)
                .execute(&mut *transaction)
                .await
                .unwrap();
            sqlx::query(UPDATE)
                .bind(id)
                .execute(&mut *transaction)
                .await
                .unwrap();
            transaction.commit().await.unwrap();
        }
        Way::Sql => {
            let mut transaction = pool.begin().await.unwrap();
            sqlx::query("select fencegate.enter($1, $2)")
                .bind(fence.as_str())
                .bind(token.expose())
                .execute(&mut *transaction)
                .await
                .unwrap();
            sqlx::query(UPDATE)
                .bind(id)
                .execute(&mut *transaction)
                .await
                .unwrap();
            transaction.commit().await.unwrap();
        }
    }
}

/// Transactions a second.
async fn rate(pool: &PgPool, way: Way, holders: &[(fencegate::FenceName, Token)], seconds: Duration) -> f64 {
    let end = Instant::now() + seconds;
    let clients: Vec<_> = holders
        .iter()
        .cloned()
        .enumerate()
        .map(|(id, (fence, token))| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let mut done = 0;
                while Instant::now() < end {
                    transaction(&pool, way, &fence, &token, id as i32 * 1000).await;
                    done += 1;
                }
                done
            })
        })
        .collect();
    let mut done = 0;
    for client in clients {
        done += client.await.unwrap();
    }
    f64::from(done) / seconds.as_secs_f64()
}

async fn tables(pool: &PgPool) {
    pool.execute("create table plain (id int, fence text default 'f0'); create table one (like plain including all);
        create table each (like plain including all);
        select fencegate.protect('one', fence => 'f0'); select fencegate.protect('each', fence_column => 'fence')")
    .await
    .unwrap();
}

async fn copy(pool: &PgPool, holder: &(fencegate::FenceName, Token), table: &str) -> f64 {
    let mut transaction = guard::begin(pool, &holder.0, &holder.1, Isolation::default())
        .await
        .unwrap();
    let started = Instant::now();
    let copy = format!("copy {table} (id) from program 'seq 10000'");
    transaction.execute(sqlx::AssertSqlSafe(copy)).await.unwrap();
    let took = started.elapsed().as_secs_f64();
    transaction.rollback().await.unwrap();
    took
}

/// The rows, and what is printed beside them.
pub async fn rows(server: &Postgres, settings: &Settings) -> (Vec<Row>, Vec<(String, String)>) {
    let url = server.create_database().await;
    let locks = connect(&url, None).await.unwrap();
    locks.store().migrate().await.unwrap();
    let pool = sqlx::postgres::PgPoolOptions::new()
        .max_connections(20)
        .connect(&url)
        .await
        .unwrap();
    pool.execute(
        "create table account (id int primary key, n bigint) with (fillfactor = 50);
        insert into account select n, 0 from generate_series(0, 15999) n",
    )
    .await
    .unwrap();
    pool.execute("vacuum analyze account").await.unwrap();
    let mut holders = Vec::new();
    for i in 0..16 {
        let options = fencegate::Options {
            ttl: Duration::from_secs(3600),
            ..Default::default()
        };
        let grant = locks
            .grant(&format!("f{i}").parse().unwrap(), options)
            .await
            .unwrap();
        holders.push((grant.name, grant.token));
    }
    let (mut rows, mut beside) = (Vec::new(), Vec::new());
    for clients in [1, 16] {
        compare(&pool, &holders[..clients], settings, &mut rows, &mut beside).await;
    }
    beside.push(copies(&pool, &holders[0], settings).await);
    (rows, beside)
}

/// The ways that have a row, and those that have none: name, way, and with 16 clients what it must reach and what is aimed for.
type Named = (&'static str, Way, Option<(f64, f64)>);

const WAYS: [Named; 5] = [
    (
        "a guarded transaction from Rust",
        Way::Guarded(Isolation::ReadCommitted),
        Some((0.7, 0.85)),
    ),
    (
        "the same from plain SQL, `fencegate.enter`",
        Way::Sql,
        Some((0.4, 0.4)),
    ),
    (
        "guarded at repeatable read",
        Way::Guarded(Isolation::RepeatableRead),
        None,
    ),
    (
        "guarded at serializable",
        Way::Guarded(Isolation::Serializable),
        None,
    ),
    ("no guard, and an empty statement more", Way::RoundTrip, None),
];

async fn compare(
    pool: &PgPool,
    holders: &[(fencegate::FenceName, Token)],
    settings: &Settings,
    rows: &mut Vec<Row>,
    beside: &mut Vec<(String, String)>,
) {
    let clients = holders.len();
    let mut ratios = vec![Vec::new(); WAYS.len()];
    let mut plain_rates = Vec::new();
    let time = settings.time / 2;
    rate(pool, Way::Sql, holders, time).await;
    for round in 0..settings.rounds {
        eprintln!(
            "guard, {clients} clients: round {} of {}",
            round + 1,
            settings.rounds
        );
        for (i, (_, way, _)) in WAYS.iter().enumerate() {
            let unguarded = Way::Plain(match way {
                Way::Guarded(isolation) => *isolation,
                _ => Isolation::ReadCommitted,
            });
            let before = rate(pool, unguarded, holders, time / 2).await;
            let guarded = rate(pool, *way, holders, time).await;
            let after = rate(pool, unguarded, holders, time / 2).await;
            let plain = f64::midpoint(before, after);
            plain_rates.push(plain);
            ratios[i].push(guarded / plain);
        }
    }
    let plain = median(&plain_rates);
    for ((name, _, goals), ratios) in WAYS.iter().zip(ratios) {
        let ratio = median(&ratios);
        let Some((must, aim)) = goals else {
            beside.push((
                format!("{name}, {clients} clients"),
                format!("{ratio:.2} x the throughput"),
            ));
            continue;
        };
        let figures = format!("{}/s, {}/s", count(ratio * plain), count(plain));
        let row = |what: String, must, aim, better, ratios| Row {
            what,
            against: "the same without the guard".into(),
            must,
            aim,
            better,
            unit: "x",
            ratios,
            figures,
        };
        if clients == 1 {
            let ratios = ratios.iter().map(|ratio| 1.0 / ratio).collect();
            let (must, aim) = if *must < 0.5 { (2.5, 2.5) } else { (1.5, 1.2) };
            rows.push(row(
                format!("time of {name}, one client"),
                must,
                aim,
                Better::Lower,
                ratios,
            ));
        } else {
            let what = format!("{name}: throughput of {clients} clients on {clients} fences");
            rows.push(row(what, *must, *aim, Better::Higher, ratios));
        }
    }
}

/// What a protected table costs by the row.
async fn copies(
    pool: &PgPool,
    holder: &(fencegate::FenceName, Token),
    settings: &Settings,
) -> (String, String) {
    tables(pool).await;
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..settings.rounds {
        for (times, table) in times.iter_mut().zip(["plain", "one", "each"]) {
            times.push(copy(pool, holder, table).await);
        }
    }
    let [plain, one, each] = times.map(|times| median(&times) * 100.0);
    (
        "`copy` of 10,000 rows, microseconds a row".into(),
        format!("{plain:.2} unprotected, {one:.2} protected by one fence, {each:.2} by a fence in each row"),
    )
}
