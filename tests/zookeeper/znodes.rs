//! What stands in ZooKeeper.

use super::*;

const TTL: Duration = Duration::from_secs(2);

#[tokio::test]
async fn the_sequence_is_the_czxid_and_not_the_number_in_the_name() {
    let server = ZooKeeper::start().await;
    let (locks, stranger) = (locks(server.endpoint()), stranger(&server).await);
    let mut last = 0;
    for _ in 0..3 {
        let held = locks.acquire(&waiting(TTL)).await.unwrap();
        let znode = stranger.list_children(LOCK).await.unwrap().pop().unwrap();
        let stat = stranger
            .check_stat(&format!("{LOCK}/{znode}"))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(held.claim.sequence.get(), stat.czxid);
        assert!(
            znode.starts_with("_c_") && znode[39..].starts_with("-lock-"),
            "{znode}"
        );
        assert!(stat.czxid > last);
        last = stat.czxid;
        locks.release(&held.claim).await.unwrap();
        // As the server does with an empty container: the numbers in the names start over.
        stranger.delete(LOCK, None).await.unwrap();
    }
}

#[tokio::test]
async fn a_container_that_is_reaped_is_made_again() {
    let server = ZooKeeper::builder()
        .set("znode.container.checkIntervalMs", 100)
        .start()
        .await;
    let (locks, stranger) = (locks(server.endpoint()), stranger(&server).await);
    locks
        .release(&locks.acquire(&waiting(TTL)).await.unwrap().claim)
        .await
        .unwrap();
    stranger.delete(LOCK, None).await.unwrap();
    let container = CreateMode::Container.with_acls(Acls::anyone_all());
    stranger.create(LOCK, b"", &container).await.unwrap();
    for _ in 0..20 {
        let held = locks.acquire(&waiting(TTL)).await.unwrap();
        locks.release(&held.claim).await.unwrap();
        stranger.delete(LOCK, None).await.ok();
    }
}

#[tokio::test]
async fn only_a_strangers_live_lock_is_confirmed() {
    let server = ZooKeeper::start().await;
    let (locks, stranger) = (locks(server.endpoint()), stranger(&server).await);
    let identity = locks.identity().await.unwrap();
    let confirm = async |czxid: i64| {
        let sequence = fencegate::Sequence::new(czxid).unwrap();
        locks.confirm(&name(), sequence).await.unwrap()
    };
    assert_eq!(confirm(1).await, None, "no lock at all");

    let (first, first_czxid) = queue_up(&stranger).await;
    let (_, second_czxid) = queue_up(&stranger).await;
    assert_eq!(confirm(first_czxid).await, Some(identity.clone()));
    assert_eq!(confirm(first_czxid + 1).await, None, "a number that was guessed");
    assert_eq!(confirm(second_czxid).await, None, "one that waits");
    let seen = locks.inspect(&name()).await.unwrap();
    assert_eq!(seen.waiting, Some(1));
    let holder = seen.holder.unwrap();
    assert_eq!((holder.sequence.get(), holder.holder), (first_czxid, None));

    stranger.delete(&first, None).await.unwrap();
    assert_eq!(confirm(first_czxid).await, None, "one that was released");
    assert_eq!(confirm(second_czxid).await, Some(identity));
    drop(stranger);

    let held = locks.acquire(&waiting(TTL)).await.unwrap();
    assert_eq!(
        confirm(held.claim.sequence.get()).await,
        None,
        "one that fencegate granted"
    );
}

#[tokio::test]
async fn the_identity_is_made_once_and_beside_the_locks() {
    let server = ZooKeeper::start().await;
    let processes: Vec<_> = (0..8).map(|_| locks(server.endpoint())).collect();
    let identities = futures::future::join_all(processes.iter().map(LockService::identity)).await;
    let first = identities[0].as_ref().unwrap();
    assert!(
        identities
            .iter()
            .all(|identity| identity.as_ref().unwrap() == first)
    );
    let stranger = stranger(&server).await;
    let (data, _) = stranger.get_data("/fencegate/locks-identity").await.unwrap();
    assert_eq!(String::from_utf8(data).unwrap(), first.instance.to_string());

    // Whoever acquires sees another history at once.
    let other = uuid::Uuid::new_v4();
    stranger
        .set_data("/fencegate/locks-identity", other.to_string().as_bytes(), None)
        .await
        .unwrap();
    for request in [request(TTL), waiting(TTL)] {
        let held = processes[0].acquire(&request).await.unwrap();
        assert_eq!(held.identity.instance, other);
        processes[0].release(&held.claim).await.unwrap();
    }
}
