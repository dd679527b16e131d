//! What each role may do, and what it may not.

use fencegate::{Locks, connect};

use super::session::Session;
use crate::world::World;

const ROLES: [&str; 4] = [
    "fencegate_writer",
    "fencegate_sealer",
    "fencegate_reader",
    "nobody",
];

/// A database whose owner may do everything to it, and to nothing else; a table that is protected, and that everyone
/// may write to; a user in each role.
async fn world() -> (World, Session) {
    let world = World::postgres().await;
    let mut admin = Session::open(&world.postgres.as_ref().unwrap().url()).await;
    admin
        .run(
            "create table t (n int); select fencegate.protect('t', fence => 'f'); grant all on t to public;
             revoke trigger on t from public; create role nobody;",
        )
        .await
        .unwrap();
    for role in ROLES {
        let user = format!("create role {role}_user login in role {role}; grant {role} to {role}_user");
        admin.run(&user).await.unwrap();
    }
    (world, admin)
}

async fn as_role(world: &World, role: &str) -> Session {
    let url = world.postgres.as_ref().unwrap().url();
    Session::open(&url.replace("postgres@", &format!("{role}_user@"))).await
}

#[tokio::test]
async fn what_nobody_may() {
    let (world, mut admin) = world().await;
    let token = world.grant("f").await;
    let forbidden = [
        "select holder from fencegate.fence",
        "update fencegate.fence set sequence = 100",
        "insert into fencegate.fence (name, epoch, sequence, holder) values ('x', 1, 1, sha256(''))",
        "delete from fencegate.fence",
        "truncate fencegate.fence",
        "begin; lock fencegate.fence",
        "select from fencegate.fence for share",
        "update fencegate.epoch set number = 2",
        "select value from fencegate.record",
        "delete from fencegate.rejection",
        "insert into fencegate.rejection (fence, reason, source, who) values ('f', '', 'guard', '')",
        "select fencegate.seal('f', '1-100-9f86d081884c7d659a2feaa0c55ad015')",
        "select fencegate.seal('f', 1, 100, sha256(''))",
        "select fencegate.retire('f', 1, 1, sha256(''))",
        "select fencegate.close_fence('f', 1, 100, true, '1s')",
        "select fencegate.prune_rejections(0)",
        "select fencegate.grant_rights()",
        "select fencegate.verify('f', 0, false)",
        "create or replace function fencegate.guard_statement() returns trigger language plpgsql as 'begin end'",
        "create table fencegate.mine ()",
        "drop schema fencegate cascade",
        "drop trigger fencegate_statement on t",
        "alter table t disable trigger all",
        "alter table t disable trigger fencegate_statement",
        "select fencegate.unprotect('t')",
        "select fencegate.protect('t', fence => 'mine')",
        "create trigger mine before insert on t for each row execute function fencegate.guard_row('fence', 'g', '')",
        "set session_replication_role = replica",
        "insert into t values (1)",
        "set fencegate.entered = E'\\nf\\t1-1-9f86d081884c7d659a2feaa0c55ad015'; insert into t values (1)",
        "truncate t",
    ];
    for role in ROLES {
        let mut session = as_role(&world, role).await;
        for sql in forbidden {
            // A sealer seals, and reads marks in full.
            let sealers = [
                "select holder",
                "select fencegate.seal",
                "select fencegate.retire",
                "select from fencegate",
            ];
            if role == "fencegate_sealer" && sealers.iter().any(|start| sql.starts_with(start)) {
                continue;
            }
            let answer = session.run(sql).await.expect_err(sql);
            let _ = session.run("rollback").await;
            let code = match sql {
                _ if sql.starts_with("set fencegate") => "ZF002 ZF001",
                _ if sql.ends_with("into t values (1)") || sql == "truncate t" => "ZF004",
                _ => "42501",
            };
            assert!(code.contains(&answer), "{role}: {sql}: {answer}");
        }
    }
    // Nothing of it had an effect.
    let mark = admin
        .text("select epoch || '-' || sequence from fencegate.fence")
        .await;
    assert_eq!(mark, token.to_string());
    assert_eq!(admin.run("select from t").await, Ok(0));
}

