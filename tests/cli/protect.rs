//! `protect` and `unprotect`: what they say, what they refuse, and whom they wait for.

use serde_json::json;

use super::json;
use crate::{
    gateway::program::{Program, Run},
    guard::session::Session,
    support::Postgres,
    world::World,
};

struct Shop {
    program: Program,
    world: World,
}

impl Shop {
    async fn open() -> (Self, Session) {
        let world = World::postgres().await;
        let mut session = Session::open(&world.postgres.as_ref().unwrap().url()).await;
        session
            .run(
                "create table invoice (id int primary key, ledger text);
                 create table \"Mixed Case\" (\"Ledger\" text);
                 create schema billing; create table billing.invoice (id int); create table billing.\"Odd.Name\" (id int);
                 create view seen as select from invoice",
            )
            .await
            .unwrap();
        let program = Program::new();
        (Self { program, world }, session)
    }

    fn run(&self, arguments: &[&str]) -> Run {
        let mut command = self.program.command(arguments);
        command.env("FENCEGATE_STORE", self.world.postgres.as_ref().unwrap().url());
        self.program.run(&mut command)
    }
}

#[tokio::test]
async fn a_table_is_protected_and_unprotected() {
    let (shop, mut session) = Shop::open().await;
    let report = shop.run(&["protect", "invoice", "--fence", "f", "--mode", "report"]);
    assert_eq!(
        report.ends_with(0).out,
        "public.invoice: writes without the fence f pass, and are written down: fencegate rejections\n"
    );
    session.run("insert into invoice values (1)").await.unwrap();
    let rejections = shop.run(&["rejections"]).ends_with(0).out;
    assert!(rejections.contains("public.invoice"), "{rejections}");

    let enforce = shop.run(&["protect", "invoice", "--fence", "f"]).ends_with(0);
    assert_eq!(enforce.out, "public.invoice is written under the fence f only\n");
    let write = "insert into invoice values (2)";
    assert_eq!(session.run(write).await, Err("ZF004".into()));

    let by_column = shop.run(&["protect", "invoice", "--column", "ledger", "--output", "json"]);
    assert_eq!(
        json(&by_column.ends_with(0)),
        json!({"table": "public.invoice", "fence": null, "column": "ledger", "mode": "enforce"})
    );
    assert_eq!(session.run(write).await, Err("ZF004".into()));

    for said in [
        "public.invoice is protected no more\n",
        "public.invoice was not protected\n",
    ] {
        assert_eq!(shop.run(&["unprotect", "invoice"]).ends_with(0).out, said);
    }
    let again = shop.run(&["unprotect", "invoice", "--output", "json"]);
    assert_eq!(
        json(&again.ends_with(0)),
        json!({"table": "public.invoice", "was_protected": false})
    );
    session.run(write).await.unwrap();
}

#[tokio::test]
async fn names_are_read_as_sql_reads_them_and_else_as_they_stand() {
    let (shop, mut session) = Shop::open().await;
    for (table, name) in [
        ("INVOICE", "public.invoice"),
        ("billing.invoice", "billing.invoice"),
        ("\"Mixed Case\"", "public.\"Mixed Case\""),
        ("Mixed Case", "public.\"Mixed Case\""),
        ("billing.\"Odd.Name\"", "billing.\"Odd.Name\""),
    ] {
        let protected = shop.run(&["protect", table, "--fence", "f", "--output", "json"]);
        assert_eq!(json(&protected.ends_with(0))["table"], name);
        let insert = format!("insert into {name} default values");
        assert_eq!(session.run(&insert).await, Err("ZF004".into()), "{name}");
        shop.run(&["unprotect", table]).ends_with(0);
        session
            .run(&format!(
                "alter table {name} add x int; alter table {name} drop x"
            ))
            .await
            .unwrap();
    }
    shop.run(&["protect", "Mixed Case", "--column", "Ledger"])
        .ends_with(0);
    for hostile in [
        "invoice; drop table invoice",
        "invoice'",
        "\"invoice",
        "a.b.c.d",
        "",
    ] {
        let refused = shop.run(&["protect", hostile, "--fence", "f"]).ends_with(1);
        assert!(refused.err.starts_with("fencegate: "), "{}", refused.err);
    }
    assert_eq!(session.run("select from invoice").await, Ok(0));
}

