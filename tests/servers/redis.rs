use redis::{AsyncCommands, Client};

use crate::support::Redis;

#[tokio::test]
async fn keeps_its_keys_over_kill_9_and_restart() {
    let mut server = Redis::builder().durable().start().await;
    let client = Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let () = connection.set("key", "kept").await.unwrap();

    server.kill9();
    connection.get::<_, String>("key").await.unwrap_err();

    server.restart().await;
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    assert_eq!(connection.get::<_, String>("key").await.unwrap(), "kept");
}

#[tokio::test]
async fn forgets_all_when_it_is_not_durable() {
    let mut server = Redis::start().await;
    let client = Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let () = connection.set("key", "lost").await.unwrap();
    server.restart().await;
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    assert_eq!(connection.get::<_, Option<String>>("key").await.unwrap(), None);
}
