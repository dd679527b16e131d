//! Protected tables: every way to write to one.

use fencegate::Token;

use super::session::{LEVELS, Session};
use crate::{support::Postgres, world::World};

struct Table {
    world: World,
    session: Session,
    f: Token,
    g: Token,
}

/// A server with fences `f` and `g`, and these tables.
async fn with(sql: &str) -> Table {
    let world = World::postgres().await;
    let (f, g) = (world.grant("f").await, world.grant("g").await);
    let mut session = Session::open(&world.postgres.as_ref().unwrap().url()).await;
    session.run(sql).await.unwrap();
    Table { world, session, f, g }
}

impl Table {
    /// Refused without the fence; with it, not.
    async fn needs_f(&mut self, write: &str) {
        assert_eq!(self.session.run(write).await, Err("ZF004".into()), "{write}");
        for level in LEVELS {
            assert_eq!(self.under_f(level, write).await, Ok(()), "{write} at {level}");
        }
    }

    async fn under_f(&mut self, level: &str, write: &str) -> Result<(), String> {
        let f = self.f.clone();
        self.session.begin(level).await;
        self.session.enter("f", &f).await.unwrap();
        let written = self.session.run(write).await.map(drop);
        self.session.run("rollback").await.unwrap();
        written
    }
}

#[tokio::test]
async fn one_fence_for_a_table() {
    let mut table = with(
        "create table t (id int primary key, n int); insert into t values (1, 1), (2, 2);
        create table u (id int); select fencegate.protect('t', fence => 'f')",
    )
    .await;
    for write in [
        "insert into t values (3, 3)",
        "insert into t values (1, 3) on conflict do nothing",
        "insert into t values (1, 3) on conflict (id) do update set n = 3",
        "update t set n = 3",
        "update t set n = 3 where false",
        "delete from t",
        "truncate t",
        "with w as (delete from t returning 1) select * from w",
        "merge into t using (values (1), (9)) v (id) on t.id = v.id
         when matched then update set n = 5 when not matched then insert values (9, 9)",
        "copy t from program 'seq 10 20 | sed s/$/,1/' with (format csv)",
        "do $$ begin update t set n = 4; end $$",
    ] {
        table.needs_f(write).await;
    }
    // Another fence is of no use, nor is a stale token that the session says it has entered.
    let g = table.g.clone();
    table.session.begin("read committed").await;
    table.session.enter("g", &g).await.unwrap();
    assert_eq!(table.session.run("update t set n = 0").await, Err("ZF004".into()));
    table.session.run("rollback").await.unwrap();
    table
        .session
        .run("select fencegate.unprotect('t'); update t set n = 0")
        .await
        .unwrap();
}

/// A session can write what it likes into the setting.
#[tokio::test]
async fn a_forged_entry_does_not_pass() {
    let mut table = with("create table t (n int); select fencegate.protect('t', fence => 'f')").await;
    let (holder, number) = ("0".repeat(32), table.f.to_string());
    let higher = format!("1-{}-{holder}", table.f.sequence.get() + 1);
    for (note, refused) in [
        ("".to_owned(), "ZF004"),
        (format!("\\nf\\t{number}-{holder}"), "ZF002"),
        (format!("\\nf\\t{higher}"), "ZF003"),
        (format!("\\nf\\t1-0-{holder}"), "ZF005"),
        ("\\nf\\tyes".to_owned(), "ZF005"),
        ("\\nf\\t".to_owned(), "ZF005"),
        ("\\nf".to_owned(), "ZF004"),
        (format!("\\ng\\t{}", table.f.expose()), "ZF004"),
        (format!("\\nff\\t{}", table.f.expose()), "ZF004"),
    ] {
        table
            .session
            .run(&format!("set fencegate.entered = E'{note}'"))
            .await
            .unwrap();
        let written = table.session.run("insert into t values (1)").await;
        assert_eq!(written, Err(refused.into()), "{note}");
    }
    // Whoever knows the token is its holder.
    let note = format!("set fencegate.entered = E'\\nf\\t{}'", table.f.expose());
    table.session.run(&note).await.unwrap();
    table.session.run("insert into t values (1)").await.unwrap();
}

