//! Traps that are no race: savepoints, triggers that do not fire, settings, and durability.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use fencegate::{Sequence, Token, connect, guard};
use sqlx::Executor;

use super::session::{LEVELS, Session, waits_for_lock};
use crate::{
    support::{Postgres, eventually, eventually::PATIENCE},
    world::{World, name, next},
};

async fn table(session: &mut Session) {
    session
        .run(
            "create table if not exists open (id int);
             create table if not exists guarded (id int);
             truncate open; truncate guarded",
        )
        .await
        .unwrap();
}

/// Ways in which a savepoint that is rolled back takes the fence with it.
const LOST: [&str; 2] = [
    "savepoint s; select fencegate.enter(current_setting('test.fence'), current_setting('test.token'));
     rollback to s",
    "do $$ begin
        perform fencegate.enter(current_setting('test.fence'), current_setting('test.token'));
        raise 'no';
     exception when others then null; end $$",
];

#[tokio::test]
async fn a_savepoint_that_is_rolled_back() {
    let world = World::postgres().await;
    let url = world.postgres.as_ref().unwrap().url();
    table(&mut Session::open(&url).await).await;
    for (i, level) in LEVELS.iter().enumerate() {
        for (j, lost) in LOST.iter().enumerate() {
            let fence = format!("f{i}{j}");
            let token = world.grant(&fence).await;
            let (mut first, mut second) = (Session::open(&url).await, Session::open(&url).await);
            second
                .run(&format!(
                    "select fencegate.protect('guarded', fence => '{fence}')"
                ))
                .await
                .unwrap();
            let told = format!(
                "set test.fence = '{fence}'; set test.token = '{}'",
                token.expose()
            );
            first.run(&told).await.unwrap();

            // On a table that nothing protects, the stale write lands.
            first.begin(level).await;
            first.run(lost).await.unwrap();
            let newer = next(&token);
            second.seal(&fence, &newer).await.unwrap();
            first.run("insert into open values (1); commit").await.unwrap();

            // A protected one notices, also when the note of having entered is written again by hand.
            for (replay, refused) in [("", "ZF004"), ("replayed", ["ZF001", "40001", "40001"][i])] {
                let token = world_token(&world, &fence).await;
                let told = format!("set test.token = '{}'", token.expose());
                first.run(&told).await.unwrap();
                first.begin(level).await;
                first.run(lost).await.unwrap();
                second.seal(&fence, &next(&token)).await.unwrap();
                if !replay.is_empty() {
                    let note = format!(
                        "select set_config('fencegate.entered', E'\\n{fence}\\t' || current_setting('test.token'), true)"
                    );
                    first.run(&note).await.unwrap();
                }
                let written = first.run("insert into guarded values (1)").await;
                assert_eq!(written, Err(refused.into()), "{level} {lost} {replay}");
                first.run("rollback").await.unwrap();
            }
        }
    }
    let mut session = Session::open(&url).await;
    assert_eq!(session.run("select from open").await, Ok(6));
    assert_eq!(session.run("select from guarded").await, Ok(0));
}

/// What is then written to a protected table holds the fence again until its commit: a seal waits for it.
#[tokio::test]
async fn a_write_after_a_savepoint_was_rolled_back_holds_the_fence_again() {
    let world = World::postgres().await;
    let (pool, url) = (world.pool(), world.postgres.as_ref().unwrap().url());
    let token = world.grant("f").await;
    let (mut first, mut second) = (Session::open(&url).await, Session::open(&url).await);
    table(&mut second).await;
    let told = format!(
        "select fencegate.protect('guarded', fence => 'f'); set test.token = '{}'",
        token.expose()
    );
    first.run(&told).await.unwrap();
    first.begin("read committed").await;
    first.run("set test.fence = 'f'").await.unwrap();
    first.run(LOST[0]).await.unwrap();
    let note = "select set_config('fencegate.entered', E'\\nf\\t' || current_setting('test.token'), true)";
    first.run(note).await.unwrap();
    first.run("insert into guarded values (1)").await.unwrap();
    let pid = second.pid;
    let seal = format!(
        "select fencegate.seal('f', '{}', grace => '1 minute')",
        next(&token).expose()
    );
    let mut sealing = tokio::spawn(async move { second.run(&seal).await });
    tokio::select! {
        sealed = &mut sealing => panic!("sealed under a write that is not committed: {sealed:?}"),
        () = waits_for_lock(&pool, pid) => {}
    }
    first.run("commit").await.unwrap();
    sealing.await.unwrap().unwrap();
}

