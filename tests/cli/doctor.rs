//! `doctor`: each kind of server, healthy and not.

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::{Terminal, json};
use crate::{
    gateway::{auth::Clients, program::Program},
    support::{Etcd, Postgres, Redis, ZooKeeper},
};

/// What the doctor found.
struct Seen {
    code: Option<i32>,
    report: Value,
}

fn doctor(program: &Program, arguments: &[&str]) -> Seen {
    let mut command = program.command(&["doctor", "--output", "json"]);
    let run = program.run(command.args(arguments));
    assert!(matches!(run.code, Some(0 | 3 | 4)), "{}", run.err);
    Seen {
        code: run.code,
        report: json(&run),
    }
}

impl Seen {
    /// What is of this severity, and about these servers.
    fn all(&self, severity: &str, place: &str) -> Vec<&str> {
        let findings = self.report["findings"].as_array().unwrap();
        let chosen = findings.iter().filter(|finding| {
            finding["severity"] == severity && finding["place"].as_str().unwrap().starts_with(place)
        });
        chosen.map(|finding| finding["what"].as_str().unwrap()).collect()
    }

    /// Finds that this is among them, with a reason and something to do.
    #[track_caller]
    fn has(&self, severity: &str, what: &str) {
        let findings = self.report["findings"].as_array().unwrap();
        let found = findings.iter().find(|finding| {
            finding["severity"] == severity && finding["what"].as_str().unwrap().contains(what)
        });
        let found = found.unwrap_or_else(|| panic!("no {what}: {:#}", self.report));
        for reason in ["why", "remedy"] {
            let is_there = found[reason].as_str().is_some_and(|text| !text.is_empty());
            assert!(is_there || matches!(severity, "ok" | "note"), "{found}");
        }
    }

    #[track_caller]
    fn ends_with(&self, code: i32) {
        assert_eq!(self.code, Some(code), "{:#}", self.report);
        let worst = ["ok", "note", "warning", "unsafe"]
            .into_iter()
            .rfind(|severity| !self.all(severity, "").is_empty());
        assert_eq!(self.report["worst"], worst.unwrap(), "{:#}", self.report);
    }
}

/// A store in a file, that was used.
async fn a_file(program: &Program) -> String {
    let url = format!("sqlite:{}", program.folder.path().join("store.db").display());
    fencegate::connect(&url, None).await.unwrap();
    url
}

#[tokio::test]
async fn a_file_is_looked_at_and_not_made() {
    let program = Program::new();
    let seen = doctor(&program, &[]);
    seen.has("note", "no such file");
    seen.ends_with(0);
    assert!(!program.folder.path().join("fencegate.db").exists());

    let url = a_file(&program).await;
    let seen = doctor(&program, &["--store", &url]);
    seen.has("ok", "the file is sound");
    seen.has("note", "not bound to a lock service");
    seen.ends_with(0);
    let people = program
        .run(&mut program.command(&["doctor", "--store", &url]))
        .ends_with(0)
        .out;
    assert!(
        people.contains("\n  ok       the file is sound\n") && people.ends_with("All is well.\n"),
        "{people}"
    );

    std::fs::write(
        program.folder.path().join("broken.db"),
        "not a database, but long enough to be read as one",
    )
    .unwrap();
    let seen = doctor(&program, &["--store", "sqlite:broken.db"]);
    seen.has("unsafe", "the file is damaged");
    seen.ends_with(4);
}