#[tokio::test]
async fn a_fence_for_each_row() {
    let mut table = with(
        "create table t (id int primary key, fence text, n int);
        insert into t values (1, 'f', 1), (2, 'g', 1), (3, null, 1);
        select fencegate.protect('t', fence_column => 'fence')",
    )
    .await;
    for write in [
        "insert into t values (4, 'f', 1)",
        "update t set n = 2 where id = 1",
        "delete from t where id = 1",
        "insert into t values (1, 'f', 3) on conflict (id) do update set n = 3",
        "copy t from program 'seq 10 20 | sed s/$/,f,1/' with (format csv)",
    ] {
        table.needs_f(write).await;
    }
    for write in [
        "update t set n = 2",
        "update t set n = 2 where id = 2",
        "update t set fence = 'g' where id = 1",
        "update t set fence = 'f' where id = 2",
        "update t set fence = null where id = 1",
        "update t set n = 2 where id = 3",
        "insert into t values (4, 'f', 1), (5, 'g', 1)",
        "insert into t values (2, 'f', 3) on conflict (id) do update set n = 3",
        "delete from t where id = 2",
        "merge into t using (values (2)) v (id) on t.id = v.id when matched then delete",
    ] {
        assert_eq!(
            table.under_f("read committed", write).await,
            Err("ZF004".into()),
            "{write}"
        );
    }
    assert_eq!(
        table.under_f("read committed", "truncate t").await,
        Err("ZF007".into())
    );
    // With both fences a row moves. A trigger that changes the row before it is written deceives nobody.
    let (f, g) = (table.f.clone(), table.g.clone());
    table.session.begin("read committed").await;
    table.session.enter("f", &f).await.unwrap();
    table.session.enter("g", &g).await.unwrap();
    table
        .session
        .run("update t set fence = 'g' where id = 1; commit")
        .await
        .unwrap();
    table
        .session
        .run(
            "create function move() returns trigger language plpgsql as $$ begin new.fence = 'g'; return new; end $$;
             create trigger zzz before insert on t for each row execute function move()",
        )
        .await
        .unwrap();
    assert_eq!(
        table
            .under_f("read committed", "insert into t values (4, 'f', 1)")
            .await,
        Err("ZF004".into())
    );
}

#[tokio::test]
async fn partitions_now_and_later() {
    for by in ["fence => 'f'", "fence_column => 'fence'"] {
        let mut table = with(&format!(
            "create table t (id int, fence text default 'f') partition by range (id);
             create table t1 partition of t for values from (0) to (10);
             select fencegate.protect('t', {by});
             create table t2 partition of t for values from (10) to (20);
             create table t3 (fence text default 'f', id int);
             alter table t attach partition t3 for values from (20) to (30)"
        ))
        .await;
        let f = table.f.clone();
        table.session.begin("read committed").await;
        table.session.enter("f", &f).await.unwrap();
        table
            .session
            .run("insert into t values (1), (11), (21); commit")
            .await
            .unwrap();
        for write in [
            "insert into t values (2)",
            "insert into t1 values (2)",
            "insert into t2 values (12)",
            "insert into t3 (id) values (22)",
            "update t set id = id + 10 where id < 20",
            "update t2 set fence = fence",
            "delete from t3",
            "copy t from program 'seq 1 5 | sed s/$/,f/' with (format csv)",
        ] {
            table.needs_f(write).await;
            table
                .session
                .run("set session_replication_role = replica")
                .await
                .unwrap();
            assert_eq!(table.session.run(write).await, Err("ZF004".into()), "{write}");
            table.session.run("reset session_replication_role").await.unwrap();
        }
        for whole in ["truncate t", "truncate t1"] {
            let code = if by.contains("column") { "ZF007" } else { "ZF004" };
            assert_eq!(table.session.run(whole).await, Err(code.into()), "{whole}");
        }
        // Partitions of later: a TRUNCATE of one of them alone, once it was protected again.
        table
            .session
            .run(&format!("select fencegate.protect('t', {by})"))
            .await
            .unwrap();
        assert!(
            table
                .session
                .run("truncate t2")
                .await
                .unwrap_err()
                .starts_with("ZF")
        );
        table
            .session
            .run("select fencegate.unprotect('t'); truncate t")
            .await
            .unwrap();
        assert_eq!(table.session.run("select from pg_trigger").await, Ok(0));
    }
}

#[tokio::test]
async fn tables_that_inherit() {
    let mut table = with(
        "create table t (id int, fence text default 'f'); create table c () inherits (t);
        create table d () inherits (c); insert into d values (1);
        select fencegate.protect('t', fence_column => 'fence')",
    )
    .await;
    for write in [
        "insert into c values (2)",
        "update t set id = 3",
        "delete from only d",
        "update only d set id = 3",
    ] {
        table.needs_f(write).await;
    }
    table
        .session
        .run("select fencegate.unprotect('t'); update t set id = 3")
        .await
        .unwrap();
}