/// A token that is the mark now: the one after the mark, sealed.
async fn world_token(world: &World, fence: &str) -> Token {
    let state = world.locks.store().fence(&name(fence)).await.unwrap().unwrap();
    let token = Token {
        epoch: state.mark.epoch,
        sequence: Sequence::new(state.mark.sequence.get() + 1).unwrap(),
        holder: fencegate::Holder::random(),
    };
    world
        .locks
        .store()
        .seal(&name(fence), &token.mark())
        .await
        .unwrap();
    token
}

#[tokio::test]
async fn the_rust_guard_is_not_entered_in_a_savepoint() {
    use sqlx::Connection;
    let world = World::postgres().await;
    let token = world.grant("f").await;
    let pool = world.pool();
    let mut transaction = pool.begin().await.unwrap();
    let mut savepoint = transaction.begin().await.unwrap();
    let entered = guard::enter(&mut savepoint, &name("f"), &token).await;
    assert!(
        matches!(entered, Err(guard::GuardError::InSavepoint)),
        "{entered:?}"
    );
    drop(savepoint);
    guard::enter(&mut transaction, &name("f"), &token).await.unwrap();
    transaction.rollback().await.unwrap();
    let mut connection = pool.acquire().await.unwrap();
    let entered = guard::enter(&mut connection, &name("f"), &token).await;
    assert!(
        matches!(entered, Err(guard::GuardError::NotInTransaction)),
        "{entered:?}"
    );
}

#[tokio::test]
async fn triggers_that_are_told_not_to_fire() {
    let world = World::postgres().await;
    let url = world.postgres.as_ref().unwrap().url();
    let mut session = Session::open(&url).await;
    session
        .run(
            "create table plain (id int);
             create function no() returns trigger language plpgsql as $$ begin raise 'no'; end $$;
             create trigger no before insert or update or delete on plain for each row execute function no();
             create table guarded (id int);
             select fencegate.protect('guarded', fence => 'f')",
        )
        .await
        .unwrap();
    for replica in [true, false] {
        if replica {
            session
                .run("set session_replication_role = replica")
                .await
                .unwrap();
            session.run("insert into plain values (1)").await.unwrap();
        }
        for write in [
            "insert into guarded values (1)",
            "update guarded set id = 2",
            "delete from guarded",
            "truncate guarded",
            "merge into guarded using plain on false when not matched then insert values (1)",
        ] {
            assert_eq!(session.run(write).await, Err("ZF004".into()), "{write}");
        }
        session.run("reset session_replication_role").await.unwrap();
    }
    // The other trigger is not even asked.
    session.run("truncate plain").await.unwrap();
}

/// What `set_config` set for the transaction is an empty text afterwards, which must not read as an entry.
#[tokio::test]
async fn a_setting_after_its_transaction() {
    let world = World::postgres().await;
    let url = world.postgres.as_ref().unwrap().url();
    let token = world.grant("f").await;
    let mut session = Session::open(&url).await;
    session.run("create table guarded (id int)").await.unwrap();
    session
        .run("select fencegate.protect('guarded', fence => 'f')")
        .await
        .unwrap();
    session.begin("read committed").await;
    session.enter("f", &token).await.unwrap();
    assert_eq!(
        session.run("select * from fencegate.current_fences()").await,
        Ok(1)
    );
    session
        .run("insert into guarded values (1); commit")
        .await
        .unwrap();
    assert_eq!(
        session
            .text("select quote_nullable(current_setting('fencegate.entered', true))")
            .await,
        "''"
    );
    assert_eq!(
        session.run("select * from fencegate.current_fences()").await,
        Ok(0)
    );
    assert_eq!(
        session.run("insert into guarded values (1)").await,
        Err("ZF004".into())
    );
}

/// A commit that waits for a synchronous standby and is cancelled is a success, with a warning. So the guard never
/// cancels one, also when nobody waits for it any more.
#[tokio::test]
async fn a_commit_that_waits_for_a_standby_is_not_cancelled() {
    let world = World::postgres().await;
    let (pool, url) = (world.pool(), world.postgres.as_ref().unwrap().url());
    let token = world.grant("f").await;
    let mut admin = Session::open(&url).await;
    admin.run("set synchronous_commit = local").await.unwrap();
    admin.run("create table open (id int)").await.unwrap();
    let mut hasty = Session::open(&url).await;
    require_standby(&mut admin, &url).await;
    let inserted = tokio::spawn(async move { hasty.run("insert into open values (1)").await });
    waits_for_standby(&mut admin).await;
    admin
        .run("select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'")
        .await
        .unwrap();
    assert_eq!(inserted.await.unwrap(), Ok(0), "reported as success");

    let mut transaction = guard::begin(&pool, &name("f"), &token, Default::default())
        .await
        .unwrap();
    transaction.execute("insert into open values (2)").await.unwrap();
    let commit = tokio::spawn(transaction.commit());
    waits_for_standby(&mut admin).await;
    commit.abort();
    assert!(commit.await.unwrap_err().is_cancelled());
    waits_for_standby(&mut admin).await;
    set_standby(&mut admin, "").await;
    eventually(PATIENCE, async || admin.run("select from open").await == Ok(2)).await;
}

