//! Clients: each leases a fence or two, reads, computes, writes, and gives back or just stops. They live in processes of
//! their own, which are stopped and killed.

mod guard;
mod http;
mod oversleep;
mod sql;

use std::{path::PathBuf, process::Command, sync::Arc, time::Duration};

use fencegate::{FenceName, Locks, Token, client as gateway, clock::Moment};
use serde::{Deserialize, Serialize};

use crate::{
    record::{
        self, Answer, COUNT, Call, Cell, Event, Journal, LIST, MONEY, NOTE, Number, Place, Value, What,
    },
    rng::Rng,
};

/// What a process of clients is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// Unlike that of any other process of the round.
    pub process: String,
    pub seed: u64,
    pub journal: PathBuf,
    pub store: String,
    pub locks: String,
    pub gateways: Vec<String>,
    pub ttl: Duration,
    /// Once this file is there, nothing more is begun.
    pub stop: PathBuf,
    pub histories: Vec<HistorySpec>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HistorySpec {
    pub number: usize,
    pub fences: Vec<String>,
    /// Whether writes go through the guard, or past it into a table that nothing protects.
    pub fenced: bool,
    /// Whether there is one client, who takes its time: then a fence stays released for a while.
    pub is_alone: bool,
    pub clients: Vec<Way>,
}

/// How a client writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// Through the gateways.
    Http,
    /// Through a `Lease` and its transactions.
    Guard,
    /// With a lease from a gateway, through `fencegate.enter` on a plain connection.
    Sql,
}

const SPEC: &str = "CHAOS_CLIENT";

impl Spec {
    /// This very program, as a process of clients.
    pub fn command(&self) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["client::process", "--exact", "--ignored", "--nocapture"]);
        command.env(SPEC, serde_json::to_string(self).unwrap());
        command
    }
}

#[test]
#[ignore = "a process of clients, which the histories start"]
fn process() {
    let spec: Spec = serde_json::from_str(&std::env::var(SPEC).expect("what to do")).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.unwrap().block_on(live(spec));
    std::process::exit(0);
}

async fn live(spec: Spec) {
    let client = |url: &String| gateway::Client::builder(url).patience(Duration::ZERO).build();
    let world = Arc::new(World {
        journal: Journal::append_to(&spec.journal),
        gateways: spec.gateways.iter().map(|url| client(url).unwrap()).collect(),
        locks: fencegate::connect(&spec.store, Some(&spec.locks)).await.unwrap(),
        pool: sqlx::postgres::PgPoolOptions::new()
            .max_connections(12)
            .acquire_timeout(SOON)
            .connect_lazy(&spec.store)
            .unwrap(),
        spec,
    });
    let mut clients = Vec::new();
    for history in &world.spec.histories {
        for (i, way) in history.clients.iter().enumerate() {
            let name = format!("{}{}.{i}", world.spec.process, history.number);
            let number = (history.number * 100 + i) as u64;
            // A lease of the library renews itself, and would never end under its sleeper.
            let first = history.clients.iter().position(|way| *way != Way::Guard);
            let client = Client {
                oversleeps: !history.is_alone && first == Some(i),
                rng: Rng::fork(world.spec.seed ^ Rng::of(&world.spec.process), number),
                home: i % world.gateways.len(),
                world: world.clone(),
                history: history.clone(),
                way: *way,
                connection: None,
                name,
                number: 0,
            };
            clients.push(tokio::spawn(client.live()));
        }
    }
    for client in clients {
        client.await.unwrap();
    }
}

impl Rng {
    fn of(name: &str) -> u64 {
        name.bytes().fold(7, |hash, byte| hash * 31 + u64::from(byte))
    }
}

/// How long a client waits for an answer.
const SOON: Duration = Duration::from_millis(1500);

/// What the clients of a process share.
struct World {
    spec: Spec,
    journal: Journal,
    gateways: Vec<gateway::Client>,
    locks: Locks,
    pool: sqlx::PgPool,
}

struct Client {
    name: String,
    /// Of its operations, the last one's.
    number: u32,
    rng: Rng,
    world: Arc<World>,
    history: HistorySpec,
    way: Way,
    /// Whether it begins with the worst that can be.
    oversleeps: bool,
    /// The gateway that it leases from.
    home: usize,
    connection: Option<sqlx::PgConnection>,
}

