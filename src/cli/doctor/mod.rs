//! `fencegate doctor`: are the servers there, and are they safe to use? A file for each kind of server.
//!
//! It changes nothing in a store. A lock service that was never used gets its name, as by any first use.

mod clock;
mod etcd;
mod finding;
mod gateway;
mod history;
#[cfg(feature = "postgres")]
mod postgres;
mod redis;
mod sqlite;
mod version;
mod zookeeper;

use std::process::ExitCode;

use clap::Args;
use fencegate::lock::{Kind, Server};
use serde::Serialize;

use self::finding::{Finding, Findings, Severity};
use super::{exit::Exit, output::Output, servers::Servers, through_gateway::ThroughGateway};

#[derive(Args)]
#[command(
    after_help = "It looks at the store and the lock service that are named, at a gateway if one is named, and otherwise at \
    fencegate.db.\n\nExit status: 0 if all is well, 3 if there are warnings, 4 if something is unsafe or does not answer."
)]
pub(super) struct Doctor {
    #[command(flatten)]
    servers: Servers,
    #[command(flatten)]
    gateway: ThroughGateway,
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct Report<'a> {
    worst: Severity,
    findings: &'a [Finding],
}

impl Doctor {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let mut findings = Vec::new();
        if self.gateway.is_known() {
            findings.extend(gateway::look(&self.gateway.client()?).await.into_list());
        }
        if self.servers.are_known() || !self.gateway.is_known() {
            findings.extend(self.look_at_servers().await?);
        }
        let worst = findings.iter().map(|finding| finding.severity).max();
        let worst = worst.unwrap_or(Severity::Ok);
        let report = Report {
            worst,
            findings: &findings,
        };
        self.output.say(&report, || finding::told(&findings))?;
        Ok(match worst {
            Severity::Ok | Severity::Note => ExitCode::SUCCESS,
            Severity::Warning => Exit::Warnings.into(),
            Severity::Unsafe => Exit::Unsafe.into(),
        })
    }

    async fn look_at_servers(&self) -> anyhow::Result<Vec<Finding>> {
        let (store, locks) = self.servers.urls();
        let (findings, is_usable) = look_at_database("store", &store).await?;
        let mut list = findings.into_list();
        if let Some(url) = locks.as_deref().filter(|url| url.contains(':'))
            && ["postgres", "sqlite"].iter().any(|kind| url.starts_with(kind))
        {
            list.extend(look_at_database("locks", url).await?.0.into_list());
        }
        let is_own = locks.as_deref().is_none_or(|url| !url.contains(':'));
        // A file that is not there, or not of this version, would be made and changed.
        let is_openable = is_usable || !store.starts_with("sqlite:");
        if is_own && !is_usable || !is_openable {
            return Ok(list);
        }
        let opened = self.servers.connect().await?;
        let kind = opened.service().kind();
        let servers = opened.service().servers().await;
        for server in &servers {
            list.extend(look_at_lock_server(kind, server).into_list());
        }
        if is_usable {
            list.extend(history::look(&opened, &servers).await?.into_list());
        }
        Ok(list)
    }
}

async fn look_at_database(place: &str, url: &str) -> anyhow::Result<(Findings, bool)> {
    if let Some(file) = super::servers::sqlite_file(url) {
        return sqlite::look(place, file).await;
    }
    #[cfg(feature = "postgres")]
    if ["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| url.starts_with(scheme))
    {
        return postgres::look(place, url).await;
    }
    // Says which URLs there are.
    fencegate::connect(url, None).await?;
    anyhow::bail!("this store cannot be looked at")
}

fn look_at_lock_server(kind: Kind, server: &Server) -> Findings {
    let mut findings = Findings::of(format!("locks: {kind} at {}", server.address));
    match &server.facts {
        Err(error) => findings.add(
            Severity::Unsafe,
            format!("it does not answer: {error}"),
            "with a majority of the servers away, or the only one, no lease is granted or renewed",
            "look whether it runs, and whether this machine may connect to it",
        ),
        Ok(facts) => match kind {
            Kind::Etcd => etcd::judge(&mut findings, facts),
            Kind::Zookeeper => zookeeper::judge(&mut findings, facts),
            Kind::Redis | Kind::Redlock => redis::judge(&mut findings, kind, facts),
            _ => {}
        },
    }
    findings
}
