//! Redlock's own: any minority may be down, slow, or without its data.

mod ballots;
mod members;
mod minorities;

use std::time::Duration;

use fencegate::{
    Holder,
    lock::{LockError, LockService, Request, redlock::Redlock},
};
use redis::{AsyncCommands, Client};

use crate::support::{Proxy, Redis};

const SOON: Duration = Duration::from_secs(30);
/// Long enough that a test which waits for it fails.
const LONG: Duration = Duration::from_secs(120);

/// Three instances that keep their data.
async fn three() -> [Redis; 3] {
    let start = || Redis::builder().durable().start();
    let (a, b, c) = tokio::join!(start(), start(), start());
    [a, b, c]
}

fn locks(instances: &[Redis]) -> Redlock {
    named(instances.iter().map(Redis::endpoint))
}

/// Through a proxy for each.
fn proxied(proxies: &[Proxy]) -> Redlock {
    named(proxies.iter().map(|proxy| proxy.addr().to_string()))
}

fn named(addresses: impl Iterator<Item = String>) -> Redlock {
    let addresses: Vec<_> = addresses.collect();
    Redlock::connect(&format!("redlock://{}", addresses.join(","))).unwrap()
}

async fn proxies(instances: &[Redis]) -> Vec<Proxy> {
    futures::future::join_all(instances.iter().map(|instance| Proxy::start(instance.endpoint()))).await
}

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

/// Acquires and releases; the ballot.
async fn cycle(locks: &Redlock, name: &str) -> i64 {
    let held = locks.acquire(&request(name)).await.unwrap();
    locks.release(&held.claim).await.unwrap();
    held.claim.sequence.get()
}

async fn has_lock(instance: &Redis, name: &str) -> bool {
    let client = Client::open(instance.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    connection
        .exists(format!("fencegate/locks/{name}"))
        .await
        .unwrap()
}

fn assert_unavailable<T: std::fmt::Debug>(answer: Result<T, LockError>) -> String {
    match answer {
        Err(error @ LockError::Unavailable { .. }) => error.to_string(),
        other => panic!("expected it to be unavailable, not {other:?}"),
    }
}
