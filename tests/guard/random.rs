//! Random interleavings of holders that enter, write, roll back to savepoints, replay, die and are succeeded.
//!
//! `FENCEGATE_SEED=<number>` runs one schedule again, `FENCEGATE_SCHEDULES=<number>` as many as that.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use fencegate::{Epoch, Holder, Sequence, Token};
use sqlx::Executor;

use super::session::{LEVELS, Session};
use crate::{support::Postgres, world::World};

/// Small and seeded: splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % end as u64) as usize
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Raise the fence's mark to this one's token, in a transaction of its own.
    Seal,
    Begin(&'static str),
    Enter,
    /// Write down, without entering, that it has entered.
    Replay,
    /// Into the protected table.
    Write,
    Savepoint,
    RollbackTo,
    Commit,
    Rollback,
    /// The connection breaks.
    Die,
}

/// What one holder does, in its order.
fn script(random: &mut Random) -> Vec<Step> {
    let mut steps = Vec::new();
    if random.below(4) > 0 {
        steps.push(Step::Seal);
    }
    for _ in 0..=random.below(2) {
        steps.push(Step::Begin(LEVELS[random.below(3)]));
        if random.below(3) == 0 {
            steps.extend([Step::Savepoint, Step::Enter, Step::RollbackTo]);
            if random.below(2) == 0 {
                steps.push(Step::Replay);
            }
        } else {
            steps.push(Step::Enter);
        }
        steps.push(Step::Write);
        if random.below(2) == 0 {
            steps.extend([Step::Savepoint, Step::Write, Step::RollbackTo, Step::Write]);
        }
        steps.push(
            [
                Step::Commit,
                Step::Commit,
                Step::Commit,
                Step::Rollback,
                Step::Die,
            ][random.below(5)],
        );
    }
    steps
}

/// A holder of fence `fence` in this schedule.
struct Holding {
    session: Session,
    /// Whether it entered outside a savepoint, and was let pass: it then writes to a table that nothing protects.
    entered: bool,
    in_savepoint: bool,
    fence: String,
    token: Token,
}

impl Holding {
    /// Errors are part of the game: what counts is which writes are there in the end.
    async fn take(&mut self, step: Step, last: bool, url: &str) {
        let (fence, token) = (self.fence.as_str(), &self.token);
        let _ = match step {
            Step::Seal => {
                let seal = sqlx::query("select fencegate.seal($1, $2, '20ms')")
                    .bind(fence)
                    .bind(token.expose());
                seal.execute(&mut self.session.connection)
                    .await
                    .map(|_| 0)
                    .map_err(super::session::code)
            }
            Step::Begin(level) => {
                self.entered = false;
                self.session.run(&format!("begin isolation level {level}")).await
            }
            Step::Enter => {
                let entered = self.session.enter(fence, token).await;
                self.entered = entered.is_ok() && !self.in_savepoint;
                entered.map(|()| 0)
            }
            Step::Replay => {
                let note = sqlx::query("select set_config('fencegate.entered', $1, true)")
                    .bind(format!("\n{fence}\t{}", token.expose()));
                note.execute(&mut self.session.connection)
                    .await
                    .map(|_| 0)
                    .map_err(super::session::code)
            }
            Step::Write => {
                let values = format!("values ('{fence}', {})", token.sequence);
                if self.entered {
                    let _ = self.session.run(&format!("insert into loose {values}")).await;
                }
                self.session.run(&format!("insert into entry {values}")).await
            }
            Step::Savepoint => {
                self.in_savepoint = true;
                self.session.run("savepoint s").await
            }
            Step::RollbackTo => {
                self.in_savepoint = false;
                self.session.run("rollback to s").await
            }
            Step::Commit => self.session.run("commit").await,
            Step::Rollback => self.session.run("rollback").await,
            Step::Die => {
                self.entered = false;
                self.session = Session::open(url).await;
                Ok(0)
            }
        };
        // Whoever seals may have ended it. What is left open belongs to the next schedule otherwise.
        if self
            .session
            .run(if last { "rollback" } else { "" })
            .await
            .is_err_and(|code| code.len() != 5)
        {
            self.entered = false;
            self.session = Session::open(url).await;
        }
    }
}

