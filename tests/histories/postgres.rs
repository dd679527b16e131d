//! The store's own history: standbys that are promoted, backups that are restored, copies in other clusters.

use fencegate::{
    GrantError, Locks, StoreError, Token, connect,
    database::DatabaseError,
    store::{Condition, Replication, Transaction},
};

use super::{goes_on, grant, put, rebase, write};
use crate::{
    guard::session::Session,
    support::{
        Etcd, Postgres, eventually,
        eventually::PATIENCE,
        postgres::{command, run},
    },
    world::{etcd_url, name},
};

/// A primary, a standby that follows it, locks in etcd.
struct Pair {
    primary: Postgres,
    standby: Postgres,
    locks: Locks,
    etcd: Etcd,
}

impl Pair {
    async fn start() -> Self {
        let (primary, etcd) = tokio::join!(Postgres::start(), Etcd::builder().quick().start());
        let locks = connect(&primary.url(), Some(&etcd_url(&etcd))).await.unwrap();
        locks.migrate().await.unwrap();
        let Ok(standby) = Postgres::start_on(primary.base_backup(true), Vec::new()).await else {
            panic!("the standby does not start");
        };
        Self {
            primary,
            standby,
            locks,
            etcd,
        }
    }

    /// Waits until the standby has this mark.
    async fn has_arrived(&self, token: &Token) {
        let mut standby = Session::open(&self.standby.url()).await;
        let marks = format!(
            "select count(*)::text from fencegate.fence where sequence = {}",
            token.sequence
        );
        eventually(PATIENCE, async || standby.text(&marks).await == "1").await;
    }

    /// The primary is gone, and the standby stands in for it.
    async fn fail_over(&mut self) -> Locks {
        self.primary.kill9();
        let mut standby = Session::open(&self.standby.url()).await;
        assert_eq!(standby.text("select pg_promote()::text").await, "true");
        connect(&self.standby.url(), Some(&etcd_url(&self.etcd)))
            .await
            .unwrap()
    }
}

fn is_quarantined(error: &StoreError) -> bool {
    let text = error.to_string();
    matches!(error, StoreError::Database(DatabaseError::Quarantined(_)))
        && text.contains("timeline 00000001")
        && text.contains("fencegate rebase --reason")
}

/// On no way whatever does a token write.
async fn nothing_passes(locks: &Locks, url: &str, token: &Token) {
    for condition in [Condition::Always, Condition::Absent] {
        let refused = locks.store().write(write(token, condition)).await.unwrap_err();
        assert!(is_quarantined(&refused), "{refused}");
    }
    let transaction = Transaction::from(write(token, Condition::Always));
    let refused = locks.store().transact(&transaction, None).await.unwrap_err();
    assert!(is_quarantined(&refused), "{refused}");
    let mut session = Session::open(url).await;
    for level in crate::guard::session::LEVELS {
        session.begin(level).await;
        assert_eq!(session.enter("f", token).await, Err("ZF008".into()), "{level}");
        session.run("rollback").await.unwrap();
    }
    // A setting that is written by hand is no way round.
    let forged = format!(
        "begin; select set_config('fencegate.entered', E'\\nf\\t{}', true); insert into guarded values (1)",
        token.expose()
    );
    let refused = session.run(&forged).await.unwrap_err();
    // Whichever is found first: the history, or that the mark is another one.
    assert!(["ZF008", "ZF001", "ZF003"].contains(&&*refused), "{refused}");
    session.run("rollback").await.unwrap();
    assert_eq!(session.seal("f", token).await, Err("ZF008".into()));
    match grant(locks).await {
        Err(GrantError::Store(error)) if is_quarantined(&error) => {}
        other => panic!("{other:?}"),
    }
}

async fn guard_a_table(url: &str) {
    let mut session = Session::open(url).await;
    let table = "create table guarded (n int); select fencegate.protect('guarded', fence => 'f')";
    session.run(table).await.unwrap();
}