/// Commits wait for a standby from now on, and there is none. The setting is shown before the checkpointer has told
/// it to those who commit: only a commit that is seen to wait says so.
pub async fn require_standby(admin: &mut Session, url: &str) {
    set_standby(admin, "nobody").await;
    let mut probe = Session::open(url).await;
    let pid = probe.pid;
    let seen = Arc::new(AtomicBool::new(false));
    let probing = tokio::spawn({
        let seen = seen.clone();
        async move {
            while !seen.load(Relaxed) {
                probe
                    .run("select pg_logical_emit_message(true, '', '')")
                    .await
                    .unwrap();
            }
        }
    });
    waits_for_standby(admin).await;
    seen.store(true, Relaxed);
    admin
        .run(&format!("select pg_cancel_backend({pid})"))
        .await
        .unwrap();
    probing.await.unwrap();
}

pub async fn set_standby(admin: &mut Session, name: &str) {
    let set = format!("alter system set synchronous_standby_names = '{name}'");
    admin.run(&set).await.unwrap();
    admin.run("select pg_reload_conf()").await.unwrap();
    eventually(PATIENCE, async || {
        admin.text("show synchronous_standby_names").await == name
    })
    .await;
}

pub async fn waits_for_standby(admin: &mut Session) {
    let waiting = "select from pg_stat_activity where wait_event = 'SyncRep'";
    eventually(PATIENCE, async || admin.run(waiting).await == Ok(1)).await;
}

/// A server that does not wait for its disk at a commit loses commits in a crash, but no mark and no guarded write.
#[tokio::test]
async fn a_crash_under_asynchronous_commit() {
    let server = Postgres::builder()
        .set("synchronous_commit", "off")
        .set("wal_writer_delay", "10s")
        .start()
        .await;
    let mut world = World::on(server).await;
    let pool = world.pool();
    let token = world.grant("f").await;
    let mut server = world.postgres.take().unwrap();
    pool.execute("create table open (id int)").await.unwrap();
    let newer = next(&token);
    for guarded in [false, true] {
        if guarded {
            let mut transaction = guard::begin(&pool, &name("f"), &newer, Default::default())
                .await
                .unwrap();
            transaction.execute("insert into open values (1)").await.unwrap();
            transaction.commit().await.unwrap();
        } else {
            pool.execute("checkpoint").await.unwrap();
            world.locks.store().seal(&name("f"), &newer.mark()).await.unwrap();
        }
        // Acknowledged, and lost.
        pool.execute("update fencegate.fence set sequence = 1000; insert into open values (2)")
            .await
            .unwrap();
        server.kill9();
        server.restart().await;
        // Connections that are dead.
        while pool.execute("select 1").await.is_err() {}
        let locks = connect(&server.url(), None).await.unwrap();
        let mark = locks.store().fence(&name("f")).await.unwrap().unwrap().mark;
        assert_eq!(mark, newer.mark());
        let mut session = Session::open(&server.url()).await;
        assert_eq!(session.run("select from open").await, Ok(usize::from(guarded)));
    }
}

/// A statement that is a transaction of its own holds nothing afterwards. Seen where the client sends it as text
/// without parameters, as psql does.
#[tokio::test]
async fn autocommit_enters_nothing() {
    let world = World::postgres().await;
    let token = world.grant("f").await;
    let mut session = Session::open(&world.postgres.as_ref().unwrap().url()).await;
    let enter = format!("select fencegate.enter('f', '{}')", token.expose());
    assert_eq!(session.run(&enter).await, Err("ZF006".into()));
    // A block that goes on to write is a transaction.
    session
        .run(&format!(
            "create table guarded (id int); select fencegate.protect('guarded', fence => 'f');
             set test.token = '{}'",
            token.expose()
        ))
        .await
        .unwrap();
    session
        .run(
            "do $$ begin
                perform fencegate.enter('f', current_setting('test.token'));
                insert into guarded values (1);
             end $$",
        )
        .await
        .unwrap();
}
