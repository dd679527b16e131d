//! The library's client, against real gateways, through networks that fail.

mod answers;
mod calls;
mod keeping;
mod tls;
mod waiting;

use std::time::Duration;

use fencegate::{
    FenceName, RecordKey,
    client::{AcquireOptions, Client},
    store::Value,
};

use super::World;

/// A client of the gateway on this port.
fn client(port: u16) -> Client {
    Client::new(&format!("http://127.0.0.1:{port}")).unwrap()
}

fn fence(name: &str) -> FenceName {
    name.parse().unwrap()
}

fn key(key: &str) -> RecordKey {
    key.parse().unwrap()
}

fn text(text: &str) -> Value {
    Value {
        bytes: text.into(),
        content_type: "text/plain".into(),
    }
}

/// For longer than any test takes.
fn long() -> AcquireOptions {
    of(Duration::from_secs(300))
}

fn of(ttl: Duration) -> AcquireOptions {
    AcquireOptions {
        ttl: Some(ttl),
        ..AcquireOptions::default()
    }
}

/// Waits for longer than a test takes, but not as long as a lease that was left behind.
fn patiently() -> AcquireOptions {
    AcquireOptions {
        wait: Some(Duration::from_secs(30)),
        ..long()
    }
}
