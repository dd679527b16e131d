//! Transactions that are sent as one message: what is entered there holds to the end of it, or is not entered.

use fencegate::Token;

use super::session::{LEVELS, Session, waits_for_lock};
use crate::world::{World, next};

const TABLES: &str = "
    create table open (id int);
    create table guarded (id int);
    select fencegate.protect('guarded', fence => 'f')";

/// The token is a setting of the session: in a message there are no parameters.
const ENTER: &str = "select fencegate.enter('f', current_setting('test.token'))";

const HELD: &[&str] = &[
    "begin; ENTER; insert into guarded values (1); commit",
    "BEGIN;\n\tENTER;\n\tINSERT INTO guarded VALUES (1);\n\tCOMMIT;\n",
    "begin work; ENTER; insert into guarded values (1); end transaction ; ",
    "  start  transaction read write; ENTER; insert into guarded values (1); commit work",
    "begin; insert into open values (1); ENTER; insert into guarded values (1); commit",
    "begin; execute entering; insert into guarded values (1); commit",
    "begin; ENTER; insert into guarded select case when true then 1 end; commit",
];

/// Each ends the transaction, or gives the fence up, before all is done; or it cannot be told that it does not.
const NOT_HELD: &[&str] = &[
    "ENTER",
    "ENTER; insert into open values (1)",
    "insert into open values (1); ENTER",
    "ENTER; begin; insert into open values (1); commit",
    "execute entering; insert into open values (1)",
    "begin; commit; ENTER; insert into open values (1)",
    "begin;commit;ENTER;insert into open values (1);commit",
    "begin;;\n COMMIT ;; ENTER; insert into open values (1)",
    "begin; end; ENTER; insert into open values (1)",
    "begin; rollback; ENTER; insert into open values (1)",
    "begin; abort; ENTER; insert into open values (1)",
    "start transaction; commit; ENTER; insert into open values (1)",
    "begin; commit; begin; ENTER; insert into open values (1); commit",
    "begin; ENTER; commit; ENTER; insert into open values (1)",
    "begin; ENTER; commit; insert into open values (1)",
    "begin; ENTER; rollback; insert into open values (1); commit",
    "begin; ENTER; commit and chain; insert into open values (1); commit",
    "begin; savepoint s; ENTER; rollback to s; insert into open values (1); commit",
    "begin; savepoint s; ENTER; insert into open values (1)",
    "begin; /* */ commit; ENTER; insert into open values (1)",
    "begin; --\ncommit; ENTER; insert into open values (1)",
    "/* begin; */ ENTER; insert into open values (1)",
    "--\nbegin; commit; ENTER; insert into open values (1)",
    "select 'begin;'; ENTER; insert into open values (1)",
    "select 1 as begin; ENTER; insert into open values (1)",
];

async fn session(world: &World) -> (Session, Token) {
    let token = world.grant("f").await;
    let mut session = Session::open(&world.postgres.as_ref().unwrap().url()).await;
    session.run(TABLES).await.unwrap();
    shows(&mut session, &token).await;
    let prepared = format!("prepare entering as {ENTER}");
    session.run(&prepared).await.unwrap();
    (session, token)
}

/// It enters with this token from now on.
async fn shows(session: &mut Session, token: &Token) {
    let told = format!("set test.token = '{}'", token.expose());
    session.run(&told).await.unwrap();
}

fn message(text: &str) -> String {
    text.replace("ENTER", ENTER)
}