#[tokio::test]
async fn a_standby_that_lacked_the_last_marks() {
    let mut pair = Pair::start().await;
    guard_a_table(&pair.primary.url()).await;
    let first = grant(&pair.locks).await.unwrap();
    put(&pair.locks, &first.token).await.unwrap();
    pair.has_arrived(&first.token).await;
    let mut old_session = Session::open(&pair.standby.url()).await;

    // From here on the standby hears nothing.
    let cut_off = [
        "alter system set primary_conninfo = ''",
        "select pg_reload_conf()",
    ];
    for sql in cut_off {
        old_session.run(sql).await.unwrap();
    }
    let receivers = "select count(*)::text from pg_stat_wal_receiver";
    eventually(PATIENCE, async || old_session.text(receivers).await == "0").await;
    pair.locks.release(&first.name, &first.token).await.unwrap();
    let second = grant(&pair.locks).await.unwrap();
    put(&pair.locks, &second.token).await.unwrap();

    let locks = pair.fail_over().await;
    let fence = locks.store().fence(&name("f")).await.unwrap().unwrap();
    assert_eq!(
        fence.mark,
        first.token.mark(),
        "the last marks arrived, so this shows nothing"
    );
    for token in [&first.token, &second.token] {
        nothing_passes(&locks, &pair.standby.url(), token).await;
    }
    // Nor in a session from before the promotion.
    old_session.run("begin").await.unwrap();
    assert_eq!(old_session.enter("f", &first.token).await, Err("ZF008".into()));
    old_session.run("rollback").await.unwrap();

    let before = locks.store().epoch_as_stored().await.unwrap().epoch;
    assert!(locks.store().quarantine().await.unwrap().is_some());
    rebase(&locks).await;
    assert!(locks.store().quarantine().await.unwrap().is_none());
    let after = locks.store().epoch().await.unwrap().epoch;
    // An epoch that the lost history may have reached is not given again.
    assert!(after.get() > before.get() + 1_000_000_000_000, "{after}");
    // Its lock may last in etcd.
    let _ = locks.release(&second.name, &second.token).await;
    goes_on(&locks, &[&first.token, &second.token]).await;
}

#[tokio::test]
async fn a_standby_that_is_declared_to_have_every_commit() {
    let mut pair = Pair::start().await;
    let mut primary = Session::open(&pair.primary.url()).await;
    for sql in [
        "alter system set synchronous_standby_names = '*'",
        "select pg_reload_conf()",
    ] {
        primary.run(sql).await.unwrap();
    }
    let synchronous = "select count(*)::text from pg_stat_replication where sync_state = 'sync'";
    eventually(PATIENCE, async || primary.text(synchronous).await == "1").await;
    let declared = pair
        .locks
        .store()
        .declare(Replication::Synchronous, "it is", "a tester");
    declared.await.unwrap();
    let held = grant(&pair.locks).await.unwrap();
    put(&pair.locks, &held.token).await.unwrap();

    let locks = pair.fail_over().await;
    let mut session = Session::open(&pair.standby.url()).await;
    session.run("begin").await.unwrap();
    session.enter("f", &held.token).await.unwrap();
    session.run("commit").await.unwrap();
    put(&locks, &held.token).await.unwrap();
    let log = locks.store().audit(10).await.unwrap();
    let actions: Vec<_> = log.iter().map(|line| &*line.action).collect();
    assert_eq!(actions, ["accept", "declare"], "{log:?}");
    assert!(log[0].became.contains("timeline 00000002"), "{log:?}");
    // Taken back: what was accepted stays so.
    let declared = locks.store().declare(Replication::Asynchronous, "", "a tester");
    declared.await.unwrap();
    put(&locks, &held.token).await.unwrap();
    locks.release(&held.name, &held.token).await.unwrap();
    grant(&locks).await.unwrap();
}

/// A server on the data of this folder.
async fn serve(folder: tempfile::TempDir, settings: &[(&str, &str)]) -> Postgres {
    let settings = settings
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()));
    match Postgres::start_on(folder, settings.collect()).await {
        Ok(server) => server,
        Err(error) => panic!("{}", error.text),
    }
}

