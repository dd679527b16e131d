//! Every call does what it says.

use fencegate::{
    client::{ClientError, IdempotencyKey, ListedRecord, Transaction},
    gateway::Config,
    store::{Condition, Version},
};
use serde_json::json;

use super::{World, client, fence, key, long, text};

on_every_store! {
    records_are_written_and_read_under_conditions
    listings_go_on_where_they_ended
    transactions_are_whole
    fences_are_looked_at
}

async fn records_are_written_and_read_under_conditions(world: World) {
    let gateway = world.gateway().await;
    let (client, a) = (client(gateway.port), fence("a/b".replace('/', ":").as_str()));
    let k = key("ü/100% of it?#");
    assert_eq!(client.read(&a, &k).await.unwrap(), None);
    let lease = client.acquire(&a, long()).await.unwrap();
    let token = lease.token().clone();
    let first = client
        .put(&a, &token, &k, text("one"), Condition::Absent)
        .await
        .unwrap();
    let read = client.read(&a, &k).await.unwrap().unwrap();
    assert_eq!((read.value, read.version), (text("one"), first));
    let there = client.put(&a, &token, &k, text("two"), Condition::Absent).await;
    assert_eq!(there.unwrap_err().problem().unwrap().name(), "version-mismatch");
    let second = lease
        .put(
            &k,
            b"{\"n\":1}".to_vec(),
            "application/json",
            Condition::Version(first).into(),
        )
        .await
        .unwrap();
    assert!(second > first);
    let gone = client.delete(&a, &token, &k, Condition::Version(first)).await;
    assert_eq!(gone.unwrap_err().problem().unwrap().name(), "version-mismatch");
    let third = lease
        .patch(&k, &json!({"n": null, "m": [1]}), Condition::Present.into())
        .await
        .unwrap();
    let read = lease.read(&k).await.unwrap().unwrap();
    assert_eq!(
        (read.value.bytes.as_slice(), read.version),
        (&b"{\"m\":[1]}"[..], third)
    );
    lease.delete(&k, Condition::Version(third).into()).await.unwrap();
    assert_eq!(lease.read(&k).await.unwrap(), None);

    client.check(&a, &token).await.unwrap();
    lease.release().await.unwrap();
    // A release kills the token.
    for error in [
        client.check(&a, &token).await.unwrap_err(),
        client.read_under(&a, &token, &k).await.unwrap_err(),
        client
            .put(&a, &token, &k, text("late"), Condition::Always)
            .await
            .unwrap_err(),
    ] {
        assert!(error.is_fenced() && !error.is_retryable(), "{error}");
        assert!(!error.is_outcome_unknown(), "{error}");
    }
    let newer = client.acquire(&a, long()).await.unwrap();
    let stale = client.patch(&a, &token, &k, &json!({}), Condition::Always).await;
    let stale = stale.unwrap_err();
    assert!(stale.is_stale(), "{stale}");
    assert_eq!(stale.problem().unwrap().mark, Some(newer.token().to_string()));
    assert!(client.renew(&a, &token).await.unwrap_err().is_lost());
}

async fn listings_go_on_where_they_ended(world: World) {
    let gateway = world.gateway().await;
    let (client, a) = (client(gateway.port), fence("a"));
    let lease = client.acquire(&a, long()).await.unwrap();
    // More than a page.
    for part in 0..9 {
        let mut transaction = Transaction::new().under(&a, lease.token());
        for n in 0..125 {
            transaction = transaction.put(
                &a,
                &key(&format!("k{:04}", part * 125 + n)),
                text("v"),
                Condition::Absent,
            );
        }
        client.transact(&transaction, None).await.unwrap();
    }
    client
        .put(&a, lease.token(), &key("other"), text("v"), Condition::Always)
        .await
        .unwrap();
    let mut listing = client.records(&a, "k");
    let mut seen = Vec::new();
    while let Some(record) = listing.next().await.unwrap() {
        seen.push(record.key);
    }
    assert_eq!(seen, (0..1125).map(|n| format!("k{n:04}")).collect::<Vec<_>>());
    assert!(listing.next().await.unwrap().is_none());
    let rest: Vec<ListedRecord> = client.records(&a, "").after("k1123").all().await.unwrap();
    assert_eq!(
        rest.iter().map(|record| record.key.as_str()).collect::<Vec<_>>(),
        ["k1124", "other"]
    );
    assert!(rest[0].version > Version(0) && rest[0].length == 1 && rest[0].updated_at.is_some());
}

