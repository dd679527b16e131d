use zookeeper_client::{Acls, Client, CreateMode};

use crate::support::ZooKeeper;

#[tokio::test]
async fn keeps_its_nodes_over_kill_9_and_restart() {
    let mut server = ZooKeeper::start().await;
    let client = Client::connect(&server.endpoint()).await.unwrap();
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    client.create("/kept", b"data", &options).await.unwrap();
    let before = client.check_stat("/kept").await.unwrap().unwrap();

    server.kill9();
    server.ask("srvr").await.unwrap_err();

    server.restart().await;
    let client = Client::connect(&server.endpoint()).await.unwrap();
    let (data, stat) = client.get_data("/kept").await.unwrap();
    assert_eq!((data.as_slice(), stat.czxid), (b"data".as_slice(), before.czxid));
}
