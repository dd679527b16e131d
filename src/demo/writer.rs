//! A writer of the demo: a process of its own that speaks HTTP to a gateway, and tells the demo on its standard
//! output what it does, a line of JSON each.

use std::{
    io::{BufRead, Write as _},
    time::Duration,
};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::{Happening, LEDGER};
use fencegate::{
    client::{AcquireOptions, Client, ClientError, GrantedLease},
    clock,
    name::{FenceName, RecordKey},
    store::{Condition, Value},
    token::Token,
};

/// How often a grant may be refused for its number: what happens once is what a story tells of, and what goes on no retry
/// mends.
const REFUSALS: u32 = 3;

/// What a writer is told when it is started.
#[derive(Debug, Clone)]
pub struct Writer {
    /// Its name, which it adds to the ledger.
    pub name: String,
    /// The gateway.
    pub gateway: String,
    /// The fence.
    pub fence: FenceName,
    /// The time to live to ask for.
    pub ttl: Duration,
    /// Whether to wait for orders between the first reading and writing.
    pub waits: bool,
}

/// A line of a writer's output.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line {
    /// Microseconds on the clock that all processes share.
    pub(super) at_us: u64,
    #[serde(flatten)]
    pub(super) happening: Happening,
}

/// A line of the input of a writer that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// Try to renew the lease, and say what came of it.
    Renew,
    /// Go on, and write.
    Write,
}

impl Writer {
    /// Reads the ledger, adds its name and writes it back, under a lease; again if the write is refused.
    ///
    /// # Errors
    /// When the gateway cannot be asked, or refuses for another reason than the token.
    pub async fn run(self) -> anyhow::Result<()> {
        let client = Client::new(&self.gateway)?;
        let ledger: RecordKey = LEDGER.parse()?;
        let mut waits = self.waits;
        loop {
            let lease = self.acquire(&client).await?;
            let record = client.read(&self.fence, &ledger).await?;
            let mut names: Vec<String> = match record {
                Some(record) => serde_json::from_slice(&record.value.bytes)?,
                None => Vec::new(),
            };
            tell(Happening::Read {
                ledger: names.clone(),
            })?;
            while std::mem::take(&mut waits) {
                if order()? == Order::Renew {
                    self.renew(&lease.token).await?;
                    waits = true;
                }
            }
            names.push(self.name.clone());
            if self.write(&client, &lease.token, &ledger, names).await? {
                client.release(&self.fence, &lease.token).await?;
                return tell(Happening::Released);
            }
        }
    }

    /// Asks until it has a lease, or surely gets none.
    pub(super) async fn acquire(&self, client: &Client) -> anyhow::Result<GrantedLease> {
        let options = AcquireOptions {
            ttl: Some(self.ttl),
            wait: Some(self.ttl * 2 + Duration::from_secs(20)),
            label: Some(format!("demo writer {}", self.name)),
            holder: None,
        };
        let mut refusals = 0;
        loop {
            tell(Happening::Asks)?;
            match client.grant(&self.fence, &options).await {
                Ok(lease) => {
                    tell(Happening::Holds {
                        token: lease.token.to_string(),
                        ttl_ms: u64::try_from(lease.ttl.as_millis())?,
                    })?;
                    return Ok(lease);
                }
                // Another one has this very number: the next attempt gets a higher one.
                Err(ClientError::Problem(problem)) if problem.name() == "lock-service-regressed" => {
                    tell(Happening::NotGranted {
                        status: problem.status,
                        problem: problem.name().to_owned(),
                    })?;
                    refusals += 1;
                    if refusals == REFUSALS {
                        return Err(ClientError::Problem(problem).into());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Tries once, and tells of it, where a program would try until its lease is over.
    async fn renew(&self, token: &Token) -> anyhow::Result<()> {
        let client = Client::builder(&self.gateway).patience(Duration::ZERO).build()?;
        match client.renew(&self.fence, token).await {
            Ok(_) => bail!("the lease was renewed, so the way to the lock service was not cut"),
            Err(ClientError::Problem(problem)) => tell(Happening::NotRenewed {
                status: problem.status,
                problem: problem.name().to_owned(),
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the write was accepted.
    async fn write(
        &self,
        client: &Client,
        token: &Token,
        ledger: &RecordKey,
        names: Vec<String>,
    ) -> anyhow::Result<bool> {
        let value = Value {
            bytes: serde_json::to_vec(&names)?,
            content_type: "application/json".into(),
        };
        match client
            .put(&self.fence, token, ledger, value, Condition::Always)
            .await
        {
            Ok(_) => {
                let added = self.name.clone();
                tell(Happening::Wrote {
                    token: token.to_string(),
                    ledger: names,
                    added,
                })?;
                Ok(true)
            }
            Err(ClientError::Problem(problem)) if problem.status == 412 => {
                tell(Happening::Refused {
                    token: token.to_string(),
                    ledger: names,
                    status: problem.status,
                    problem: problem.name().to_owned(),
                    mark: problem.mark.clone(),
                })?;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Waits for the next order.
fn order() -> anyhow::Result<Order> {
    Ok(serde_json::from_str(&line()?)?)
}

/// Waits for a line of the standard input.
pub(super) fn line() -> anyhow::Result<String> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .context("waiting for the demo")?;
    Ok(line)
}

pub(super) fn tell(happening: Happening) -> anyhow::Result<()> {
    let at_us = u64::try_from(clock::boot().1.as_micros())?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(&Line { at_us, happening })?)?;
    Ok(out.flush()?)
}