#[tokio::test]
async fn what_each_may() {
    let (world, _admin) = world().await;
    let token = world.grant("f").await;
    let mut writer = as_role(&world, "fencegate_writer").await;
    for level in super::session::LEVELS {
        writer.begin(level).await;
        writer.enter("f", &token).await.unwrap();
        writer.run("insert into t values (1); commit").await.unwrap();
    }
    // An owner of a table protects it with no more than that.
    let url = world.postgres.as_ref().unwrap().url();
    let mut admin = Session::open(&url).await;
    admin
        .run("grant create on schema public to fencegate_writer_user")
        .await
        .unwrap();
    writer
        .run("create table mine (fence text); select fencegate.protect('mine', fence_column => 'fence')")
        .await
        .unwrap();
    assert_eq!(
        writer.run("insert into mine values ('f')").await,
        Err("ZF004".into())
    );
    writer.run("select fencegate.unprotect('mine')").await.unwrap();

    let mut reader = as_role(&world, "fencegate_reader").await;
    reader
        .run("select name, epoch, sequence, sealed_at from fencegate.fence")
        .await
        .unwrap();
    reader.run("select * from fencegate.rejection").await.unwrap();

    // A program that may seal and enter has leases, with its locks in etcd or here.
    admin
        .run("grant fencegate_sealer to fencegate_writer_user")
        .await
        .unwrap();
    let user = url.replace("postgres@", "fencegate_writer_user@");
    let locks: Locks = connect(&user, None).await.unwrap();
    world
        .locks
        .release(&crate::world::name("f"), &token)
        .await
        .unwrap();
    locks.store().check().await.unwrap();
    let lease = locks
        .acquire("f", std::time::Duration::from_secs(20))
        .await
        .unwrap();
    let pool = sqlx::PgPool::connect(&user).await.unwrap();
    let mut transaction = lease.begin(&pool).await.unwrap();
    sqlx::query("insert into t values (1)")
        .execute(&mut *transaction)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    lease.release().await.unwrap();
}

/// A function that runs with its owner's rights must not look anything up where its caller says.
#[tokio::test]
async fn functions_with_rights_have_a_fixed_search_path() {
    let (_world, mut admin) = world().await;
    let found = admin
        .text(
            "select coalesce(string_agg(oid::regprocedure::text, ' '), '') from pg_proc
              where pronamespace = 'fencegate'::regnamespace and prosecdef
                and not coalesce(proconfig @> array['search_path=pg_catalog, pg_temp'], false)",
        )
        .await;
    assert_eq!(found, "");
    let open = admin
        .text(
            "select coalesce(string_agg(oid::regprocedure::text, ' '), '') from pg_proc
              where pronamespace = 'fencegate'::regnamespace and prosecdef and prorettype <> 'trigger'::regtype
                and has_function_privilege('nobody', oid, 'execute')",
        )
        .await;
    assert_eq!(open, "");
}

/// Two databases of one cluster are migrated at once, and one by somebody who may not make roles.
#[tokio::test]
async fn roles_are_the_clusters() {
    let server = crate::support::Postgres::start().await;
    let mut admin = Session::open(&server.url()).await;
    let urls = [server.create_database().await, server.create_database().await];
    let migrate = async |url: &str| {
        let locks = connect(url, None).await.unwrap();
        locks.store().migrate().await.map(|()| locks)
    };
    // By somebody who may not.
    let third = server.create_database().await;
    let database = third.rsplit('/').next().unwrap();
    admin
        .run(&format!(
            "create role owner login; alter database {database} owner to owner"
        ))
        .await
        .unwrap();
    let owner = third.replace("postgres@", "owner@");
    migrate(&owner).await.unwrap();
    let mut session = Session::open(&owner).await;
    assert_eq!(
        session
            .run("select from pg_roles where rolname like 'fencegate%'")
            .await,
        Ok(0)
    );

    let (first, second) = tokio::join!(migrate(&urls[0]), migrate(&urls[1]));
    first.unwrap();
    second.unwrap();
    assert_eq!(
        session
            .run("select from pg_roles where rolname like 'fencegate%'")
            .await,
        Ok(3)
    );
    for url in &urls {
        let granted = "select has_function_privilege('fencegate_writer', 'fencegate.enter(text, text)', 'execute')::text";
        assert_eq!(Session::open(url).await.text(granted).await, "true");
    }
    session.run("select fencegate.grant_rights()").await.unwrap();
    let granted = "select has_function_privilege('fencegate_sealer', 'fencegate.seal(text, text, interval)', 'execute')::text";
    assert_eq!(session.text(granted).await, "true");
}

