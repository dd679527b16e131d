//! The examples that are not about the guard's SQL alone (those are in `guard::examples`).

use std::{process::Output, sync::Arc, time::Duration};

use fencegate::connect;
use sqlx::Executor;
use tokio::process::Command;

use crate::{
    support::{Postgres, eventually, eventually::PATIENCE, folder},
    world::{World, name},
};

#[path = "../examples/leader.rs"]
#[allow(dead_code, reason = "it is also a program")]
mod leader;
#[cfg(feature = "redis")]
#[path = "../examples/redis.rs"]
#[allow(dead_code, reason = "it is also a program")]
mod redis_example;
#[path = "../examples/stale_writer.rs"]
#[allow(dead_code, reason = "it is also a program")]
mod stale_writer;
#[cfg(feature = "zookeeper")]
#[path = "../examples/zookeeper.rs"]
#[allow(dead_code, reason = "it is also a program")]
mod zookeeper_example;

#[tokio::test]
async fn a_stale_writer() {
    let folder = folder("stale_writer");
    let (refused, balance) = stale_writer::run(&folder.path().join("bank.db")).await.unwrap();
    assert!(refused.contains("token 1-1 is refused as stale"), "{refused}");
    assert_eq!(balance, 30);
}

#[tokio::test]
async fn a_leader_steps_down_and_another_one_leads() {
    let folder = folder("leader");
    let path = folder.path().join("leader.db");
    let url = format!("sqlite:{}", path.display());
    let file = leader::open(&path).await.unwrap();
    let news = Arc::new(std::sync::Mutex::new(Vec::new()));
    let candidate = async |me: &'static str| {
        let locks = connect(&url, None).await.unwrap();
        leader::campaign(&locks, &file, me, |what| {
            news.lock().unwrap().push(format!("{me} {what}"));
        })
        .await
    };
    let told = |part: &str| news.lock().unwrap().iter().any(|line| line.contains(part));
    let leads = async |number: &str| {
        let text = format!("leads with token {number}");
        eventually(PATIENCE, async || told(&text)).await;
    };
    let story = async {
        leads("1-1").await;
        // The first leader is told nothing: it finds out.
        let operator = connect(&url, None).await.unwrap();
        operator.force_release(&name("leader")).await.unwrap();
        eventually(PATIENCE, async || told("steps down")).await;
        leads("1-2").await;
    };
    tokio::select! {
        ended = candidate("alice") => panic!("{ended:?}"),
        ended = candidate("bob") => panic!("{ended:?}"),
        () = story => {}
    }
    let (numbers, leaders): (i64, i64) =
        sqlx::query_as("select count(*), count(distinct leader) from decision")
            .fetch_one(file.pool())
            .await
            .unwrap();
    assert!(numbers >= 1 && leaders >= 1, "{numbers} decisions of {leaders}");
}

#[cfg(feature = "zookeeper")]
#[tokio::test]
async fn two_workers_on_zookeeper() {
    let (server, folder) = (crate::support::ZooKeeper::start().await, folder("zookeeper"));
    let store = format!("sqlite:{}", folder.path().join("shop.db").display());
    let url = format!("zookeeper://{}/fencegate/locks", server.endpoint());
    let (one, two) = zookeeper_example::run(&url, &store).await.unwrap();
    assert_ne!(one.sequence, two.sequence);
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn a_redis_that_forgets() {
    let (server, folder) = (crate::support::Redis::start().await, folder("redis"));
    let store = format!("sqlite:{}", folder.path().join("shop.db").display());
    let told = redis_example::run(&server.url(), &store).await.unwrap();
    assert!(told.contains("stale"), "{told}");
}

/// The crontab's line, as cron runs it, on three machines at once.
#[tokio::test]
async fn a_cron_job_runs_once() {
    let server = Postgres::start().await;
    let world = World::on(server).await;
    let url = world.postgres.as_ref().unwrap().url();
    let pool = world.pool();
    pool.execute("create table bill (day date primary key, host text not null)")
        .await
        .unwrap();
    pool.execute("select fencegate.protect('bill', fence => 'nightly-billing')")
        .await
        .unwrap();

    let crontab = include_str!("../examples/cron/crontab");
    let line = crontab
        .lines()
        .find(|line| line.starts_with("0 3 * * * "))
        .unwrap();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/cron");
    let command = line
        .splitn(7, ' ')
        .nth(6)
        .unwrap()
        .replace("/opt/billing", folder)
        .replace(
            "fencegate run",
            &format!("{} run", env!("CARGO_BIN_EXE_fencegate")),
        );
    let psql = crate::support::postgres::command("psql");
    let psql = std::path::Path::new(psql.get_program()).parent().unwrap();
    let cron = async |command: &str| -> Output {
        let done = Command::new("/bin/sh")
            .args(["-c", command])
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", psql.display()))
            .env("DATABASE_URL", &url)
            .output();
        tokio::time::timeout(Duration::from_secs(60), done)
            .await
            .expect("it ends")
            .unwrap()
    };
    let bills = async || -> i64 {
        sqlx::query_scalar("select count(*) from bill")
            .fetch_one(&pool)
            .await
            .unwrap()
    };
    let all = tokio::join!(cron(&command), cron(&command), cron(&command));
    for output in [&all.0, &all.1, &all.2] {
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(bills().await, 1);

    // Without the fence nobody bills: not with a token that is over, and not with none.
    pool.execute("truncate bill").await.unwrap_err();
    let stale = world.grant("nightly-billing").await.expose();
    world.grant("nightly-billing").await;
    let by_hand = format!("FENCEGATE_TOKEN={stale} FENCEGATE_HELD_FENCE=nightly-billing {folder}/bill.sh");
    let refused = cron(&by_hand).await;
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("stale") && !said.contains(&stale), "{said}");
    assert_eq!(bills().await, 1);
}
