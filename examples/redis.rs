//! Locks in Redis, which may forget them: a fail-over to a replica that has not heard of a lock yet gives it to a
//! second holder. Here the lock is deleted instead. The first holder still believes in it, and its write is
//! refused.
//!
//!     cargo run --example redis -- redis://127.0.0.1:6379 sqlite:shop.db

use std::time::Duration;

use fencegate::{
    Lease, Locks, StoreError, connect,
    store::{Change, Condition, Value, Write},
};

const FENCE: &str = "shop:stock";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let redis = arguments.next().ok_or("give the URL of a Redis server")?;
    let store = arguments.next().unwrap_or_else(|| "sqlite:shop.db".into());
    println!("the first holder: {}", run(&redis, &store).await?);
    Ok(())
}

/// Answers with what the first holder is told.
pub async fn run(redis: &str, store: &str) -> Result<String, Box<dyn std::error::Error>> {
    let locks = connect(store, Some(redis)).await?;
    locks.migrate().await?;
    let first = locks.acquire(FENCE, Duration::from_secs(30)).await?;
    count(&locks, &first, "12 pairs").await?;

    // The lock is a plain key, as that of redis-py's `Lock`.
    let mut server = redis::Client::open(redis)?
        .get_multiplexed_async_connection()
        .await?;
    let _: i64 = redis::cmd("DEL")
        .arg(format!("fencegate/locks/{FENCE}"))
        .query_async(&mut server)
        .await?;

    let second = locks.acquire(FENCE, Duration::from_secs(30)).await?;
    count(&locks, &second, "11 pairs").await?;
    let told = match count(&locks, &first, "13 pairs").await {
        Err(error) if error.is_stale() => error.to_string(),
        other => return Err(format!("expected a refusal, not {other:?}").into()),
    };
    second.release().await?;
    Ok(told)
}

async fn count(locks: &Locks, lease: &Lease, socks: &str) -> Result<(), StoreError> {
    let write = Write {
        fence: lease.name().clone(),
        token: lease.token().mark(),
        key: "socks".parse().expect("a constant"),
        change: Change::Put(Value {
            bytes: socks.into(),
            content_type: "text/plain".into(),
        }),
        condition: Condition::Always,
    };
    locks.store().write(write).await.map(drop)
}
