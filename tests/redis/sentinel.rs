//! A master that dies, and sentinels that name another.

use std::{collections::HashMap, process::Command, time::Duration};

use fencegate::lock::{LockError, LockService};
use redis::{AsyncCommands, Client};

use super::{beside, locks, request};
use crate::support::{Process, Redis, eventually, folder, ports::Port, programs};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn locks_go_on_where_the_sentinels_say() {
    let mut master = Redis::start().await;
    let replica = Redis::builder()
        .set("replicaof", format!("127.0.0.1 {}", master.port()))
        .start()
        .await;
    let (folder, port) = (folder("sentinel"), Port::reserve());
    let configuration = folder.path().join("sentinel.conf");
    let lines = format!(
        "port {}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {} 1\nsentinel down-after-milliseconds main 300\n\
         sentinel failover-timeout main 2000\n",
        port.number(),
        master.port()
    );
    std::fs::write(&configuration, lines).unwrap();
    let mut command = Command::new(programs::find("redis-server", "redis-server", &[]));
    command
        .arg(&configuration)
        .arg("--sentinel")
        .current_dir(folder.path());
    let mut sentinel = Process::spawn("sentinel", command, &folder.path().join("log"));
    let number = port.number();
    let knows_replica = move || async move {
        let client = Client::open(format!("redis://127.0.0.1:{number}")).unwrap();
        let asking = async {
            let mut connection = client.get_multiplexed_async_connection().await?;
            let mut ask = redis::cmd("SENTINEL");
            ask.arg("REPLICAS").arg("main");
            ask.query_async::<Vec<HashMap<String, String>>>(&mut connection)
                .await
        };
        match asking.await {
            // Until it has asked the replica itself, it does not know that it may follow.
            Ok(replicas)
                if replicas
                    .iter()
                    .any(|replica| replica["master-link-status"] == "ok") =>
            {
                Ok(())
            }
            other => Err(format!("{other:?}")),
        }
    };
    sentinel
        .ready(knows_replica)
        .await
        .map_err(|error| error.text)
        .unwrap();

    let locks = locks(&format!("redis+sentinel://127.0.0.1:{number}/main"));
    let held = locks.acquire(&request("a")).await.unwrap();
    let mut there = beside(&replica).await;
    eventually(SOON, async || {
        there.exists::<_, bool>("fencegate/locks/a").await.unwrap()
    })
    .await;

    master.kill9();
    let error = locks.renew(&held.claim).await.unwrap_err();
    assert!(matches!(error, LockError::Unavailable { .. }), "{error}");
    eventually(SOON, async || locks.renew(&held.claim).await.is_ok()).await;
    locks.release(&held.claim).await.unwrap();
    let next = locks.acquire(&request("a")).await.unwrap();
    assert_eq!((next.claim.sequence.get(), next.identity), (2, held.identity));
}