async fn transactions_are_whole(world: World) {
    let gateway = world.gateway().await;
    let client = client(gateway.port);
    let (a, b) = (fence("a"), fence("b"));
    let of_a = client.acquire(&a, long()).await.unwrap();
    let of_b = client.acquire(&b, long()).await.unwrap();
    // Not UTF-8, and not JSON.
    let mut bytes = text("");
    bytes.bytes = vec![0, 255, 10];
    let both = Transaction::new()
        .under(&a, of_a.token())
        .under(&b, of_b.token())
        .put(&a, &key("x"), bytes.clone(), Condition::Absent)
        .put(&b, &key("y"), text("1"), Condition::Always)
        .delete(&b, &key("z"), Condition::Always);
    assert!(!format!("{both:?}").contains(&of_a.token().expose()));
    let once = IdempotencyKey::random();
    let done = client.transact(&both, Some(&once)).await.unwrap();
    assert_eq!(done.len(), 3);
    assert!(done[0].version.is_some() && !done[0].existed && done[2].version.is_none());
    assert_eq!(client.read(&a, &key("x")).await.unwrap().unwrap().value, bytes);
    // The condition no longer holds, but under the same key it is the same transaction.
    assert_eq!(client.transact(&both, Some(&once)).await.unwrap(), done);
    let again = client.transact(&both, None).await.unwrap_err();
    assert_eq!(again.problem().unwrap().name(), "version-mismatch");
    of_b.release().await.unwrap();
    let of_b = client.acquire(&b, long()).await.unwrap();
    let half = Transaction::new()
        .under(&a, of_a.token())
        .under(&b, of_b.token())
        .put(&a, &key("x"), text("2"), Condition::Always);
    client.transact(&half, None).await.unwrap();
    let none = client.transact(&Transaction::new(), None).await.unwrap_err();
    assert_eq!(none.problem().unwrap().status, 400);
}

async fn fences_are_looked_at(world: World) {
    let mut config = Config::default();
    config.allow_force_release = true;
    let gateway = world.gateway_with(config).await;
    let client = client(gateway.port);
    assert_eq!(client.fence(&fence("a:1")).await.unwrap(), None);
    let options = fencegate::client::AcquireOptions {
        label: Some("worker-7".into()),
        ..long()
    };
    let lease = client.acquire(&fence("a:1"), options).await.unwrap();
    let seen = client.fence(&fence("a:1")).await.unwrap().unwrap();
    assert_eq!(seen.mark, Some(lease.token().to_string()));
    let holder = seen.holder.unwrap();
    assert_eq!(holder.label, "worker-7");
    assert_eq!(holder.sequence, lease.token().sequence.to_string());
    client.acquire(&fence("b"), long()).await.unwrap();
    let listed = client.fences("a").all().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].mark, lease.token().to_string());

    client.force_release(&fence("a:1")).await.unwrap();
    let dead = client.check(&fence("a:1"), lease.token()).await.unwrap_err();
    assert!(
        matches!(&dead, ClientError::Problem(problem) if problem.name() == "holder-mismatch"),
        "{dead}"
    );
    let plain = world.gateway().await;
    let refused = super::client(plain.port)
        .force_release(&fence("b"))
        .await
        .unwrap_err();
    assert_eq!(refused.problem().unwrap().name(), "not-allowed");
}