#[tokio::test]
async fn postgres_must_keep_what_it_acknowledges() {
    let program = Program::new();
    let careless = Postgres::start().await;
    let seen = doctor(&program, &["--store", &careless.url()]);
    seen.has("unsafe", "fsync is off");
    seen.has("unsafe", "full_page_writes is off");
    seen.has("unsafe", "its tables are not those of this version");
    seen.ends_with(4);

    let lazy = Postgres::builder()
        .durable()
        .set("synchronous_commit", "off")
        .start()
        .await;
    let locks = fencegate::connect(&lazy.url(), None).await.unwrap();
    locks.migrate().await.unwrap();
    let seen = doctor(&program, &["--store", &lazy.url()]);
    seen.has("warning", "synchronous_commit is off");
    seen.ends_with(3);
    let mut connection = PgConnection::connect(&lazy.url()).await.unwrap();
    connection
        .execute("alter system reset synchronous_commit")
        .await
        .unwrap();
    connection
        .execute(AssertSqlSafe(
            "alter database postgres set synchronous_commit = on".to_owned(),
        ))
        .await
        .unwrap();
    let seen = doctor(&program, &["--store", &lazy.url()]);
    for what in [
        "PostgreSQL",
        "on disk",
        "its tables are those",
        "may end the sessions",
        "its clock agrees",
    ] {
        seen.has("ok", what);
    }
    seen.ends_with(0);

    // An owner of the schema who may end nobody's session.
    connection
        .execute("create role \"bil\"\"ling\" login")
        .await
        .unwrap();
    connection
        .execute("create database owned owner \"bil\"\"ling\"")
        .await
        .unwrap();
    let port = lazy.port();
    let url = format!("postgres://bil%22ling:hunter2@127.0.0.1:{port}/owned");
    fencegate::connect(&url, None)
        .await
        .unwrap()
        .migrate()
        .await
        .unwrap();
    let seen = doctor(&program, &["--store", &url]);
    seen.has("warning", "may not end other roles' sessions");
    assert!(
        seen.report
            .to_string()
            .contains("grant pg_signal_backend to \\\"bil\\\"\\\"ling\\\";"),
        "{:#}",
        seen.report
    );
    assert!(!seen.report.to_string().contains("hunter2"));
    seen.ends_with(3);
}

#[tokio::test]
async fn etcd_of_debian_fails_its_own_minimum() {
    let program = Program::new();
    let (etcd, store) = (Etcd::start().await, a_file(&program).await);
    let locks = format!("etcd://{}", etcd.endpoint());
    let seen = doctor(&program, &["--store", &store, "--locks", &locks]);
    let output = std::process::Command::new("etcd")
        .arg("--version")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let version = text.lines().next().unwrap().rsplit(' ').next().unwrap();
    let numbers: Vec<u32> = version.split('.').map(|number| number.parse().unwrap()).collect();
    // Debian 12 has 3.4.23. Whatever a newer one has is judged by the same table.
    let told = seen.all("unsafe", "locks: etcd");
    match numbers.as_slice() {
        [3, 4, patch] if *patch < 32 => {
            assert_eq!(told, [format!("etcd {version} is older than 3.4.32")]);
            seen.has("warning", "is older than 3.4.38");
            seen.ends_with(4);
        }
        [3, 0..4, _] | [3, 5, 0..14] => assert_eq!(told.len(), 1, "{:#}", seen.report),
        _ => assert!(told.is_empty(), "{:#}", seen.report),
    }
    seen.has("warning", "the only member of its cluster");

    let cluster = Etcd::builder().quick().start_cluster(3).await;
    let urls: Vec<_> = cluster.members.iter().map(Etcd::endpoint).collect();
    let locks = format!("etcd://{}", urls.join(","));
    let seen = doctor(&program, &["--store", &store, "--locks", &locks]);
    assert_eq!(
        seen.all("ok", "locks: etcd")
            .iter()
            .filter(|what| **what == "a cluster of 3 members")
            .count(),
        3
    );
}

#[tokio::test]
async fn zookeeper_that_stands_alone_is_told() {
    let program = Program::new();
    let (server, store) = (ZooKeeper::start().await, a_file(&program).await);
    let locks = format!("zookeeper://{}", server.endpoint());
    let seen = doctor(&program, &["--store", &store, "--locks", &locks]);
    seen.has("warning", "it stands alone");
    assert!(seen.all("unsafe", "").is_empty(), "{:#}", seen.report);
    seen.ends_with(3);
}

