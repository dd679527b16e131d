//! Postgres killed in the middle.

use std::{sync::Arc, time::Duration};

use fencegate::{Options, store::SealOutcome};

use crate::{
    support::{Postgres, eventually},
    world::{World, name},
};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn what_was_acknowledged_survives() {
    let mut world = World::on(Postgres::builder().durable().start().await).await;
    let options = || Options {
        ttl: Duration::from_secs(60),
        ..Options::default()
    };
    let mut tokens = Vec::new();
    for i in 0..4 {
        tokens.push(
            world
                .locks
                .grant(&name(&format!("f{i}")), options())
                .await
                .unwrap()
                .token,
        );
    }
    let mut server = world.postgres.take().unwrap();
    let world = Arc::new(world);
    for round in 0..3 {
        let writers: Vec<_> = tokens
            .iter()
            .enumerate()
            .map(|(i, token)| {
                let (world, token) = (world.clone(), token.clone());
                tokio::spawn(async move {
                    let mut acknowledged = Vec::new();
                    for n in 0.. {
                        let key = format!("{round}/{n}");
                        if world.put(&format!("f{i}"), &token, &key, &key).await.is_err() {
                            break;
                        }
                        acknowledged.push(key);
                    }
                    acknowledged
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(150 + 100 * round)).await;
        server.kill9();
        let mut acknowledged = Vec::new();
        for writer in writers {
            acknowledged.push(writer.await.unwrap());
        }
        server.restart().await;
        assert!(
            acknowledged.iter().map(Vec::len).sum::<usize>() > 0,
            "nothing was under way"
        );
        eventually(SOON, async || world.locks.store().check().await.is_ok()).await;
        for (i, keys) in acknowledged.iter().enumerate() {
            let fence = format!("f{i}");
            for key in keys {
                assert_eq!(
                    world.text(&fence, key).await.as_ref(),
                    Some(key),
                    "acknowledged and gone"
                );
            }
            let mark = world
                .locks
                .store()
                .fence(&name(&fence))
                .await
                .unwrap()
                .unwrap()
                .mark;
            assert_eq!(mark, tokens[i].mark());
        }
        // The same pool goes on, without anybody's doing.
        world.put("f0", &tokens[0], "after", "x").await.unwrap();
    }
}

/// With the database's default at `off`, a crash forgets the last commits unless they asked for more.
#[tokio::test]
async fn a_mark_that_was_handed_out_survives_where_commits_are_lazy() {
    let lazy = Postgres::builder()
        .durable()
        .set("synchronous_commit", "off")
        .set("wal_writer_delay", "10s")
        .start()
        .await;
    let mut world = World::on(lazy).await;
    let token = world.grant("f").await;
    let pool = world.pool();
    let mut server = world.postgres.take().unwrap();
    let next = fencegate::Token {
        sequence: fencegate::Sequence::new(1_000_000).unwrap(),
        ..token.clone()
    };
    assert_eq!(
        world.locks.store().seal(&name("f"), &next.mark()).await.unwrap(),
        SealOutcome::Sealed
    );
    world.put("f", &next, "a", "kept").await.unwrap();
    // The control: a commit as lazy as the database's default, after all of that.
    sqlx::query("create table lazy ()").execute(&pool).await.unwrap();
    server.kill9();
    server.restart().await;
    eventually(SOON, async || world.locks.store().check().await.is_ok()).await;
    assert_eq!(
        world.locks.store().fence(&name("f")).await.unwrap().unwrap().mark,
        next.mark()
    );
    assert_eq!(world.text("f", "a").await.as_deref(), Some("kept"));
    let pool = sqlx::PgPool::connect_lazy(&server.url()).unwrap();
    let lazy: bool = sqlx::query_scalar("select to_regclass('lazy') is not null")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert!(!lazy, "the crash forgot nothing, so this shows nothing");
}
