//! What the guard costs: transactions of Rust programs with it and without, and protected tables by the row.
//!
//! On a Postgres of its own with durable commits, in interleaved rounds; the median of the rounds' ratios counts.
//! `make bench-guard`, with `ROUNDS=9 SECONDS=2 DURABLE=0` to change it.

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use fencegate::{Isolation, Token, connect, guard};
use sqlx::{Executor, PgPool};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

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

async fn rows(pool: &PgPool) {
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

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let (rounds, seconds) = (
        setting("ROUNDS", 7),
        Duration::from_millis(setting("SECONDS", 1) * 1000),
    );
    let mut builder = support::Postgres::builder();
    if setting("DURABLE", 1) == 1 {
        builder = builder.durable();
    }
    let server = builder.start().await;
    let locks = connect(&server.url(), None).await.unwrap();
    locks.store().migrate().await.unwrap();
    let pool = sqlx::postgres::PgPoolOptions::new()
        .max_connections(20)
        .connect(&server.url())
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
    let ways = [
        ("read committed", Way::Guarded(Isolation::ReadCommitted)),
        ("repeatable read", Way::Guarded(Isolation::RepeatableRead)),
        ("serializable", Way::Guarded(Isolation::Serializable)),
        ("fencegate.enter", Way::Sql),
        ("select $1", Way::RoundTrip),
    ];
    for clients in [1, 16] {
        let holders = &holders[..clients];
        let mut ratios = vec![Vec::new(); ways.len()];
        let mut plain_rates = Vec::new();
        rate(&pool, Way::Sql, holders, seconds / 2).await;
        for _ in 0..rounds {
            for (i, (_, way)) in ways.iter().enumerate() {
                let unguarded = Way::Plain(match way {
                    Way::Guarded(isolation) => *isolation,
                    _ => Isolation::ReadCommitted,
                });
                let before = rate(&pool, unguarded, holders, seconds / 2).await;
                let guarded = rate(&pool, *way, holders, seconds).await;
                let after = rate(&pool, unguarded, holders, seconds / 2).await;
                let plain = (before + after) / 2.0;
                plain_rates.push(plain);
                ratios[i].push(guarded / plain);
            }
        }
        println!(
            "{clients} clients: {:.0} plain transactions a second",
            median(plain_rates)
        );
        for ((name, _), ratios) in ways.iter().zip(ratios) {
            let ratio = median(ratios);
            println!(
                "  {name:16} {ratio:.2} x the throughput, {:.2} x the time",
                1.0 / ratio
            );
        }
    }
    rows(&pool).await;
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (times, table) in times.iter_mut().zip(["plain", "one", "each"]) {
            times.push(copy(&pool, &holders[0], table).await);
        }
    }
    let [plain, one, each] = times.map(|times| median(times) * 100.0);
    println!(
        "copy of 10,000 rows, microseconds a row: {plain:.2} plain, {one:.2} one fence, {each:.2} a fence each"
    );
}
