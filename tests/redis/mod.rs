//! What is Redis's own: lost answers, histories that end, waiting without a queue, strangers' locks, sentinels.

mod answers;
mod history;
mod sentinel;
mod strangers;
mod waiting;

use std::time::Duration;

use fencegate::{
    Holder,
    lock::{LockService, Request, redis::RedisLocks},
};
use redis::{Client, aio::MultiplexedConnection};

use crate::support::Redis;

/// Long enough that a test which waits for it fails.
const LONG: Duration = Duration::from_secs(120);

/// A request of a fresh holder that tries once.
fn request(name: &str) -> Request {
    Request {
        name: crate::world::name(name),
        holder: Holder::random(),
        label: String::new(),
        ttl: LONG,
        wait: Duration::ZERO,
        floor: 0,
    }
}

/// The same, waiting for up to 60 s.
fn waiting(name: &str) -> Request {
    let wait = Duration::from_secs(60);
    Request {
        wait,
        ..request(name)
    }
}

fn locks(url: &str) -> RedisLocks {
    RedisLocks::connect(url).unwrap()
}

/// A connection beside the service's own.
async fn beside(server: &Redis) -> MultiplexedConnection {
    let client = Client::open(server.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

async fn is_free(locks: &RedisLocks, name: &str) -> bool {
    let name = crate::world::name(name);
    locks.inspect(&name).await.unwrap().holder.is_none()
}

/// How many scripts the server has run.
async fn scripts(beside: &mut MultiplexedConnection) -> u64 {
    let mut info = redis::cmd("INFO");
    let text: String = info.arg("commandstats").query_async(beside).await.unwrap();
    let line = text.lines().find(|line| line.starts_with("cmdstat_evalsha:"));
    line.and_then(|line| line.split_once("calls=")?.1.split(',').next()?.parse().ok())
        .unwrap_or(0)
}