#[tokio::test]
async fn what_is_sent_with_its_begin_is_guarded() {
    let world = World::postgres().await;
    let (mut session, _) = session(&world).await;
    for text in HELD {
        for level in LEVELS {
            let set = format!("set default_transaction_isolation = '{level}'; truncate open");
            session.run(&set).await.unwrap();
            let done = session.run(&message(text)).await;
            assert!(done.is_ok(), "{text} at {level}: {done:?}");
            assert!(
                session.run("select from guarded").await > Ok(0),
                "{text} at {level}"
            );
            let delete = message("begin; ENTER; delete from guarded; commit");
            session.run(&delete).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_may_end_half_way_is_refused() {
    let world = World::postgres().await;
    let (mut session, _) = session(&world).await;
    for text in NOT_HELD {
        for level in LEVELS {
            let set = format!("set default_transaction_isolation = '{level}'");
            session.run(&set).await.unwrap();
            let done = session.run(&message(text)).await;
            assert_eq!(done, Err("ZF006".into()), "{text} at {level}");
            session.run("rollback").await.unwrap();
            assert_eq!(session.run("select from open").await, Ok(0), "{text} at {level}");
        }
    }
}

/// The newer holder's seal is under way: nothing of the message stays.
#[tokio::test]
async fn a_stale_message_waits_and_is_refused() {
    let world = World::postgres().await;
    let (pool, url) = (world.pool(), world.postgres.as_ref().unwrap().url());
    let (mut first, mut token) = session(&world).await;
    for (level, expected) in LEVELS.iter().zip(["ZF001", "40001", "40001"]) {
        let mut second = Session::open(&url).await;
        second.begin("read committed").await;
        let newer = next(&token);
        second.seal("f", &newer).await.unwrap();
        let text = message(&format!(
            "begin isolation level {level}; insert into open values (1); ENTER; insert into open values (2); commit"
        ));
        let pid = first.pid;
        let sent = tokio::spawn(async move {
            let outcome = first.run(&text).await;
            (first, outcome)
        });
        waits_for_lock(&pool, pid).await;
        second.run("commit").await.unwrap();
        let outcome;
        (first, outcome) = sent.await.unwrap();
        assert_eq!(outcome, Err(expected.to_owned()), "{level}");
        first.run("rollback").await.unwrap();
        assert_eq!(first.run("select from open").await, Ok(0), "{level}");
        token = newer;
        shows(&mut first, &token).await;
    }
}

/// A message that leaves its transaction open has the fence until that ends.
#[tokio::test]
async fn the_newer_holder_waits_for_the_end_of_the_transaction() {
    let world = World::postgres().await;
    let (pool, url) = (world.pool(), world.postgres.as_ref().unwrap().url());
    let (mut first, mut token) = session(&world).await;
    for level in LEVELS {
        let text = format!("begin isolation level {level}; ENTER; insert into open values (1)");
        first.run(&message(&text)).await.unwrap();
        let mut second = Session::open(&url).await;
        let pid = second.pid;
        let newer = next(&token);
        // Not by `seal`, which ends who is in its way.
        let lock = "select pg_advisory_xact_lock(hashtextextended('f', 7411))";
        let waiting = tokio::spawn(async move { second.run(lock).await });
        waits_for_lock(&pool, pid).await;
        first.run("commit").await.unwrap();
        assert_eq!(waiting.await.unwrap(), Ok(1));
        Session::open(&url).await.seal("f", &newer).await.unwrap();
        token = newer;
        shows(&mut first, &token).await;
    }
}

/// As it is typed.
#[tokio::test]
async fn by_psql() {
    let world = World::postgres().await;
    let (_session, token) = session(&world).await;
    let url = world.postgres.as_ref().unwrap().url();
    let psql = |text: &str| {
        let output = crate::support::postgres::command("psql")
            .args(["-X", "-v", "ON_ERROR_STOP=1", "-c", &message(text), &url])
            .env("PGOPTIONS", format!("-c test.token={}", token.expose()))
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let (done, error) = psql("begin; ENTER; insert into guarded values (1); commit");
    assert!(done, "{error}");
    let (done, error) = psql("ENTER; insert into guarded values (1)");
    assert!(!done && error.contains("Send begin first"), "{error}");
    let (done, error) = psql("begin; savepoint s; ENTER; insert into guarded values (1); commit");
    assert!(!done && error.contains("Send begin by itself"), "{error}");
}
