//! What a Redis server says of itself.

use std::{collections::HashMap, time::Duration};

use redis::cmd;
use time::OffsetDateTime;

use super::link::Link;
use crate::lock::{Facts, LockError, Server};

/// Fields of `INFO` that matter to locks.
const FIELDS: [&str; 5] = [
    "role",
    "aof_enabled",
    "maxmemory",
    "maxmemory_policy",
    "connected_slaves",
];

/// Asks the server at the other end of a link.
pub(in crate::lock) async fn ask(address: &str, link: &Link) -> Server {
    Server::new(address, facts(link).await)
}

async fn facts(link: &Link) -> Result<Facts, LockError> {
    let text: String = link.query(&cmd("INFO")).await?;
    let info: HashMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.trim().split_once(':'))
        .collect();
    let mut facts = Facts {
        version: info.get("redis_version").map(|version| (*version).to_owned()),
        clock: clock(link).await,
        ..Facts::default()
    };
    for field in FIELDS {
        if let Some(value) = info.get(field) {
            facts.settings.insert(field, (*value).to_owned());
        }
    }
    // Where others run the server, they may not let its configuration be read.
    let asked: Result<Vec<String>, _> = link.query(cmd("CONFIG").arg("GET").arg("appendfsync")).await;
    if let Ok([_, value]) = asked.as_deref() {
        facts.settings.insert("appendfsync", value.clone());
    }
    Ok(facts)
}

async fn clock(link: &Link) -> Option<(OffsetDateTime, Duration)> {
    let sent = std::time::Instant::now();
    let (seconds, micros): (i64, i64) = link.query(&cmd("TIME")).await.ok()?;
    let moment = OffsetDateTime::from_unix_timestamp(seconds).ok()?;
    Some((moment + time::Duration::microseconds(micros), sent.elapsed()))
}
