//! `rebase`, `declare` and `serve --auto-rebase`, as an operator meets them: what they say, how they end, and what becomes of
//! the writers from before.

use serde_json::json;

use super::{Terminal, json};
use crate::{
    gateway::{Client, program::Program},
    support::{Postgres, eventually, eventually::PATIENCE, postgres::command, postgres::run},
};

/// The store of [`Terminal::open`], which is named by its file.
const FILE: [&str; 2] = ["--store", "sqlite:fencegate.db"];

fn with_store<'a>(arguments: &[&'a str], store: &[&'a str]) -> Vec<&'a str> {
    [arguments, store].concat()
}

#[tokio::test]
async fn after_a_rebase_the_former_writer_is_fenced_and_the_next_one_is_not() {
    let terminal = Terminal::open().await;
    let token = terminal.acquire("a");
    terminal
        .run_under(&token, &["write", "a", "k", "before"])
        .ends_with(0);

    let rebase = with_store(&["rebase", "--reason", "put back from a copy", "--yes"], &FILE);
    let said = terminal.run(&rebase).ends_with(0).out;
    assert!(
        said.contains("and was 1") && said.contains("1 fences are marked") && said.contains("is stale"),
        "{said}"
    );
    let write = ["write", "a", "k", "late"];
    let refused = terminal.run_under(&token, &write).ends_with(77);
    assert!(
        refused.err.contains("token 1-1 is refused as stale"),
        "{}",
        refused.err
    );
    terminal.run_under(&token, &["lease", "renew", "a"]).ends_with(76);
    // It held the lock, which is nobody's business any more.
    let released = terminal.run_under(&token, &["lease", "release", "a"]);
    assert!([Some(0), Some(76)].contains(&released.code), "{}", released.err);

    let wait = ["lease", "acquire", "a", "--wait", "30s", "--ttl", "10m"];
    let next = terminal.run(&wait).ends_with(0).out.trim().to_owned();
    terminal
        .run_under(&next, &["write", "a", "k", "after"])
        .ends_with(0);
    terminal.run_under(&token, &write).ends_with(77);
    assert_eq!(
        terminal.run(&["read", "a", "k"]).ends_with(0).out.trim_end(),
        "after"
    );

    let log = terminal
        .run(&with_store(&["rebase", "--list"], &FILE))
        .ends_with(0)
        .out;
    assert!(
        log.contains("put back from a copy") && log.contains("1 to 1"),
        "{log}"
    );
}

#[tokio::test]
async fn a_rebase_is_asked_for_in_so_many_words() {
    let terminal = Terminal::open().await;
    let token = terminal.acquire("a");
    for (arguments, code, said) in [
        (&["rebase", "--yes"][..], 2, "--reason <TEXT>"),
        (&["rebase", "--yes", "--reason", ""], 2, "needs a reason"),
        (&["rebase", "--yes", "--reason", "  "], 2, "needs a reason"),
        (&["rebase", "--list", "--reason", "x"], 2, "cannot be used with"),
        (&["rebase", "--list", "--dry-run"], 2, "cannot be used with"),
        // Nobody types yes here.
        (&["rebase", "--reason", "x"], 1, "give --yes"),
        (&["declare"], 2, "--replication <HOW>"),
        (
            &["declare", "--replication", "sync"],
            2,
            "asynchronous or synchronous",
        ),
        (&["declare", "--replication", "synchronous"], 1, "not replicated"),
    ] {
        let run = terminal.run(&with_store(arguments, &FILE)).ends_with(code);
        assert!(run.err.contains(said), "{arguments:?}: {}", run.err);
    }
    let dry = terminal
        .run(&with_store(&["rebase", "--dry-run"], &FILE))
        .ends_with(0)
        .out;
    assert!(
        dry.contains("epoch 1") && dry.contains("bound to sqlite") && dry.contains("not quarantined"),
        "{dry}"
    );
    let dry = with_store(&["rebase", "--dry-run", "--output", "json"], &FILE);
    let dry = json(&terminal.run(&dry).ends_with(0));
    assert_eq!(
        (&dry["epoch"], &dry["quarantine"]),
        (&json!(1), &json!(null)),
        "{dry}"
    );
    // Of all that nothing was done.
    let log = with_store(&["rebase", "--list", "--output", "json"], &FILE);
    assert_eq!(json(&terminal.run(&log).ends_with(0)), json!([]));
    terminal.run_under(&token, &["write", "a", "k", "v"]).ends_with(0);
}

#[tokio::test]
async fn where_there_is_nothing_to_rebase() {
    let (program, server) = (Program::new(), Postgres::start().await);
    let unmigrated = server.url();
    let run = |verb: &[&str], store: &[&str], code| {
        let run = program.run(&mut program.command(&with_store(verb, store)));
        run.ends_with(code).err
    };
    let rebase = ["rebase", "--yes", "--reason", "x"];
    let declare = ["declare", "--replication", "synchronous"];
    for verb in [
        &rebase[..],
        &["rebase", "--dry-run"],
        &["rebase", "--list"],
        &declare,
    ] {
        for (store, said) in [
            (&[][..], "no store is named: give --store URL"),
            (
                &["--store", "sqlite:none.db"],
                "there is no store in the file none.db",
            ),
            (&["--store", &unmigrated], "run `fencegate migrate --store URL`"),
        ] {
            let err = run(verb, store, 1);
            assert!(err.contains(said), "{verb:?} {store:?}: {err}");
        }
    }
    assert!(!program.folder.path().join("none.db").exists(), "it was made");
    for verb in [&rebase[..], &declare] {
        let err = run(verb, &["--store", "postgres://root:hunter2@127.0.0.1:1/app"], 69);
        assert!(
            err.contains("with the store postgres app at 127.0.0.1:1: ")
                && err.contains("look closer with: fencegate doctor")
                && !err.contains("hunter2"),
            "{err}"
        );
    }
}

/// A gateway, and an operator, on a Postgres that can be put into another history.
struct Site {
    terminal: Terminal,
    client: Client,
    server: Postgres,
}

impl Site {
    async fn open(flags: &[&str]) -> Self {
        let server = Postgres::start().await;
        let url = server.url();
        let flags = [&["--store", &url, "--migrate", "--probe-timeout", "1s"], flags].concat();
        let terminal = Terminal::open_with(&flags).await;
        let port = terminal.url.rsplit_once(':').unwrap().1.parse().unwrap();
        Self {
            client: Client::of(port),
            terminal,
            server,
        }
    }

    /// One whose store's server has come back on another timeline, and the token of the writer from before.
    async fn recovered(flags: &[&str]) -> (Self, String) {
        let mut site = Self::open(flags).await;
        let token = site.holder().await;
        site.is_ready(true).await;
        site.recover().await;
        (site, token)
    }

    /// Puts the store's server on another timeline, as a recovery to a point in time does.
    async fn recover(&mut self) {
        self.server.process().end_by(rustix::process::Signal::INT).await;
        run(command("touch").arg(self.server.data().join("recovery.signal")));
        self.server.set("restore_command", "false");
        self.server.restart().await;
        let server = &self.server;
        eventually(PATIENCE, async || {
            let recovering = psql(server, "select pg_is_in_recovery()");
            recovering == "f"
        })
        .await;
    }

    /// Runs a verb on the store.
    fn operate(&self, arguments: &[&str]) -> crate::gateway::program::Run {
        let url = self.server.url();
        let program = &self.terminal.program;
        program.run(&mut program.command(&with_store(arguments, &["--store", &url])))
    }

    /// Waits until the gateway is ready, or is not.
    async fn is_ready(&self, wanted: bool) -> serde_json::Value {
        let mut found = json!(null);
        eventually(PATIENCE, async || {
            let answer = self.client.get("/readyz").await;
            found = answer.json();
            // While the server is away it is not ready either, for another reason.
            let away = found["store"]["problem"]
                .as_str()
                .is_some_and(|why| why.contains("reach"));
            (answer.status == 200) == wanted && !away
        })
        .await;
        found
    }

    /// Nothing is written, and everybody is told what to do.
    async fn is_quarantined(&self, token: &str) {
        let ready = self.is_ready(false).await;
        assert_eq!(
            (&ready["status"], &ready["store"]["status"]),
            (&json!("not-ready"), &json!("unusable"))
        );
        assert_eq!(ready["lock_service"]["status"], "ok", "{ready}");
        let why = ready["store"]["problem"].as_str().unwrap();
        assert!(
            why.contains("timeline 00000001") && why.contains("fencegate rebase --reason"),
            "{why}"
        );
        self.client.get("/livez").await.expect(200);

        for answer in [
            self.client.put("a", "k", token, "late").await,
            self.client.delete("a", "k", token).await,
            self.client.lease("b", json!({})).await,
        ] {
            let problem = answer.problem(503, "store-quarantined");
            let detail = problem["detail"].as_str().unwrap();
            assert!(
                detail.contains("timeline 00000001")
                    && detail.contains("Nothing was changed: the operator runs fencegate rebase --reason"),
                "{detail}"
            );
            assert_eq!(problem["retryable"], false, "{problem}");
        }
        let run = self
            .terminal
            .run_under(token, &["write", "a", "k", "late"])
            .ends_with(69);
        assert!(run.err.contains("fencegate rebase --reason"), "{}", run.err);
        // Its lock stays its own: when it is declared that no mark is lost, it goes on.
        self.client.renew("a", token).await.expect(200);
        // Reading goes on.
        assert_eq!(self.client.value("a", "k").await.as_deref(), Some("before"));

        let dry = json(
            &self
                .operate(&["rebase", "--dry-run", "--output", "json"])
                .ends_with(0),
        );
        assert!(
            dry["quarantine"].as_str().unwrap().contains("timeline 00000001"),
            "{dry}"
        );
    }

    async fn holder(&self) -> String {
        let token = self.client.acquire("a").await;
        self.client.put("a", "k", &token, "before").await.expect(201);
        token
    }

    /// The writer from before is refused, and the next one gets through.
    async fn goes_on(&self, before: &str) {
        self.client
            .put("a", "k", before, "late")
            .await
            .problem(412, "token-stale");
        self.client.renew("a", before).await.problem(412, "lease-lost");
        // The lock itself may last, in its row.
        let _ = self.client.release("a", before).await;
        let next = self.client.wait_for("a").await;
        self.client.put("a", "k", &next, "after").await.expect(200);
        self.client
            .put("a", "k", before, "late")
            .await
            .problem(412, "token-stale");
        assert_eq!(self.client.value("a", "k").await.as_deref(), Some("after"));
        self.is_ready(true).await;
    }
}

fn psql(server: &Postgres, sql: &str) -> String {
    let url = server.url();
    run(command("psql").args(["-X", "-A", "-t", "-q", "-c", sql, &url]))
        .trim()
        .to_owned()
}

#[tokio::test]
async fn a_quarantine_lasts_until_the_operator_rebases() {
    let (site, token) = Site::recovered(&[]).await;
    site.is_quarantined(&token).await;

    let rebase = [
        "rebase",
        "--yes",
        "--reason",
        "restored to a quarter past",
        "--output",
        "json",
    ];
    let done = json(&site.operate(&rebase).ends_with(0));
    assert_eq!(
        (&done["from_epoch"], &done["fences"]),
        (&json!(1), &json!(1)),
        "{done}"
    );
    let ready = site.is_ready(true).await;
    assert_eq!(
        ready["store"],
        json!({"name": ready["store"]["name"], "status": "ok"}),
        "{ready}"
    );
    site.goes_on(&token).await;
    let log = site.operate(&["rebase", "--list"]).ends_with(0).out;
    assert!(
        log.contains("restored to a quarter past") && log.contains("timeline 00000002"),
        "{log}"
    );
}

#[tokio::test]
async fn a_quarantine_ends_when_every_commit_is_declared_to_be_there() {
    let (site, token) = Site::recovered(&[]).await;
    site.is_quarantined(&token).await;

    let declare = [
        "declare",
        "--replication",
        "synchronous",
        "--reason",
        "the quorum was looked at",
    ];
    let said = site.operate(&declare).ends_with(0).out;
    assert_eq!(said.trim_end(), "the replication is declared to be synchronous");
    site.is_ready(true).await;
    // Its holder goes on, under its token.
    site.client.put("a", "k", &token, "after").await.expect(200);
    site.client.renew("a", &token).await.expect(200);
    let log = site.operate(&["rebase", "--list"]).ends_with(0).out;
    assert!(
        log.contains("the quorum was looked at") && log.contains("accept"),
        "{log}"
    );
}

#[tokio::test]
async fn a_gateway_that_rebases_by_itself_is_ready_and_the_next_lease_mends_it() {
    let (site, token) = Site::recovered(&["--auto-rebase"]).await;
    // Or no lease would be asked of it, and nothing would ever be mended.
    site.is_ready(true).await;
    let write = site.client.put("a", "k", &token, "late").await;
    write.problem(503, "store-quarantined");
    site.client.acquire("b").await;
    site.goes_on(&token).await;
    let log = json(
        &site
            .operate(&["rebase", "--list", "--output", "json"])
            .ends_with(0),
    );
    assert_eq!(log.as_array().unwrap().len(), 1, "{log}");
    assert!(
        log[0]["who"].as_str().unwrap().starts_with("a gateway, "),
        "{log}"
    );
    assert!(
        log[0]["reason"].as_str().unwrap().contains("quarantined"),
        "{log}"
    );
}
