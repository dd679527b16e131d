//! `fencegate serve` and `fencegate migrate`, as a user runs them.

use std::{path::PathBuf, process::Command};

use rustix::process::Signal;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tempfile::TempDir;

use super::{Client, World};
use crate::support::{self, Postgres, Process, eventually, eventually::PATIENCE};

/// The program, in an empty folder of its own and an environment that says nothing.
pub struct Program {
    pub folder: TempDir,
}

/// What a run of it that ended left behind.
pub struct Run {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Run {
    /// Finds that it ended with this status.
    #[track_caller]
    pub fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        self
    }
}

impl Program {
    pub fn new() -> Self {
        Self {
            folder: support::folder("program"),
        }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fencegate"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FENCEGATE_")) {
            command.env_remove(name);
        }
        command.env_remove("DATABASE_URL").env_remove("RUST_LOG");
        command.current_dir(self.folder.path()).args(arguments);
        command
    }

    pub fn run(&self, command: &mut Command) -> Run {
        let output = command.output().unwrap();
        Run {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts a gateway, and waits until it says where it listens.
    pub async fn serve(&self, command: Command) -> (Process, Client) {
        let mut process = Process::spawn("fencegate", command, &self.log());
        let mut port = None;
        eventually(PATIENCE, async || {
            assert!(process.ended().is_none(), "{}", process.log());
            let log = process.log();
            let line = log
                .lines()
                .find_map(|line| line.strip_prefix("listening on http://127.0.0.1:"));
            port = line.and_then(|port| port.parse().ok());
            port.is_some()
        })
        .await;
        (process, Client::of(port.unwrap()))
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

const SERVE: [&str; 3] = ["serve", "--listen", "127.0.0.1:0"];

#[tokio::test]
async fn with_nothing_said_all_is_in_one_file_and_sigterm_ends_it() {
    for signal in [Signal::TERM, Signal::INT] {
        let program = Program::new();
        let (mut process, client) = program.serve(program.command(&SERVE)).await;
        assert!(
            process.log().contains("SQLite file fencegate.db"),
            "{}",
            process.log()
        );
        let token = client.acquire("a").await;
        client.put("a", "k", &token, "v").await.expect(201);
        let status = process.end_by(signal).await;
        assert!(status.success(), "{status} {}", process.log());
        assert!(program.folder.path().join("fencegate.db").exists());

        std::fs::remove_file(program.log()).unwrap();
        let (_process, client) = program.serve(program.command(&SERVE)).await;
        assert_eq!(client.value("a", "k").await.as_deref(), Some("v"));
        client.renew("a", &token).await.expect(200);
    }
}

#[tokio::test]
async fn the_environment_says_what_flags_say() {
    let world = World::postgres().await;
    for name in ["FENCEGATE_STORE", "DATABASE_URL"] {
        let program = Program::new();
        let mut command = program.command(&["serve"]);
        command
            .env("FENCEGATE_LISTEN", "127.0.0.1:0")
            .env("FENCEGATE_MIGRATE", "true")
            .env(name, &world.store);
        let (process, client) = program.serve(command).await;
        client.acquire(name).await;
        assert!(
            process.log().contains("postgres at 127.0.0.1"),
            "{}",
            process.log()
        );
        assert!(!program.folder.path().join("fencegate.db").exists());
    }
}

#[test]
fn where_to_listen_is_an_address_and_a_port() {
    let program = Program::new();
    for address in ["localhost:7411", "127.0.0.1", "7411", ":7411", ""] {
        let run = program.run(&mut program.command(&["serve", "--listen", address]));
        let err = run.ends_with(2).err;
        assert!(
            err.contains("an IP address and a port, as 127.0.0.1:7411"),
            "{err}"
        );
    }
}

#[tokio::test]
async fn it_does_not_listen_beyond_loopback_unless_told_so() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        let program = Program::new();
        let run = program.run(&mut program.command(&["serve", "--listen", address]));
        assert_eq!(run.code, Some(1), "{}", run.err);
        let last = run.err.lines().last().unwrap();
        assert!(
            last.starts_with("fencegate: ") && last.contains("--allow-unauthenticated"),
            "{last}"
        );
        assert!(!run.out.contains("listening"), "{}", run.out);
    }
    let program = Program::new();
    let command = program.command(&[
        "serve",
        "--listen",
        "0.0.0.0:0",
        "--allow-unauthenticated",
        "--allow-plaintext",
    ]);
    let mut process = Process::spawn("fencegate", command, &program.folder.path().join("log"));
    eventually(PATIENCE, async || {
        assert!(process.ended().is_none(), "{}", process.log());
        process.log().contains("listening on http://0.0.0.0:")
    })
    .await;
}

#[tokio::test]
async fn errors_are_one_line_and_show_no_url() {
    let program = Program::new();
    let secret = "hunter2";
    for arguments in [
        ["serve", "--store", "mysql://root:hunter2@db/x"].as_slice(),
        &["serve", "--store", "postgres://root:hunter2@db:notaport/x"],
        &["serve", "--store", "postgres://root:hunter2@[db/x"],
        &["serve", "--store", "root:hunter2@db/x"],
        &["serve", "--store", "sqlite:"],
        &[
            "serve",
            "--store",
            "sqlite:/nowhere/at/all/hunter2.db".trim_end_matches("hunter2.db"),
        ],
        &[
            "serve",
            "--store",
            "sqlite:x.db",
            "--locks",
            "postgres://root:hunter2@db:notaport/x",
        ],
        &[
            "serve",
            "--store",
            "sqlite:x.db",
            "--locks",
            "etcd://root:hunter2@",
        ],
        &[
            "serve",
            "--store",
            "sqlite:x.db",
            "--locks",
            "consul://root:hunter2@host",
        ],
        &["serve", "--store", "sqlite:x.db", "--listen", "192.0.2.1:1"],
        &["migrate"],
        &["migrate", "--store", "postgres://root:hunter2@127.0.0.1:1/x"],
    ] {
        let run = program.run(&mut program.command(arguments));
        let is_unreachable = arguments.contains(&"postgres://root:hunter2@127.0.0.1:1/x");
        let code = if is_unreachable { 69 } else { 1 };
        assert_eq!(run.code, Some(code), "{arguments:?} {}", run.err);
        let lines: Vec<&str> = run.err.lines().filter(|line| !line.starts_with('{')).collect();
        assert!(
            lines.len() == 1 && lines[0].starts_with("fencegate: "),
            "{arguments:?} {}",
            run.err
        );
        assert!(
            !run.err.contains(secret) && !run.out.contains(secret),
            "{arguments:?} {}",
            run.err
        );
    }
    for arguments in [
        ["serve", "--colour"].as_slice(),
        &["serve", "--listen", "nowhere"],
        &["serve", "--drain-timeout", "soon"],
        &["serve", "--locks", "postgres://root:hunter2@db/x"],
        &["nonsense"],
        &[],
    ] {
        let run = program.run(&mut program.command(arguments));
        assert_eq!(run.code, Some(2), "{arguments:?} {}", run.err);
        assert!(!run.err.contains(secret), "{}", run.err);
    }
    let mut help = program.command(&["serve", "--help"]);
    let run = program.run(help.env("FENCEGATE_STORE", "postgres://root:hunter2@db/x"));
    assert_eq!(run.code, Some(0));
    assert!(
        !run.out.contains(secret) && run.out.contains("FENCEGATE_STORE"),
        "{}",
        run.out
    );
}

#[tokio::test]
async fn migrate_makes_the_tables_once() {
    let server = Postgres::start().await;
    let program = Program::new();
    for _ in 0..2 {
        let run = program.run(&mut program.command(&["migrate", "--store", &server.url()]));
        assert_eq!(run.code, Some(0), "{}", run.err);
        assert!(run.out.contains("up to date"), "{}", run.out);
        assert!(!run.out.contains("postgres://"), "{}", run.out);
    }
    let gateway = super::Gateway::start_on(
        fencegate::connect(&server.url(), None).await.unwrap(),
        fencegate::gateway::Config::default(),
    );
    gateway.await.client().acquire("a").await;
}

#[tokio::test]
async fn printed_sql_applied_by_hand_counts_as_migrated() {
    let server = Postgres::start().await;
    let program = Program::new();
    let run = program.run(&mut program.command(&["migrate", "--print"]));
    assert_eq!(run.code, Some(0), "{}", run.err);
    let mut connection = PgConnection::connect(&server.url()).await.unwrap();
    connection.execute(AssertSqlSafe(run.out)).await.unwrap();
    let locks = fencegate::connect(&server.url(), None).await.unwrap();
    locks.store().check().await.unwrap();
    locks.store().migrate().await.unwrap();
    let gateway = super::Gateway::start_on(locks, fencegate::gateway::Config::default()).await;
    gateway.client().acquire("a").await;

    let run = program.run(&mut program.command(&["migrate", "--print", "--store", "sqlite:other.db"]));
    let file = program.folder.path().join("by-hand.db");
    let url = format!("sqlite:{}?mode=rwc", file.display());
    let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
    connection.execute(AssertSqlSafe(run.out)).await.unwrap();
    connection.close().await.unwrap();
    let locks = fencegate::connect(&format!("sqlite:{}", file.display()), None)
        .await
        .unwrap();
    locks.store().check().await.unwrap();
    assert!(!program.folder.path().join("other.db").exists());
}

#[tokio::test]
async fn a_gateway_that_stops_leaves_nobody_in_the_queue() {
    let world = World::etcd().await;
    let other = world.gateway().await.client();
    let token = other.acquire("a").await;
    let program = Program::new();
    let mut command = program.command(&SERVE);
    command.args([
        "--store",
        &world.store,
        "--locks",
        world.locks.as_deref().unwrap(),
    ]);
    let (mut process, client) = program.serve(command).await;
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let client = client.clone();
            let asked = serde_json::json!({"ttl": "5m", "wait": "4m"});
            tokio::spawn(async move { client.lease("a", asked).await })
        })
        .collect();
    let queue = async || other.get("/v1/fences/a").await.json()["waiting"].clone();
    // Those who wait in one process may have one place together.
    eventually(PATIENCE, async || queue().await != 0).await;
    assert!(process.terminate().await.success(), "{}", process.log());
    for waiter in waiting {
        waiter.await.unwrap().problem(503, "draining");
    }
    eventually(PATIENCE, async || queue().await == 0).await;
    other.release("a", &token).await.expect(204);
    other.wait_for("a").await;
}
