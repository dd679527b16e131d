//! Refusals are written down: who, which fence, presented and mark, and not each of a crowd.

use std::time::Duration;

use fencegate::{GuardError, Locks, Options};

use crate::world::{World, name};

async fn a_crowd(locks: Locks, begin: impl AsyncFn(&fencegate::Lease) -> Result<(), GuardError>) {
    let options = Options {
        ttl: Duration::from_secs(60),
        ..Options::default()
    };
    let lease = locks.acquire_with("f", options).await.unwrap();
    let token = lease.token().clone();
    let newer = crate::world::next(&token);
    locks.store().seal(&name("f"), &newer.mark()).await.unwrap();
    for _ in 0..200 {
        assert!(begin(&lease).await.unwrap_err().is_stale());
    }
    locks.rejections().flush().await;
    let stored = async || {
        locks
            .store()
            .rejections(Some(&name("f")), None, 100)
            .await
            .unwrap()
    };
    crate::support::eventually(crate::support::eventually::PATIENCE, async || {
        stored().await.iter().map(|row| row.count).sum::<i64>() == 200
    })
    .await;
    let rows = stored().await;
    assert!(rows.len() < 50, "{} rows", rows.len());
    for row in rows {
        assert_eq!((row.fence.as_str(), row.reason.as_str()), ("f", "stale"));
        assert_eq!(row.presented, Some(token.to_string()));
        assert_eq!(row.mark, Some(newer.to_string()));
        assert_eq!(row.source, "guard");
        assert!(row.who.contains(&std::process::id().to_string()));
        assert!(row.late.unwrap() < Duration::from_secs(60));
        assert!(!format!("{row:?}").contains(&token.holder.expose()));
    }
    assert!(
        locks
            .store()
            .rejections(Some(&name("g")), None, 100)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_crowd_on_postgres() {
    let world = World::postgres().await;
    let pool = world.pool();
    a_crowd(world.locks.clone(), async |lease| {
        lease.begin(&pool).await.map(drop)
    })
    .await;
    // Bounded.
    sqlx::raw_sql(
        "insert into fencegate.rejection (fence, reason, source, who)
         select 'x', 'stale', 'guard', 'x' from generate_series(1, 12000);
         select fencegate.prune_rejections()",
    )
    .execute(&pool)
    .await
    .unwrap();
    let left: i64 = sqlx::query_scalar("select count(*) from fencegate.rejection")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(left, 10_000);
}

#[tokio::test]
async fn a_crowd_on_sqlite() {
    let folder = crate::support::folder("store");
    let path = folder.path().join("other.db");
    let url = format!("sqlite:{}", path.display());
    let locks = fencegate::connect(&url, None).await.unwrap();
    let file = fencegate::database::sqlite::SqliteFile::open(&path)
        .await
        .unwrap();
    a_crowd(locks, async |lease| lease.begin(&file).await.map(drop)).await;
}