/// Triggers run with the rights of fencegate's owner, who is often a superuser, and everybody may put them on tables of their own.
#[tokio::test]
async fn casts_of_ones_own_run_with_ones_own_rights() {
    let (world, mut admin) = world().await;
    admin
        .run("create schema open; grant all on schema open to public")
        .await
        .unwrap();
    for (role, target) in ROLES.iter().flat_map(|role| [(role, "json"), (role, "text")]) {
        let mut session = as_role(&world, role).await;
        let attack = format!(
            "begin; create type open.e as enum ('f');
            create function open.evil(e open.e) returns {target} language plpgsql as
            $$ begin execute 'alter role {role}_user superuser'; return '1'; end $$;
            create cast (open.e as {target}) with function open.evil(open.e) as implicit;
            create temp table mine (fence open.e, f text);
            create trigger guard after insert or update or delete on mine for each row
            execute function fencegate.guard_row('fence_column', '{{column}}', 'report');
            insert into mine values ('f', 'f'); update mine set f = 'g'; delete from mine; rollback"
        );
        for column in ["fence", "f", "none"] {
            let _ = session.run(&attack.replace("{column}", column)).await;
            let _ = session.run("rollback").await;
        }
        // Committed, too, where nothing was refused.
        let _ = session
            .run(&attack.replace("{column}", "fence").replace("rollback", "commit"))
            .await;
        let _ = session.run("rollback; drop type open.e cascade").await;
    }
    assert_eq!(
        admin
            .run("select from pg_roles where rolsuper and rolname like 'fencegate%'")
            .await,
        Ok(0)
    );
    assert_eq!(
        admin
            .run("select from pg_roles where rolsuper and rolname = 'nobody_user'")
            .await,
        Ok(0)
    );
}

/// In SQL, holders are bytes: what is hashed to stand for a client is not to pass for one.
#[tokio::test]
async fn what_stands_for_a_client_is_no_holder() {
    let (world, mut admin) = world().await;
    let client = "fencegate: the foreign tokens of the client anonymous";
    admin
        .run(&format!(
            "select fencegate.seal('foreign', 1, 1042, sha256('{client}'))"
        ))
        .await
        .unwrap();
    let mut writer = as_role(&world, "fencegate_writer").await;
    for call in ["fencegate.enter_as", "fencegate.try_enter"] {
        for holder in [format!("'{client}'::bytea"), "''".into(), "null".into()] {
            let enter = format!("begin; select {call}('foreign', 1, 1042, {holder})");
            assert_eq!(writer.run(&enter).await, Err("ZF005".into()), "{enter}");
            writer.run("rollback").await.unwrap();
        }
    }
}

/// Whoever owns the schema may replace what runs with the rights of whoever migrates.
#[tokio::test]
async fn a_schema_of_somebody_else_is_not_migrated() {
    let server = crate::support::Postgres::start().await;
    let mut admin = Session::open(&server.url()).await;
    admin
        .run("create role stranger; create schema fencegate authorization stranger")
        .await
        .unwrap();
    let locks = connect(&server.url(), None).await.unwrap();
    let error = locks.migrate().await.unwrap_err().to_string();
    assert!(error.contains("belongs to the role stranger"), "{error}");
    admin
        .run("alter schema fencegate owner to postgres")
        .await
        .unwrap();
    locks.migrate().await.unwrap();
    locks.migrate().await.unwrap();
}
