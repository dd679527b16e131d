use std::time::Duration;

use etcd_client::Client;

use crate::support::eventually::PATIENCE;
use crate::support::{Etcd, eventually};

#[tokio::test]
async fn keeps_its_keys_over_kill_9_and_restart() {
    let mut server = Etcd::start().await;
    let mut client = Client::connect(server.endpoints(), None).await.unwrap();
    let revision = client
        .put("key", "kept", None)
        .await
        .unwrap()
        .header()
        .unwrap()
        .revision();

    server.kill9();
    client.get("key", None).await.unwrap_err();

    server.restart().await;
    let answer = client.get("key", None).await.unwrap();
    assert_eq!(answer.kvs()[0].value_str().unwrap(), "kept");
    assert_eq!(answer.kvs()[0].create_revision(), revision);
}

#[tokio::test]
async fn a_cluster_goes_on_without_its_leader() {
    let mut cluster = Etcd::builder().quick().start_cluster(3).await;
    let mut client = Client::connect(cluster.endpoints(), None).await.unwrap();
    client.put("key", "kept", None).await.unwrap();
    let leader = cluster.leader().await.unwrap();

    cluster.members[leader].kill9();
    // A request that the dying leader had taken on is lost, and is given up by its member only after seconds.
    eventually(PATIENCE, async || {
        let put = client.put("key", "newer", None);
        matches!(tokio::time::timeout(Duration::from_secs(1), put).await, Ok(Ok(_)))
    })
    .await;
    let next = cluster.leader().await.unwrap();
    assert_ne!(next, leader);

    cluster.members[leader].restart().await;
    let mut client = Client::connect(cluster.members[leader].endpoints(), None)
        .await
        .unwrap();
    assert_eq!(
        client.get("key", None).await.unwrap().kvs()[0]
            .value_str()
            .unwrap(),
        "newer"
    );
}