/// What a client holds.
enum Hold {
    Lease(fencegate::Lease),
    Leases(fencegate::Leases),
    /// From a gateway, and renewed now and then.
    Tokens(Vec<Leased>),
}

type Leased = (FenceName, Token, Moment);

impl Hold {
    fn tokens(&self) -> Vec<(FenceName, Token)> {
        let of = |lease: &fencegate::Lease| (lease.name().clone(), lease.token().clone());
        match self {
            Self::Lease(lease) => vec![of(lease)],
            Self::Leases(leases) => leases.iter().map(of).collect(),
            Self::Tokens(tokens) => {
                let each = tokens.iter();
                each.map(|(fence, token, _)| (fence.clone(), token.clone()))
                    .collect()
            }
        }
    }

    fn numbers(&self) -> Vec<(String, Number)> {
        let tokens = self.tokens();
        tokens
            .iter()
            .map(|(fence, token)| (fence.to_string(), number(token)))
            .collect()
    }

    fn token(&self, fence: &str) -> Token {
        let mut tokens = self.tokens().into_iter();
        tokens.find(|(name, _)| name.as_str() == fence).unwrap().1
    }

    /// As far as the holder's own clock tells.
    fn is_over(&self) -> bool {
        match self {
            Self::Lease(lease) => lease.is_lost(),
            Self::Leases(leases) => leases.is_lost(),
            Self::Tokens(tokens) => tokens.iter().any(|(_, _, deadline)| deadline.has_passed()),
        }
    }
}

fn number(token: &Token) -> Number {
    (token.epoch.get(), token.sequence.get())
}

/// The lease is of no further use.
struct Useless;

impl Client {
    async fn live(mut self) {
        if self.oversleeps {
            self.oversleep().await;
        }
        while !self.is_to_stop() {
            if self.turn().await.is_err() {
                self.pause(10, 60).await;
            }
            let most = if self.history.is_alone { 400 } else { 20 };
            self.pause(0, most).await;
        }
    }

    fn is_to_stop(&self) -> bool {
        self.world.spec.stop.exists()
    }

    async fn pause(&mut self, from: u64, to: u64) {
        tokio::time::sleep(self.rng.millis(from, to)).await;
    }

    /// A lease, and what is done under it.
    async fn turn(&mut self) -> Result<(), Useless> {
        let mut fences = self.history.fences.clone();
        if !self.rng.percent(30) {
            fences = vec![fences.swap_remove(usize::from(self.rng.percent(25)))];
        }
        let mut hold = self.grant(&fences).await?;
        let mut well = Ok(());
        for _ in 0..self.rng.between(2, 5) {
            well = self.step(&hold, &fences).await;
            if well.is_err() || self.is_to_stop() {
                break;
            }
            if let Hold::Tokens(tokens) = &mut hold
                && self.rng.percent(25)
            {
                well = self.renew_by_http(tokens).await;
                if well.is_err() {
                    break;
                }
            }
        }
        // Some just stop. A lease that renews itself would be kept for ever then.
        if self.rng.percent(8) && matches!(hold, Hold::Tokens(_)) {
            return well;
        }
        self.release(hold).await;
        well
    }

    async fn step(&mut self, hold: &Hold, fences: &[String]) -> Result<(), Useless> {
        let fence = &fences[self.rng.below(fences.len() as u64) as usize];
        let of = |key: &str, fence: &str| Place {
            fence: fence.into(),
            key: key.into(),
        };
        match self.rng.below(100) {
            0..60 if fences.len() > 1 => {
                let accounts = fences.iter().map(|fence| of(MONEY, fence)).collect();
                self.change(hold, accounts).await
            }
            0..55 => self.change(hold, vec![of(LIST, fence)]).await,
            55..78 => self.change(hold, vec![of(COUNT, fence)]).await,
            78..88 => {
                let number = self.next();
                let cells = vec![self.cell(of(NOTE, fence), None, number, 1)];
                self.write(hold, number, cells).await
            }
            which => {
                let key = [LIST, COUNT, NOTE][which as usize % 3];
                self.read(hold, &of(key, fence)).await.map(drop)
            }
        }
    }

    /// Reads, computes and writes: an append, an increment, or a transfer where there are two places.
    async fn change(&mut self, hold: &Hold, places: Vec<Place>) -> Result<(), Useless> {
        if self.way != Way::Http && self.rng.percent(50) {
            return self.change_at_once(hold, places).await;
        }
        let mut values = Vec::new();
        for place in &places {
            values.push(self.read(hold, place).await?);
        }
        self.compute(hold).await?;
        let number = self.next();
        let cells = self.computed(places, values, number);
        self.write(hold, number, cells).await
    }

