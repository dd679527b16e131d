//! `fencegate serve`.

use std::{io::Write, net::SocketAddr, time::Duration};

use anyhow::Context;
use clap::Args;
use fencegate::{
    Locks,
    gateway::{self, auth::Authentication, tls::Tls},
};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
};

use super::{access::Access, limits::Limits, servers::Servers};

#[derive(Args)]
pub(super) struct Serve {
    /// The address to listen on; port 0 takes a free one
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "FENCEGATE_LISTEN",
        default_value = "127.0.0.1:7411",
        value_parser = address
    )]
    listen: SocketAddr,
    /// Where clients reach this very gateway, to which others redirect the renewals of its leases from ZooKeeper
    #[arg(long, value_name = "URL", env = "FENCEGATE_ADVERTISE")]
    advertise: Option<String>,
    #[command(flatten)]
    servers: Servers,
    /// Bring the store's tables up to this version first
    #[arg(long, env = "FENCEGATE_MIGRATE")]
    migrate: bool,
    /// Raise the epoch without asking when the lock service's history went back or is another one, and when the store is
    /// quarantined; every lease from before is then over
    #[arg(long, env = "FENCEGATE_AUTO_REBASE")]
    auto_rebase: bool,
    #[command(flatten)]
    access: Access,
    #[command(flatten)]
    limits: Limits,
}

/// An IP address and a port.
fn address(text: &str) -> Result<SocketAddr, String> {
    let read = text.parse();
    read.map_err(|_| "it takes an IP address and a port, as 127.0.0.1:7411 or [::1]:7411".into())
}

impl Serve {
    /// The gateway's configuration; reads the files that it names.
    pub(super) fn config(&self) -> anyhow::Result<gateway::Config> {
        let mut config = gateway::Config::default();
        self.access.apply(&mut config)?;
        self.limits.apply(&mut config);
        // An empty variable is one that is not set. Read here, where no error shows what was given.
        let advertised = self.advertise.as_deref().filter(|url| !url.is_empty());
        config.advertise = advertised.map(str::parse).transpose().map_err(|error: String| {
            anyhow::anyhow!("--advertise, or FENCEGATE_ADVERTISE, cannot be what it is: {error}")
        })?;
        config.may_advertise()?;
        config.may_listen(self.listen)?;
        Ok(config)
    }

    /// Whether it could run, as far as that shows without a server.
    pub(super) async fn check(&self) -> anyhow::Result<()> {
        self.config()?;
        let (store, locks) = self.servers.urls();
        Ok(fencegate::connect::check(&store, locks.as_deref()).await?)
    }

    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = self.config()?;
        reload_on_hangup(&config)?;
        more_files();
        // Before anything is opened, so that a signal is never met by the default action half way.
        let shutdown = shutdown()?;
        let mut locks = self.servers.connect().await?;
        if self.auto_rebase {
            locks = locks.with_auto_rebase(&format!("a gateway, {}", super::who()));
        }
        if self.migrate {
            let migrated = locks.migrate().await;
            migrated.context("the store's tables could not be brought up to date")?;
        } else {
            look(&locks).await;
        }
        let listener = TcpListener::bind(self.listen).await;
        let listener = listener.with_context(|| format!("cannot listen on {}", self.listen))?;
        announce(&locks, listener.local_addr()?, config.tls.is_some());
        gateway::serve(listener, shutdown, locks, config).await?;
        tracing::info!("stopped");
        Ok(())
    }
}

/// As many connections as the system lets this process have: the limit that it starts with is often a thousand, for the
/// sake of programs that use `select`.
fn more_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// Says what is wrong with the store, if anything is. The gateway serves all the same: the store may come back.
async fn look(locks: &Locks) {
    match tokio::time::timeout(Duration::from_secs(2), locks.store().check()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the store is not usable yet"),
        Err(_) => tracing::warn!("the store does not answer yet; look closer with: fencegate doctor"),
    }
}

/// One line on standard output, for whoever waits for it.
fn announce(locks: &Locks, address: SocketAddr, tls: bool) {
    let (store, service) = (locks.store().describe(), locks.service().kind());
    tracing::info!(%address, store, lock_service = %service, "listening");
    let scheme = if tls { "https" } else { "http" };
    // Nobody may be reading, which is fine.
    let _ = writeln!(std::io::stdout(), "listening on {scheme}://{address}");
}

/// Reads clients, keys and certificates anew with each SIGHUP. What is wrong then changes nothing.
fn reload_on_hangup(config: &gateway::Config) -> anyhow::Result<()> {
    let mut hangups = signal(SignalKind::hangup())?;
    let (authentication, tls) = (config.authentication.clone(), config.tls.clone());
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            let clients = authentication.as_ref().map(Authentication::reload);
            let certificates = tls.as_ref().map(Tls::reload);
            match clients {
                Some(Ok(())) => tracing::info!("clients were read anew"),
                Some(Err(error)) => {
                    tracing::error!(%error, "clients cannot be read anew, those from before still count")
                }
                None => {}
            }
            match certificates {
                Some(Ok(())) => tracing::info!("certificates were read anew"),
                Some(Err(error)) => {
                    tracing::error!(%error, "certificates cannot be read anew, those from before still count");
                }
                None => {}
            }
        }
    });
    Ok(())
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
