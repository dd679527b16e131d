//! Lock services whose numbers cannot be compared with the marks.

use fencegate::{GrantError, Options, connect};

use crate::{
    support,
    world::{World, etcd_url, name},
};

#[tokio::test]
async fn another_lock_service_gives_no_leases() {
    let world = World::postgres_and_etcd().await;
    let token = world.grant("f").await;
    let store = world.postgres.as_ref().unwrap().url();
    let stranger = support::Etcd::start().await;
    let prefix = format!("{}/elsewhere", etcd_url(world.etcd.as_ref().unwrap()));
    for locks in [etcd_url(&stranger), "postgres".into(), prefix] {
        let locks = connect(&store, Some(&locks)).await.unwrap();
        for _ in 0..2 {
            // Twice: the first refusal must have given its lock back.
            let error = locks.grant(&name("g"), Options::default()).await.unwrap_err();
            assert!(matches!(error, GrantError::OtherHistory { .. }), "{error}");
            assert!(error.to_string().contains("etcd cluster"), "{error}");
        }
    }
    world
        .put("f", &token, "a", "the sealed one still writes")
        .await
        .unwrap();
    world.grant("g").await;
}

#[tokio::test]
async fn an_epoch_that_is_raised_in_the_middle_gives_no_lease() {
    let world = World::postgres().await;
    let first = world.grant("f").await;
    sqlx::query("update fencegate.epoch set number = 2")
        .execute(&world.pool())
        .await
        .unwrap();
    let outcome = world
        .locks
        .store()
        .seal(&name("new"), &first.mark())
        .await
        .unwrap();
    assert!(matches!(outcome, fencegate::store::SealOutcome::EpochChanged(epoch) if epoch.get() == 2));
    assert!(world.locks.store().fence(&name("new")).await.unwrap().is_none());
}