#[tokio::test]
async fn what_cannot_be_protected_is_told() {
    let (shop, mut session) = Shop::open().await;
    for (arguments, code, said) in [
        (
            &["nothing", "--fence", "f"][..],
            1,
            "there is no table nothing in this database",
        ),
        (
            &["seen", "--fence", "f"],
            1,
            "seen cannot be protected: it is not a table. For a view, ",
        ),
        (
            &["invoice", "--column", "nothing"],
            1,
            "invoice has no column \"nothing\"",
        ),
        (
            &["invoice", "--column", "Ledger"],
            1,
            "The column is text, varchar, uuid or an integer.",
        ),
        (&["invoice", "--fence", "a/b"], 2, "--fence"),
        (&["invoice", "--fence", "f", "--column", "ledger"], 2, "--column"),
        (&["invoice"], 2, "--fence"),
        (&["invoice", "--fence", "f", "--mode", "enforced"], 2, "'enforce'"),
    ] {
        let run = shop.run(&[&["protect"], arguments].concat()).ends_with(code);
        assert!(run.err.contains(said), "{arguments:?}: {}", run.err);
    }
    let gone = shop.run(&["unprotect", "nothing"]).ends_with(1);
    assert!(gone.err.contains("there is no table nothing"), "{}", gone.err);

    // Somebody else's table.
    let role = format!("clerk_{}", uuid::Uuid::new_v4().simple());
    let create = format!("create role {role} login; grant fencegate_writer to {role}");
    session.run(&create).await.unwrap();
    let mut url = url::Url::parse(&shop.world.postgres.as_ref().unwrap().url()).unwrap();
    url.set_username(&role).unwrap();
    for verb in [
        &["protect", "invoice", "--fence", "f"][..],
        &["unprotect", "invoice"],
    ] {
        if verb[0] == "unprotect" {
            shop.run(&["protect", "invoice", "--fence", "f"]).ends_with(0);
        }
        let run = shop
            .run(&[verb, &["--store", url.as_str()]].concat())
            .ends_with(1);
        assert!(run.err.contains("owner of"), "{}", run.err);
    }
    assert_eq!(
        session.run("insert into invoice values (1)").await,
        Err("ZF004".into())
    );

    // Somebody writes to it.
    session.run("begin; lock table billing.invoice").await.unwrap();
    let waits = [
        "protect",
        "billing.invoice",
        "--fence",
        "f",
        "--lock-timeout",
        "100ms",
    ];
    let run = shop.run(&waits).ends_with(1);
    assert!(run.err.contains("--lock-timeout"), "{}", run.err);
    session.run("rollback").await.unwrap();
    session
        .run("insert into billing.invoice values (1)")
        .await
        .unwrap();
}

#[tokio::test]
async fn only_a_postgres_database_that_is_migrated_has_tables_to_protect() {
    let server = Postgres::start().await;
    let program = Program::new();
    let file = "sqlite:fencegate.db";
    program
        .run(&mut program.command(&["migrate", "--store", file]))
        .ends_with(0);
    for (store, code, said) in [
        (file, 1, "only those of a Postgres database"),
        ("sqlite:none.db", 1, "there is no store in the file none.db"),
        ("mysql://a/b", 1, "mysql"),
        ("postgres://root:hunter2@127.0.0.1:1/app", 69, "fencegate doctor"),
        (&server.url(), 1, "fencegate migrate"),
    ] {
        for verb in [
            &["protect", "pg_catalog.pg_class", "--fence", "f"][..],
            &["unprotect", "pg_class"],
        ] {
            let arguments = [verb, &["--store", store]].concat();
            let run = program.run(&mut program.command(&arguments)).ends_with(code);
            assert!(run.err.contains(said), "{store}: {}", run.err);
            assert!(!run.err.contains("hunter2"), "{}", run.err);
        }
    }
    let run = program
        .run(&mut program.command(&["protect", "t", "--fence", "f"]))
        .ends_with(1);
    assert!(run.err.contains("--store URL"), "{}", run.err);
}
