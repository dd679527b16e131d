//! Leases that renew themselves, and the gateways that they outlive or do not.

use std::time::Duration;

use fencegate::{
    client::{AcquireOptions, Client, ClientError},
    gateway::Config,
    store::Condition,
};

use super::{super::program::Program, World, client, fence, key, long, of};
use crate::support::{Process, Proxy, eventually, eventually::PATIENCE, ports::Port};

const SHORT: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_lease_renews_itself_until_it_is_released() {
    let world = World::postgres().await;
    let gateway = world.gateway().await;
    let (client, a) = (client(gateway.port), fence("a"));
    let lease = client.acquire(&a, of(SHORT)).await.unwrap();
    // Nobody gets it for longer than it lasts by itself.
    let other = AcquireOptions {
        wait: Some(SHORT * 2),
        ..long()
    };
    assert!(client.acquire(&a, other).await.unwrap_err().is_busy());
    assert!(!lease.is_lost() && lease.remaining() > Duration::ZERO);
    let (cancelled, token) = (lease.cancelled(), lease.token().clone());
    lease.release().await.unwrap();
    assert!(cancelled.is_cancelled());
    assert!(client.renew(&a, &token).await.unwrap_err().is_lost());
    let dropped = client.acquire(&a, long()).await.unwrap();
    drop(dropped);
    client.acquire(&a, super::patiently()).await.unwrap();
}

#[tokio::test]
async fn a_lease_that_somebody_ends_is_lost_at_its_next_renewal() {
    let world = World::postgres().await;
    let mut config = Config::default();
    config.allow_force_release = true;
    let gateway = world.gateway_with(config).await;
    let (client, a) = (client(gateway.port), fence("a"));
    let lease = client.acquire(&a, of(SHORT)).await.unwrap();
    client.force_release(&a).await.unwrap();
    let work = lease.run(std::future::pending::<()>());
    let stopped = tokio::time::timeout(PATIENCE, work).await.expect("it is told");
    assert!(matches!(stopped, Err(ClientError::Lost)));
    assert!(lease.renew().await.unwrap_err().is_lost());
    let write = lease
        .put(&key("k"), vec![], "text/plain", Condition::Always.into())
        .await;
    assert!(matches!(write, Err(ClientError::Lost)));
}

#[tokio::test]
async fn a_lease_is_lost_by_its_deadline_when_the_gateway_is_silent_and_never_comes_back() {
    let world = World::sqlite().await;
    let gateway = world.gateway().await;
    let proxy = Proxy::start(format!("127.0.0.1:{}", gateway.port)).await;
    let (through, a) = (client(proxy.addr().port()), fence("a"));
    let lease = through.acquire(&a, of(SHORT)).await.unwrap();
    proxy.pause();
    let longest = lease.remaining();
    let begun = std::time::Instant::now();
    tokio::time::timeout(PATIENCE, lease.lost())
        .await
        .expect("it is told");
    // A renewal that was answered just before the silence may have moved the deadline, by no more than a TTL.
    assert!(begun.elapsed() < longest + lease.ttl(), "{:?}", begun.elapsed());
    assert_eq!(lease.remaining(), Duration::ZERO);
    let direct = client(gateway.port);
    let next = direct.acquire(&a, super::patiently()).await.unwrap();
    proxy.resume();
    assert!(lease.is_lost());
    assert!(matches!(lease.renew().await, Err(ClientError::Lost)));
    direct.check(&a, next.token()).await.unwrap();
}

/// A gateway of its own process, always on the same port.
async fn serve(program: &Program, port: &Port) -> (Process, Client) {
    let listen = format!("127.0.0.1:{}", port.number());
    // Its log says where it listens: of this start, not of an earlier one.
    let _ = std::fs::remove_file(program.folder.path().join("log"));
    let (process, _) = program
        .serve(program.command(&["serve", "--listen", &listen]))
        .await;
    (process, client(port.number()))
}

#[tokio::test]
async fn a_lease_outlives_a_gateway_that_is_killed_and_started_again() {
    let (program, port) = (Program::new(), Port::reserve());
    let (mut process, client) = serve(&program, &port).await;
    let a = fence("a");
    let ttl = Duration::from_secs(60);
    let lease = client.acquire(&a, of(ttl)).await.unwrap();
    process.kill9();
    assert!(matches!(
        Client::builder(client.url())
            .patience(Duration::ZERO)
            .build()
            .unwrap()
            .fence(&a)
            .await,
        Err(ClientError::Unreachable { .. })
    ));
    let (mut process, _) = serve(&program, &port).await;
    let before = lease.remaining();
    lease.renew().await.unwrap();
    assert!(lease.remaining() > before);
    lease
        .put(&key("k"), b"v".to_vec(), "text/plain", Condition::Always.into())
        .await
        .unwrap();

    // While it is away, renewals of a short lease fail and are tried again, until it is too late.
    let short = client.acquire(&fence("b"), of(SHORT)).await.unwrap();
    process.kill9();
    tokio::time::timeout(PATIENCE, short.lost())
        .await
        .expect("it is told");
    assert!(!lease.is_lost());
    let (_process, _) = serve(&program, &port).await;
    assert!(short.is_lost(), "it is never taken back");
    client.check(&a, lease.token()).await.unwrap();
    lease.release().await.unwrap();
}

#[tokio::test]
async fn renewals_that_fail_are_tried_again_by_themselves() {
    let world = World::sqlite().await;
    let gateway = world.gateway().await;
    let mut proxy = Proxy::start(format!("127.0.0.1:{}", gateway.port)).await;
    let client = client(proxy.addr().port());
    let lease = client
        .acquire(&fence("a"), of(Duration::from_secs(9)))
        .await
        .unwrap();
    // Away for longer than the first renewal waits for.
    proxy.refuse(true).await;
    proxy.cut();
    eventually(PATIENCE, async || lease.remaining() < Duration::from_secs(5)).await;
    proxy.refuse(false).await;
    eventually(PATIENCE, async || lease.remaining() > Duration::from_secs(6)).await;
    assert!(!lease.is_lost());
}