#[tokio::test]
async fn a_base_backup_that_is_recovered() {
    let (mut server, etcd) = tokio::join!(Postgres::start(), Etcd::builder().quick().start());
    let locks = connect(&server.url(), Some(&etcd_url(&etcd))).await.unwrap();
    locks.migrate().await.unwrap();
    guard_a_table(&server.url()).await;
    let first = grant(&locks).await.unwrap();
    let backup = server.base_backup(false);
    locks.release(&first.name, &first.token).await.unwrap();
    let second = grant(&locks).await.unwrap();
    put(&locks, &second.token).await.unwrap();
    server.kill9();

    run(command("touch").arg(backup.path().join("data/recovery.signal")));
    let restored = serve(backup, &[("restore_command", "false")]).await;
    let mut session = Session::open(&restored.url()).await;
    eventually(PATIENCE, async || {
        session.text("select pg_is_in_recovery()::text").await == "false"
    })
    .await;
    let locks = connect(&restored.url(), Some(&etcd_url(&etcd))).await.unwrap();
    let fence = locks.store().fence(&name("f")).await.unwrap().unwrap();
    assert_eq!(fence.mark, first.token.mark());
    nothing_passes(&locks, &restored.url(), &first.token).await;
    rebase(&locks).await;
    let _ = locks.release(&second.name, &second.token).await;
    goes_on(&locks, &[&first.token, &second.token]).await;
}

#[tokio::test]
async fn a_dump_in_another_cluster() {
    let (server, other) = tokio::join!(Postgres::start(), Postgres::start());
    let locks = connect(&server.url(), None).await.unwrap();
    locks.migrate().await.unwrap();
    let first = grant(&locks).await.unwrap();
    let folder = crate::support::folder("dump");
    let dump = folder.path().join("dump.sql");
    std::fs::write(&dump, run(command("pg_dump").arg(server.url()))).unwrap();
    let url = other.create_database().await;
    let mut session = Session::open(&url).await;
    for role in ["writer", "sealer", "reader"] {
        let role = format!("create role fencegate_{role}");
        session.run(&role).await.unwrap();
    }
    run(command("psql")
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", &url])
        .stdin(std::fs::File::open(&dump).unwrap()));
    let locks = connect(&url, None).await.unwrap();
    // The tests' servers are copies of one: their clusters have the same name, so it is another by hand.
    let elsewhere =
        "update fencegate.history set system_identifier = system_identifier + 1, started_at = now()";
    session.run(elsewhere).await.unwrap();
    let refused = put(&locks, &first.token).await.unwrap_err();
    assert!(
        refused.to_string().contains("copied into another cluster"),
        "{refused}"
    );
    let _ = locks.release(&name("f"), &first.token).await;
    // Without being asked.
    let automatic = locks.clone().with_auto_rebase("a gateway");
    let granted = grant(&automatic).await.unwrap();
    locks.release(&granted.name, &granted.token).await.unwrap();
    let log = locks.store().audit(2).await.unwrap();
    assert_eq!((log.len(), &*log[0].who), (1, "a gateway"), "{log:?}");
    assert!(log[0].reason.contains("quarantined"), "{log:?}");
    goes_on(&locks, &[&first.token]).await;
}

#[tokio::test]
async fn another_start_of_the_same_server_is_no_other_history() {
    let mut server = Postgres::start().await;
    let locks = connect(&server.url(), None).await.unwrap();
    locks.migrate().await.unwrap();
    let held = grant(&locks).await.unwrap();
    server.restart().await;
    let locks = connect(&server.url(), None).await.unwrap();
    put(&locks, &held.token).await.unwrap();
    let mut session = Session::open(&server.url()).await;
    let is_here = "select fencegate.is_here(started_at, timeline)::text from fencegate.history";
    assert_eq!(session.text(is_here).await, "true", "the row has not caught up");
    locks.release(&held.name, &held.token).await.unwrap();
}