    /// Takes a while, and sometimes longer than the lease: a careful client looks at its clock before it computes and
    /// writes, and stalls after that.
    async fn compute(&mut self, hold: &Hold) -> Result<(), Useless> {
        if hold.is_over() {
            return Err(Useless);
        }
        match self.rng.percent(6) {
            true => tokio::time::sleep(self.world.spec.ttl + self.rng.millis(200, 700)).await,
            false => self.pause(10, 100).await,
        }
        Ok(())
    }

    fn computed(&self, places: Vec<Place>, values: Vec<Option<Value>>, number: u32) -> Vec<Cell> {
        let by = |i: usize| 1 - 2 * i as i64;
        let each = places.into_iter().zip(values).enumerate();
        each.map(|(i, (place, value))| self.cell(place, value, number, by(i)))
            .collect()
    }

    fn cell(&self, place: Place, before: Option<Value>, number: u32, by: i64) -> Cell {
        let op = format!("{}-{number}", self.name);
        let was = before.as_ref().map(|before| before.op.clone());
        let before = before.unwrap_or_default();
        let mut list = before.list;
        list.push(op.clone());
        let n = before.n + by;
        Cell {
            place,
            value: Value { op, was, n, list },
        }
    }

    fn next(&mut self) -> u32 {
        self.number += 1;
        self.number
    }

    fn note(&self, number: u32, what: What) {
        self.world.journal.note(&Event {
            at: record::now(),
            history: self.history.number,
            client: self.name.clone(),
            number,
            what,
        });
    }

    fn asks(&self, number: u32, call: Call) {
        self.note(number, What::Asked(call));
    }

    fn hears(&self, number: u32, answer: Answer) {
        self.note(number, What::Answered(answer));
    }

    async fn grant(&mut self, fences: &[String]) -> Result<Hold, Useless> {
        match self.way {
            Way::Guard => self.lease(fences).await,
            Way::Http | Way::Sql => {
                let mut tokens = Vec::new();
                for fence in fences {
                    match self.lease_by_http(fence).await {
                        Ok(token) => tokens.push(token),
                        Err(useless) => {
                            self.release_by_http(tokens).await;
                            return Err(useless);
                        }
                    }
                }
                Ok(Hold::Tokens(tokens))
            }
        }
    }

    async fn read(&mut self, hold: &Hold, place: &Place) -> Result<Option<Value>, Useless> {
        let number = self.next();
        self.asks(number, Call::Read(place.clone()));
        let read = match self.way {
            Way::Guard if self.history.fenced => self.read_guarded(hold, place).await,
            Way::Http if self.history.fenced => self.read_by_http(hold, place).await,
            _ => self.read_by_sql(hold, place).await,
        };
        match read {
            Ok(value) => {
                let op = value.as_ref().map(|value: &Value| value.op.clone());
                self.hears(number, Answer::Read(op));
                Ok(value)
            }
            Err(why) => {
                self.hears(number, Answer::Refused(why));
                Err(Useless)
            }
        }
    }

    async fn write(&mut self, hold: &Hold, number: u32, cells: Vec<Cell>) -> Result<(), Useless> {
        let under = match self.history.fenced {
            true => hold.numbers(),
            false => Vec::new(),
        };
        let call = Call::Write {
            cells: cells.clone(),
            under,
        };
        self.asks(number, call);
        let answer = match self.way {
            Way::Guard if self.history.fenced => self.write_guarded(hold, &cells).await,
            Way::Http if self.history.fenced => self.write_by_http(hold, &cells).await,
            _ => self.write_by_sql(hold, &cells).await,
        };
        let well = matches!(answer, Answer::Done);
        self.hears(number, answer);
        if well { Ok(()) } else { Err(Useless) }
    }

    async fn release(&mut self, hold: Hold) {
        match hold {
            Hold::Tokens(tokens) => self.release_by_http(tokens).await,
            hold => self.end_lease(hold).await,
        }
    }
}

/// The future's outcome, or that there was none in time.
async fn soon<T, E: std::fmt::Display>(future: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match tokio::time::timeout(SOON, future).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err(NO_ANSWER.into()),
    }
}

const NO_ANSWER: &str = "no answer in time";
