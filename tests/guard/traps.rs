//! Guards that people write by hand, each in the interleaving that tells whether it works: the newer holder
//! commits while the older one waits. Those that accept the stale write show that the interleaving bites; the last
//! tests are fencegate's own guard in the same.

use fencegate::{Holder, Token};
use sqlx::PgPool;

use super::session::{LEVELS, Session, waits_for_lock};
use crate::world::{World, name};

/// A guard against a fence that is a row of `mark`, where the older holder has the token 5 and the newer one 6.
struct Guard {
    name: &'static str,
    /// The older one's statement. No row means that it is refused.
    guard: &'static str,
    /// Whether that waits for the newer one, who has raised the mark and not committed.
    waits: bool,
    /// What the older one looks at once it has waited, if anything. No row means that it is refused.
    then: &'static str,
    /// What the newer one does.
    newer: &'static str,
    /// What comes of it at each isolation level.
    outcomes: [&'static str; 3],
}

const RAISE: &str = "update mark set seq = 6 where name = 'f'";
const LOCK_AND_RAISE: &str = "select pg_advisory_xact_lock(42); update mark set seq = 6 where name = 'f'";
const ACCEPTED: [&str; 3] = ["accepted"; 3];
const SAFE: [&str; 3] = ["refused", "40001", "40001"];
const ONLY_CONFLICTS: [&str; 3] = ["accepted", "40001", "40001"];

const GUARDS: &[Guard] = &[
    Guard {
        name: "a conditional update of the fence's row",
        guard: "update mark set seq = 5 where name = 'f' and seq <= 5 returning 1",
        waits: true,
        then: "",
        newer: RAISE,
        outcomes: SAFE,
    },
    Guard {
        name: "a conditional upsert of the fence's row",
        guard: "insert into mark values ('f', 5) on conflict (name) do update set seq = excluded.seq
                where mark.seq <= excluded.seq returning 1",
        waits: true,
        then: "",
        newer: RAISE,
        outcomes: SAFE,
    },
    Guard {
        name: "for update",
        guard: "select 1 from mark where name = 'f' and seq <= 5 for update",
        waits: true,
        then: "",
        newer: RAISE,
        outcomes: SAFE,
    },
    Guard {
        name: "for share",
        guard: "select 1 from mark where name = 'f' and seq <= 5 for share",
        waits: true,
        then: "",
        newer: RAISE,
        outcomes: SAFE,
    },
    Guard {
        name: "a subquery in the write, which waits for the row to write",
        guard:
            "update data set writer = 'older' where id = 1 and (select seq from mark where name = 'f') <= 5
                returning 1",
        waits: true,
        then: "",
        newer: "update mark set seq = 6 where name = 'f'; update data set writer = 'newer' where id = 1",
        outcomes: ONLY_CONFLICTS,
    },
    Guard {
        name: "a subquery in the write, which waits for a lock on the row to write",
        guard:
            "update data set writer = 'older' where id = 1 and (select seq from mark where name = 'f') <= 5
                returning 1",
        waits: true,
        then: "",
        newer: "update mark set seq = 6 where name = 'f'; select from data where id = 1 for update",
        outcomes: ACCEPTED,
    },
    Guard {
        name: "a join in the write, which waits for the row to write",
        guard: "update data set writer = 'older' from mark where id = 1 and name = 'f' and seq <= 5 returning 1",
        waits: true,
        then: "",
        newer: "update mark set seq = 6 where name = 'f'; update data set writer = 'newer' where id = 1",
        outcomes: ONLY_CONFLICTS,
    },
    Guard {
        name: "a join in the write, which waits for a lock on the row to write",
        guard: "update data set writer = 'older' from mark where id = 1 and name = 'f' and seq <= 5 returning 1",
        waits: true,
        then: "",
        newer: "update mark set seq = 6 where name = 'f'; select from data where id = 1 for update",
        outcomes: ACCEPTED,
    },
    Guard {
        name: "a plain select, also at serializable",
        guard: "select 1 from mark where name = 'f' and seq <= 5",
        waits: false,
        then: "",
        newer: RAISE,
        outcomes: ACCEPTED,
    },
    Guard {
        name: "for key share",
        guard: "select 1 from mark where name = 'f' and seq <= 5 for key share",
        waits: false,
        then: "",
        newer: RAISE,
        outcomes: ACCEPTED,
    },
    Guard {
        name: "a common table expression that nothing refers to",
        guard: "with guard as (update mark set seq = 5 where name = 'f' and seq <= 5 returning 1)
                update data set writer = 'older' where id = 1 returning 1",
        waits: true,
        then: "",
        newer: RAISE,
        outcomes: ONLY_CONFLICTS,
    },
    Guard {
        name: "greatest() without a where",
        guard: "update mark set seq = greatest(seq, 5) where name = 'f' returning 1",
        waits: true,
        then: "",
        newer: RAISE,
        outcomes: ONLY_CONFLICTS,
    },
    Guard {
        name: "a locking read of a row that is not there",
        guard: "select 1 where not exists (select from mark where name = 'new' and seq > 5 for share)",
        waits: false,
        then: "",
        newer: "insert into mark values ('new', 6)",
        outcomes: ACCEPTED,
    },
    Guard {
        name: "the advisory lock and the look in one statement",
        guard: "select 1 from (select pg_advisory_xact_lock_shared(42) offset 0) locked
                cross join lateral (select seq from mark where name = 'f' offset 0) look where seq <= 5",
        waits: true,
        then: "",
        newer: LOCK_AND_RAISE,
        outcomes: ACCEPTED,
    },
    Guard {
        name: "the advisory lock and the look in a stable function",
        guard: "select 1 where lock_and_look() <= 5",
        waits: true,
        then: "",
        newer: LOCK_AND_RAISE,
        outcomes: ACCEPTED,
    },
    Guard {
        name: "the advisory lock and the look in two statements",
        guard: "select pg_advisory_xact_lock_shared(42)",
        waits: true,
        then: "select 1 from mark where name = 'f' and seq <= 5",
        newer: LOCK_AND_RAISE,
        outcomes: ["refused", "accepted", "accepted"],
    },
];

const TABLES: &str = "
    create table mark (name text primary key, seq int);
    create table data (id int primary key, writer text);
    insert into mark values ('f', 5);
    insert into data values (1, ''), (2, '');
    create function lock_and_look() returns int language plpgsql stable as $$ begin
        perform pg_advisory_xact_lock_shared(42);
        return (select seq from mark where name = 'f');
    end $$;";

/// The older one's half, up to its commit.
async fn older(session: &mut Session, guard: &Guard) -> String {
    for look in [guard.guard, guard.then] {
        if look.is_empty() {
            continue;
        }
        match session.run(look).await {
            Ok(0) => return "refused".into(),
            Ok(_) => {}
            Err(code) => return code,
        }
    }
    "passed".into()
}

async fn outcome(url: &str, pool: &PgPool, guard: &'static Guard, level: &str) -> String {
    let (mut first, mut second) = (Session::open(url).await, Session::open(url).await);
    first
        .run("delete from mark where name = 'new'; update mark set seq = 5; update data set writer = ''")
        .await
        .unwrap();
    second.begin("read committed").await;
    second.run(guard.newer).await.unwrap();
    first.begin(level).await;
    let pid = first.pid;
    let half = tokio::spawn(async move {
        let passed = older(&mut first, guard).await;
        (first, passed)
    });
    if guard.waits {
        waits_for_lock(pool, pid).await;
        second.run("commit").await.unwrap();
    }
    let (mut first, passed) = half.await.unwrap();
    if !guard.waits {
        second.run("commit").await.unwrap();
    }
    if passed != "passed" {
        return passed;
    }
    // The newer holder has the fence by now.
    if let Err(code) = first.run("update data set writer = 'older' where id = 2").await {
        return code;
    }
    match first.run("commit").await {
        Ok(_) => "accepted".into(),
        Err(code) => code,
    }
}

#[tokio::test]
async fn guards_that_people_write() {
    let world = World::postgres().await;
    let (pool, url) = (world.pool(), world.postgres.as_ref().unwrap().url());
    Session::open(&url).await.run(TABLES).await.unwrap();
    for guard in GUARDS {
        for (level, expected) in LEVELS.iter().zip(guard.outcomes) {
            let outcome = outcome(&url, &pool, guard, level).await;
            assert_eq!(outcome, expected, "{} at {level}", guard.name);
        }
    }
}

/// Fencegate's, while the newer holder's seal is under way.
#[tokio::test]
async fn entering_waits_and_refuses() {
    let world = World::postgres().await;
    let (pool, url) = (world.pool(), world.postgres.as_ref().unwrap().url());
    for (level, expected) in LEVELS.iter().zip(["ZF001", "40001", "40001"]) {
        let token = world.grant(level).await;
        let (mut first, mut second) = (Session::open(&url).await, Session::open(&url).await);
        second.begin("read committed").await;
        second.seal(level, &crate::world::next(&token)).await.unwrap();
        first.begin(level).await;
        let (pid, fence) = (first.pid, *level);
        let entering = tokio::spawn(async move { first.enter(fence, &token).await });
        waits_for_lock(&pool, pid).await;
        second.run("commit").await.unwrap();
        assert_eq!(entering.await.unwrap(), Err(expected.to_owned()), "{level}");
    }
}

/// And once it is over: the snapshot is older than the seal, where there is one.
#[tokio::test]
async fn entering_after_the_snapshot() {
    let world = World::postgres().await;
    let url = world.postgres.as_ref().unwrap().url();
    for (level, expected) in LEVELS.iter().zip(["ZF001", "40001", "40001"]) {
        let token = world.grant(level).await;
        let (mut first, mut second) = (Session::open(&url).await, Session::open(&url).await);
        first.begin(level).await;
        first.run("select 1").await.unwrap();
        second.seal(level, &crate::world::next(&token)).await.unwrap();
        assert_eq!(
            first.enter(level, &token).await,
            Err(expected.to_owned()),
            "{level}"
        );
    }
}

/// Nothing passes on a fence that nobody sealed.
#[tokio::test]
async fn entering_a_fence_that_is_not_there() {
    let world = World::postgres().await;
    let url = world.postgres.as_ref().unwrap().url();
    let token = world.grant("other").await;
    for level in LEVELS {
        let mut session = Session::open(&url).await;
        session.begin(level).await;
        assert_eq!(session.enter("f", &token).await, Err("ZF003".into()), "{level}");
    }
}

/// The number of the mark does not pass without its holder, and not with it once it is released.
#[tokio::test]
async fn entering_with_the_number_alone() {
    let world = World::postgres().await;
    let url = world.postgres.as_ref().unwrap().url();
    for level in LEVELS {
        let token = world.grant(level).await;
        let other = Token {
            holder: Holder::random(),
            ..token.clone()
        };
        let mut session = Session::open(&url).await;
        session.begin(level).await;
        assert_eq!(session.enter(level, &other).await, Err("ZF002".into()), "{level}");
        session.run("rollback").await.unwrap();
        session.begin(level).await;
        session.enter(level, &token).await.unwrap();
        session.run("rollback").await.unwrap();
        world.locks.release(&name(level), &token).await.unwrap();
        session.begin(level).await;
        assert_eq!(session.enter(level, &token).await, Err("ZF002".into()), "{level}");
    }
}
