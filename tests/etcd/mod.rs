//! What is etcd's own: a lock that goes from hand to hand within a process, one that is given back, and requests that go
//! together.

mod giving_back;
mod handover;
mod leases;
mod members;
mod together;

use std::time::Duration;

use etcd_client::{Client, GetOptions, KeyValue};
use fencegate::{
    FenceName, Holder,
    lock::{Request, etcd::EtcdLocks},
};

use crate::support::Etcd;

/// Long enough for anything that a busy machine does.
const SOON: Duration = Duration::from_secs(20);
const IDENTITY: &str = "fencegate/locks-identity";

/// A lock service as one process has it.
async fn locks(endpoint: impl std::fmt::Display) -> EtcdLocks {
    EtcdLocks::connect(&format!("etcd://{endpoint}")).await.unwrap()
}

/// A client that is not fencegate.
async fn stranger(server: &Etcd) -> Client {
    Client::connect([server.endpoint()], None).await.unwrap()
}

/// Asks for the fence `f` for a fresh holder, trying once.
fn request() -> Request {
    Request {
        name: name(),
        holder: Holder::random(),
        label: "worker-7".into(),
        ttl: Duration::from_secs(600),
        wait: Duration::ZERO,
        floor: 0,
    }
}

/// The same, waiting.
fn waiting() -> Request {
    Request {
        wait: SOON,
        ..request()
    }
}

fn name() -> FenceName {
    "f".parse().unwrap()
}

/// The queue of the fence `f`.
async fn keys(stranger: &mut Client) -> Vec<KeyValue> {
    let all = GetOptions::new().with_prefix();
    stranger
        .get("fencegate/locks/f/", Some(all))
        .await
        .unwrap()
        .take_kvs()
}
