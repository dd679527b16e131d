//! `fencegate serve`.

use std::{io::Write, net::SocketAddr, time::Duration};

use anyhow::Context;
use clap::Args;
use fencegate::{Locks, gateway};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
};

use super::servers::Servers;

#[derive(Args)]
pub(super) struct Serve {
    /// The address to listen on; port 0 takes a free one
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "FENCEGATE_LISTEN",
        default_value = "127.0.0.1:7411"
    )]
    listen: SocketAddr,
    #[command(flatten)]
    servers: Servers,
    /// Bring the store's tables up to this version first
    #[arg(long, env = "FENCEGATE_MIGRATE")]
    migrate: bool,
    /// How long requests have to finish after SIGTERM or SIGINT
    #[arg(long, value_name = "DURATION", env = "FENCEGATE_DRAIN_TIMEOUT", default_value = "25s",
          value_parser = humantime::parse_duration)]
    drain_timeout: Duration,
    /// How long to go on serving after SIGTERM or SIGINT while /readyz says that it ends
    #[arg(long, value_name = "DURATION", env = "FENCEGATE_DRAIN_NOTICE", default_value = "0s",
          value_parser = humantime::parse_duration)]
    drain_notice: Duration,
    /// How long the answer to a write with an Idempotency-Key is kept
    #[arg(long, value_name = "DURATION", env = "FENCEGATE_IDEMPOTENCY_KEEP", default_value = "24h",
          value_parser = humantime::parse_duration)]
    idempotency_keep: Duration,
    /// Listen beyond loopback although whoever reaches the address may then do everything
    #[arg(long, env = "FENCEGATE_ALLOW_PLAINTEXT_WITHOUT_AUTH")]
    allow_plaintext_without_auth: bool,
    /// Let whoever reaches the address release other holders' leases, with DELETE .../lease?force=true
    #[arg(long, env = "FENCEGATE_ALLOW_FORCE_RELEASE")]
    allow_force_release: bool,
}

impl Serve {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let mut config = gateway::Config::default();
        config.allow_plaintext_without_auth = self.allow_plaintext_without_auth;
        config.allow_force_release = self.allow_force_release;
        config.idempotency_keep = self.idempotency_keep;
        config.drain_timeout = self.drain_timeout;
        config.drain_notice = self.drain_notice;
        config.may_listen(self.listen)?;
        // Before anything is opened, so that a signal is never met by the default action half way.
        let shutdown = shutdown()?;
        let locks = self.servers.connect().await?;
        if self.migrate {
            let migrated = locks.migrate().await;
            migrated.context("the store's tables could not be brought up to date")?;
        } else {
            look(&locks).await;
        }
        let listener = TcpListener::bind(self.listen).await;
        let listener = listener.with_context(|| format!("cannot listen on {}", self.listen))?;
        announce(&locks, listener.local_addr()?);
        gateway::serve(listener, shutdown, locks, config).await?;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Says what is wrong with the store, if anything is. The gateway serves all the same: the store may come back.
async fn look(locks: &Locks) {
    match tokio::time::timeout(Duration::from_secs(2), locks.store().check()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the store is not usable yet"),
        Err(_) => tracing::warn!("the store does not answer yet"),
    }
}

/// One line on standard output, for whoever waits for it.
fn announce(locks: &Locks, address: SocketAddr) {
    let (store, service) = (locks.store().describe(), locks.service().kind());
    tracing::info!(%address, store, lock_service = %service, "listening");
    // Nobody may be reading, which is fine.
    let _ = writeln!(std::io::stdout(), "listening on http://{address}");
}

/// Ends with the first SIGTERM or SIGINT; a second one ends the process there and then.
fn shutdown() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let mut signals = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        either(&mut signals).await;
        tokio::spawn(async move {
            either(&mut signals).await;
            tracing::warn!("told twice: stopping without waiting");
            std::process::exit(1);
        });
    })
}

async fn either((terminate, interrupt): &mut (Signal, Signal)) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