#[tokio::test]
async fn redis_must_keep_its_counters() {
    let program = Program::new();
    let store = a_file(&program).await;
    let careless = Redis::start().await;
    let seen = doctor(&program, &["--store", &store, "--locks", &careless.url()]);
    seen.has("unsafe", "appendonly is off");
    seen.ends_with(4);
    let lazy = Redis::builder()
        .set("appendonly", "yes")
        .set("maxmemory", "100mb")
        .set("maxmemory-policy", "allkeys-lru")
        .start()
        .await;
    let seen = doctor(&program, &["--store", &store, "--locks", &lazy.url()]);
    seen.has("warning", "appendfsync is everysec");
    seen.has("unsafe", "maxmemory-policy is allkeys-lru");
    seen.ends_with(4);
    // Where others run the server, its configuration may be out of sight.
    let hidden = Redis::builder()
        .durable()
        .set("rename-command", "CONFIG \"\"")
        .start()
        .await;
    let seen = doctor(&program, &["--store", &store, "--locks", &hidden.url()]);
    seen.has("note", "appendfsync cannot be read");
    seen.ends_with(0);

    let mut instances = Vec::new();
    for _ in 0..3 {
        instances.push(Redis::builder().durable().start().await);
    }
    let endpoints: Vec<_> = instances.iter().map(Redis::endpoint).collect();
    let locks = format!("redlock://{}", endpoints.join(","));
    let seen = doctor(&program, &["--store", &store, "--locks", &locks]);
    assert_eq!(
        seen.all("ok", "locks: redlock")
            .iter()
            .filter(|what| what.contains("on disk"))
            .count(),
        3
    );
    seen.ends_with(0);
    instances[1].kill9();
    let seen = doctor(&program, &["--store", &store, "--locks", &locks]);
    assert_eq!(
        seen.all("unsafe", &format!("locks: redlock at {}", endpoints[1]))
            .len(),
        1,
        "{:#}",
        seen.report
    );
    seen.ends_with(4);
}

#[tokio::test]
async fn marks_belong_to_the_lock_service_that_is_named() {
    let program = Program::new();
    let (postgres, etcd, other) = tokio::join!(Postgres::start(), Etcd::start(), Etcd::start());
    let (store, locks) = (postgres.url(), format!("etcd://{}", etcd.endpoint()));
    let connected = fencegate::connect(&store, Some(&locks)).await.unwrap();
    connected.migrate().await.unwrap();
    connected
        .acquire("a", std::time::Duration::from_secs(10))
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    let seen = doctor(&program, &["--store", &store, "--locks", &locks]);
    seen.has("ok", "belongs to this lock service");
    seen.has("ok", "beyond the highest mark 1-");

    let elsewhere = format!("etcd://{}", other.endpoint());
    let seen = doctor(&program, &["--store", &store, "--locks", &elsewhere]);
    seen.has("unsafe", "belongs to etcd cluster");
    assert_eq!(seen.all("unsafe", "history").len(), 1, "{:#}", seen.report);

    let mut connection = PgConnection::connect(&store).await.unwrap();
    connection
        .execute("update fencegate.fence set sequence = 1000000000000")
        .await
        .unwrap();
    let seen = doctor(&program, &["--store", &store, "--locks", &locks]);
    seen.has("unsafe", "there is a mark 1-1000000000000 above it");
    seen.ends_with(4);
}

#[tokio::test]
async fn servers_that_do_not_answer_are_named() {
    let program = Program::new();
    let store = a_file(&program).await;
    let away = "127.0.0.1:1";
    for locks in [
        format!("etcd://{away}"),
        format!("redis://me:hunter2@{away}"),
        format!("zookeeper://{away}"),
    ] {
        let seen = doctor(&program, &["--store", &store, "--locks", &locks]);
        seen.has("unsafe", "it does not answer");
        assert!(!seen.all("unsafe", "locks: ").is_empty() && !seen.report.to_string().contains("hunter2"));
        assert!(seen.report.to_string().contains(away), "{:#}", seen.report);
        seen.ends_with(4);
    }
    let seen = doctor(
        &program,
        &["--store", &format!("postgres://me:hunter2@{away}/app")],
    );
    assert!(
        seen.report.to_string().contains("postgres app at 127.0.0.1:1"),
        "{:#}",
        seen.report
    );
    assert!(!seen.report.to_string().contains("hunter2"));
    seen.ends_with(4);
    let seen = doctor(&program, &["--gateway", &format!("http://{away}")]);
    seen.has("unsafe", "it does not answer");
    let wrong = program
        .run(&mut program.command(&["doctor", "--store", "mysql://x"]))
        .ends_with(1);
    assert!(wrong.err.contains("no store begins with"), "{}", wrong.err);
}