/// A statement about the table above fires no trigger of the one below that is for each statement.
#[tokio::test]
async fn tables_that_inherit_from_one_that_is_not_protected() {
    let mut table = with(
        "create table above (id int); create table t () inherits (above); insert into t values (1);
        select fencegate.protect('t', fence => 'f')",
    )
    .await;
    for write in [
        "update above set id = 2",
        "delete from above",
        "truncate above",
        "insert into t values (3)",
        "update t set id = 3",
    ] {
        table.needs_f(write).await;
    }
    // Another fence for the one above is not enough for both.
    table
        .session
        .run("select fencegate.protect('above', fence => 'g')")
        .await
        .unwrap();
    table
        .session
        .run("select fencegate.protect('t', fence => 'f')")
        .await
        .unwrap();
    assert_eq!(
        table.under_f("read committed", "update above set id = 2").await,
        Err("ZF004".into())
    );
}

#[tokio::test]
async fn what_cannot_be_protected_or_unprotected() {
    let mut table = with(
        "create table t (id int) partition by range (id); create table one partition of t for values from (0) to (9);
        create view v as select 1; select fencegate.protect('t', fence => 'f')",
    )
    .await;
    for refused in [
        "select fencegate.protect('fencegate.fence', fence => 'f')",
        "select fencegate.protect('fencegate.record', fence_column => 'fence')",
        "select fencegate.protect('one', fence => 'f')",
        "select fencegate.protect('v', fence => 'f')",
        "select fencegate.unprotect('one')",
    ] {
        assert_eq!(table.session.run(refused).await, Err("42809".into()), "{refused}");
    }
    table.needs_f("truncate one").await;
    table.needs_f("insert into one values (1)").await;
}

#[tokio::test]
async fn a_cascade_from_a_table_that_is_not_protected() {
    let mut table = with(
        "create table parent (id int primary key);
        create table t (parent int references parent on delete cascade on update cascade);
        insert into parent values (1); insert into t values (1); select fencegate.protect('t', fence => 'f')",
    )
    .await;
    table.needs_f("delete from parent").await;
    table.needs_f("update parent set id = 2").await;
    table
        .session
        .run(
            "select fencegate.unprotect('t'); alter table t add fence text default 'f';
              select fencegate.protect('t', fence_column => 'fence')",
        )
        .await
        .unwrap();
    table.needs_f("delete from parent").await;
}

/// The apply worker enters no fence, so a protected table receives nothing: replication of it stops.
#[tokio::test]
async fn logical_replication_is_refused() {
    let source = Postgres::builder().set("wal_level", "logical").start().await;
    let mut from = Session::open(&source.url()).await;
    let mut table = with(
        "create table t (id int primary key); create table u (id int primary key);
        select fencegate.protect('t', fence => 'f')",
    )
    .await;
    from.run("create table t (id int primary key); create table u (id int primary key)")
        .await
        .unwrap();
    from.run("create publication p for table t").await.unwrap();
    let subscription = format!(
        "create subscription s connection 'host=127.0.0.1 port={} user=postgres dbname=postgres' publication p
         with (copy_data = false)",
        source.port()
    );
    table.session.run(&subscription).await.unwrap();
    from.run("insert into t values (1)").await.unwrap();
    crate::support::eventually(crate::support::eventually::PATIENCE, async || {
        table
            .session
            .text("select apply_error_count::text from pg_stat_subscription_stats")
            .await
            != "0"
    })
    .await;
    assert_eq!(table.session.run("select from t").await, Ok(0));
    table
        .session
        .run("select fencegate.unprotect('t')")
        .await
        .unwrap();
    crate::support::eventually(crate::support::eventually::PATIENCE, async || {
        table.session.run("select from t").await == Ok(1)
    })
    .await;
    table.session.run("drop subscription s").await.unwrap();
}