/// Runs one schedule on fences of its own. Two to four holders of two fences, each step of a random one that
/// is not waiting.
async fn schedule(seed: u64, url: &str, sessions: &mut Vec<Session>) {
    let mut random = Random(seed);
    let mut idle: Vec<(Holding, Vec<Step>)> = Vec::new();
    for i in 0..2 + random.below(3) {
        let holding = Holding {
            session: match sessions.pop() {
                Some(session) => session,
                None => Session::open(url).await,
            },
            entered: false,
            in_savepoint: false,
            fence: format!("{seed}:{}", random.below(2)),
            token: Token {
                epoch: Epoch::FIRST,
                sequence: Sequence::new(i as i64 + 1).unwrap(),
                holder: Holder::random(),
            },
        };
        let mut steps = script(&mut random);
        steps.reverse();
        idle.push((holding, steps));
    }
    let mut busy = tokio::task::JoinSet::new();
    while !idle.is_empty() || !busy.is_empty() {
        while let Some(done) = busy.try_join_next() {
            idle.push(done.unwrap());
        }
        if idle.is_empty() {
            idle.push(busy.join_next().await.unwrap().unwrap());
        }
        // Who took the last step is the last one here, and goes on more often than not: others then find it in the
        // middle of something.
        let next = match random.below(3) {
            0 => random.below(idle.len()),
            _ => idle.len() - 1,
        };
        let (mut holding, mut steps) = idle.swap_remove(next);
        let Some(step) = steps.pop() else {
            sessions.push(holding.session);
            continue;
        };
        let url = url.to_owned();
        busy.spawn(async move {
            holding.take(step, steps.is_empty(), &url).await;
            (holding, steps)
        });
        // Most steps end at once; one that waits for another lets the others go on.
        if let Ok(done) = tokio::time::timeout(Duration::from_millis(4), busy.join_next()).await {
            idle.push(done.unwrap().unwrap());
        }
    }
}

/// Runs them, and answers with those that broke the rule: per fence, in the order of the commits, the tokens went down,
/// or a write is there whose token was never the mark.
async fn broken(seeds: std::ops::Range<u64>, server: &Postgres) -> Vec<u64> {
    let pool = sqlx::PgPool::connect(&server.url()).await.unwrap();
    pool.execute(
        "drop table if exists entry, loose, sealed;
         create table loose (fence text, sequence bigint);
         create table entry (fence text, sequence bigint);
         select fencegate.protect('entry', fence_column => 'fence');
         create table sealed (fence text, sequence bigint);
         create or replace function seen() returns trigger language plpgsql as $$ begin
             insert into public.sealed values (new.name, new.sequence); return null; end $$;
         create or replace trigger seen after insert or update on fencegate.fence
             for each row execute function seen();",
    )
    .await
    .unwrap();
    let mut running = tokio::task::JoinSet::new();
    let left = Arc::new(Mutex::new(seeds));
    for _ in 0..6 {
        let (url, left) = (server.url(), left.clone());
        running.spawn(async move {
            let mut sessions = Vec::new();
            loop {
                let Some(seed) = left.lock().unwrap().next() else {
                    return;
                };
                tokio::time::timeout(Duration::from_secs(60), schedule(seed, &url, &mut sessions))
                    .await
                    .unwrap_or_else(|_| panic!("a schedule does not end: FENCEGATE_SEED={seed}"));
            }
        });
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
    let broken: Vec<i64> = sqlx::query_scalar(
        "select distinct split_part(fence, ':', 1)::bigint from (
             select e.fence, e.sequence, lag(e.sequence) over (
                        partition by e.fence order by pg_xact_commit_timestamp(e.xmin), e.sequence) as before,
                    s.sequence is null as unsealed
               from (select *, xmin from entry union all select *, xmin from loose) e left join sealed s on (s.fence, s.sequence) = (e.fence, e.sequence)) e
          where unsealed or before > sequence",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    broken.into_iter().map(|seed| seed as u64).collect()
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")),
    )
}

async fn world() -> World {
    let server = Postgres::builder()
        .set("track_commit_timestamp", "on")
        .start()
        .await;
    World::on(server).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_never_go_down() {
    let world = world().await;
    let server = world.postgres.as_ref().unwrap();
    let seeds = match number("FENCEGATE_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = u64::from(getrandom::u32().unwrap());
            first..first + number("FENCEGATE_SCHEDULES").unwrap_or(500)
        }
    };
    println!("schedules {seeds:?}");
    let broken = broken(seeds, server).await;
    assert!(
        broken.is_empty(),
        "run it again with FENCEGATE_SEED= one of {broken:?}"
    );
    let pool = world.pool();
    let written: i64 = sqlx::query_scalar("select count(*) from entry")
        .fetch_one(&pool)
        .await
        .unwrap();
    println!("{written} writes");
    assert!(written > 0, "nothing was ever written");
}

/// The same with a trigger that looks at the mark without the lock: the schedules find it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guard_that_is_broken_is_found() {
    let world = world().await;
    let pool = world.pool();
    let function: String = sqlx::query_scalar("select pg_get_functiondef('fencegate.verify'::regproc)")
        .fetch_one(&pool)
        .await
        .unwrap();
    let broken_function = function
        .replace("perform pg_advisory_xact_lock_shared(", "perform abs(")
        .replace(" for share", "");
    assert_ne!(function, broken_function);
    pool.execute(sqlx::AssertSqlSafe(broken_function)).await.unwrap();
    for first in (0..12_000).step_by(200) {
        if !broken(first..first + 200, world.postgres.as_ref().unwrap())
            .await
            .is_empty()
        {
            return;
        }
    }
    panic!("12,000 schedules did not notice");
}