#[tokio::test]
async fn a_gateway_says_what_is_wrong_behind_it() {
    let mut terminal = Terminal::open().await;
    let seen = doctor(&terminal.program, &["--gateway", &terminal.url]);
    seen.has("ok", "ready");
    seen.has("ok", "its clock agrees");
    seen.ends_with(0);
    terminal.gateway.kill9();
    let program = Program::new();
    let (etcd, store) = (Etcd::builder().quick().start().await, Postgres::start().await);
    let (locks, url) = (format!("etcd://{}", etcd.endpoint()), store.url());
    let mut serve = program.command(&["serve", "--listen", "127.0.0.1:0", "--migrate"]);
    serve.args(["--store", &url, "--locks", &locks]);
    let (_gateway, client) = program.serve(serve).await;
    etcd.stop();
    let seen = doctor(
        &program,
        &["--gateway", &format!("http://127.0.0.1:{}", client.port())],
    );
    seen.has("unsafe", "its lock service is not usable");
    seen.has("ok", "its store is usable");
    seen.ends_with(4);
    etcd.cont();
}

#[tokio::test]
async fn a_gateway_that_shows_little_is_healthy_all_the_same() {
    let clients = Clients::new([("reader", serde_json::json!({"*": ["read"]}))]);
    let file = clients.file();
    let terminal = Terminal::open_with(&["--clients", file.to_str().unwrap()]).await;
    let ask = |key: Option<&str>| {
        let mut command = terminal.command(&["doctor", "--output", "json"]);
        if let Some(key) = key {
            command.env("FENCEGATE_API_KEY", key);
        }
        let run = terminal.program.run(&mut command);
        let report = json(&run);
        Seen {
            code: run.code,
            report,
        }
    };
    for key in [None, Some(clients.key("reader"))] {
        let seen = ask(key);
        seen.has("ok", "ready");
        seen.has("note", "its store is not shown");
        seen.has("note", "its lock service is not shown");
        seen.ends_with(0);
    }
}

#[tokio::test]
async fn a_role_without_rights_is_told_which() {
    let program = Program::new();
    let server = Postgres::builder().durable().start().await;
    let locks = fencegate::connect(&server.url(), None).await.unwrap();
    locks.migrate().await.unwrap();
    let mut connection = PgConnection::connect(&server.url()).await.unwrap();
    connection
        .execute("create role \"new\"\"comer\" login")
        .await
        .unwrap();
    let url = format!("postgres://new%22comer@127.0.0.1:{}/postgres", server.port());
    let seen = doctor(&program, &["--store", &url]);
    seen.has("unsafe", "new\"comer may not look at fencegate's tables");
    seen.ends_with(4);
    let findings = seen.report["findings"].as_array().unwrap();
    let last = findings.iter().rfind(|finding| finding["severity"] == "unsafe");
    let remedy = last.unwrap()["remedy"].as_str().unwrap().to_owned();
    assert_eq!(
        remedy,
        "grant fencegate_writer, fencegate_sealer to \"new\"\"comer\";"
    );
    connection.execute(AssertSqlSafe(remedy)).await.unwrap();
    let seen = doctor(&program, &["--store", &url]);
    seen.has("ok", "its tables are those of this version");
    seen.ends_with(0);
    let run = ["run", "--fence", "a", "--store", &url, "--", "true"];
    program.run(&mut program.command(&run)).ends_with(0);
}