#[tokio::test]
async fn report_mode_lets_pass_and_tells() {
    let mut table = with(
        "create table t (id int, fence text);
        select fencegate.protect('t', fence => 'f', mode => 'report')",
    )
    .await;
    table
        .session
        .run("insert into t values (1, 'f'); insert into t values (2, 'f')")
        .await
        .unwrap();
    table.session.run("truncate t").await.unwrap();
    let told = "select concat_ws(' ', fence, reason, presented, mark, source, relation, count) from fencegate.rejection";
    assert_eq!(table.session.text(told).await, "f missing report public.t 1");
    table.session.run("truncate fencegate.rejection").await.unwrap();
    // A stale one, by the row.
    table
        .session
        .run("select fencegate.protect('t', fence_column => 'fence', mode => 'report')")
        .await
        .unwrap();
    let f = table.f.clone();
    let newer = crate::world::next(&f);
    table.session.seal("f", &newer).await.unwrap();
    let stale = format!("set fencegate.entered = E'\\nf\\t{}'", f.expose());
    table.session.run(&stale).await.unwrap();
    table
        .session
        .run("insert into t select n, 'f' from generate_series(1, 1000) n")
        .await
        .unwrap();
    assert_eq!(
        table.session.text(told).await,
        format!("f stale {f} {newer} report public.t 1")
    );
    let late = table
        .session
        .text("select (late > '0')::text from fencegate.rejection")
        .await;
    assert_eq!(late, "true");
    // No holder in it.
    let everything = table
        .session
        .text("select string_agg(r::text, ' ') from fencegate.rejection r")
        .await;
    assert!(!everything.contains(&f.holder.expose()), "{everything}");
    // From report to refusal.
    table
        .session
        .run("select fencegate.protect('t', fence_column => 'fence')")
        .await
        .unwrap();
    assert_eq!(
        table.session.run("insert into t values (1, 'f')").await,
        Err("ZF001".into())
    );
    drop(table.world);
}

#[tokio::test]
async fn bad_requests_get_clear_answers() {
    let mut table = with(
        "create table t (id int, n numeric) partition by range (id);
        create table p partition of t for values from (0) to (1); create view v as select 1 as id",
    )
    .await;
    for (request, code) in [
        ("protect('t')", "22023"),
        ("protect('t', fence => 'f', fence_column => 'id')", "22023"),
        ("protect('t', fence => 'f', mode => 'log')", "22023"),
        ("protect('t', fence => 'f', mode => null)", "22023"),
        ("protect('t', fence => 'a/b')", "ZF005"),
        ("protect('t', fence_column => 'm')", "42703"),
        ("protect('t', fence_column => 'n')", "42703"),
        ("protect('v', fence => 'f')", "42809"),
        ("protect('p', fence => 'f')", "42809"),
        ("protect(null, fence => 'f')", "42809"),
    ] {
        let answer = table.session.run(&format!("select fencegate.{request}")).await;
        assert_eq!(answer, Err(code.into()), "{request}");
    }
    table.session.begin("read committed").await;
    for token in [
        "null",
        "''",
        "'1042'",
        "'1-1'",
        "'01-1-9f86d081884c7d659a2feaa0c55ad015'",
        "'1-9223372036854775808-9f86d081884c7d659a2feaa0c55ad015'",
        "'1-1-9F86D081884C7D659A2FEAA0C55AD015'",
    ] {
        let enter = format!("savepoint s; select fencegate.enter('f', {token})");
        assert_eq!(table.session.run(&enter).await, Err("ZF005".into()), "{token}");
        table.session.run("rollback to s").await.unwrap();
    }
    for fence in ["null", "''", "'a/b'", "'..'", "E'a\\nb'", "repeat('x', 201)"] {
        let enter =
            format!("savepoint s; select fencegate.enter({fence}, '1-1-9f86d081884c7d659a2feaa0c55ad015')");
        assert_eq!(table.session.run(&enter).await, Err("ZF005".into()), "{fence}");
        table.session.run("rollback to s").await.unwrap();
    }
}

/// What it would refuse passes, however much of it there is, and whatever is in it.
#[tokio::test]
async fn report_mode_lets_everything_pass() {
    let mut table = with(
        "create table t (fence text, n int, doc json); insert into t select 'l' || n, n from generate_series(1, 20000) n;
        select fencegate.protect('t', fence_column => 'fence', mode => 'report')",
    )
    .await;
    table.session.run("update t set n = 0").await.unwrap();
    let reported = table
        .session
        .run("select from fencegate.rejection")
        .await
        .unwrap();
    assert!((50..1000).contains(&reported), "{reported}");
    for row in [
        r#"'f', 1, '{"a": "\u0000"}'"#,
        "'f', 1, '[1e200000]'",
        "repeat('x', 100000), 1, null",
        "(select string_agg(md5(n::text || random()), '') from generate_series(1, 400) n), 1, null",
        "null, 1, null",
    ] {
        let insert = format!("insert into t values ({row})");
        table.session.run(&insert).await.unwrap();
    }
    table
        .session
        .run("update t set n = 2; delete from t")
        .await
        .unwrap();
}
