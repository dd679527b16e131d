//! Locks in ZooKeeper, records in a store beside it. The lock's layout is that of Curator's `InterProcessMutex`, so
//! programs that use Curator on the same path wait for this one, and this one for them.
//!
//!     cargo run --example zookeeper -- zookeeper://127.0.0.1:2181/fencegate/locks sqlite:shop.db

use std::time::Duration;

use fencegate::{
    Locks, RecordKey, Token, connect,
    store::{Change, Condition, Value, Write},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let zookeeper = arguments.next().ok_or("give the URL of a ZooKeeper")?;
    let store = arguments.next().unwrap_or_else(|| "sqlite:shop.db".into());
    let (first, second) = run(&zookeeper, &store).await?;
    // Each token's sequence is the czxid of a znode: it rises with every lock, also of other programs.
    println!("written with token {first}, then with {second}");
    Ok(())
}

/// Two workers take turns; answers with their tokens.
pub async fn run(zookeeper: &str, store: &str) -> Result<(Token, Token), Box<dyn std::error::Error>> {
    let locks = connect(store, Some(zookeeper)).await?;
    locks.migrate().await?;
    // The second one waits in ZooKeeper's queue for the first.
    tokio::try_join!(work(&locks, "one"), work(&locks, "two"))
}

async fn work(locks: &Locks, worker: &str) -> Result<Token, Box<dyn std::error::Error>> {
    // Renews itself. ZooKeeper grants no session shorter than two of the server's ticks, commonly 4 s.
    let lease = locks.acquire("shop:stock", Duration::from_secs(10)).await?;
    let write = Write {
        fence: lease.name().clone(),
        token: lease.token().mark(),
        key: "socks".parse::<RecordKey>()?,
        change: Change::Put(Value {
            bytes: format!("counted by {worker}").into(),
            content_type: "text/plain".into(),
        }),
        condition: Condition::Always,
    };
    locks.store().write(write).await?;
    let token = lease.token().clone();
    lease.release().await?;
    Ok(token)
}
