//! The stage on which a story is played: two gateways, each a writer's own, over one lock service and one store, and
//! somebody who watches both.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    Guard, LEDGER, Plan,
    child::{Child, Start},
    event::{Happening, Reporter, Who},
    proxy::Detour,
    watched::{Gate, Holding, WatchedLocks, WatchedStore},
};
use fencegate::{
    FenceName, GrantError, Locks, Options, RecordKey, connect, gateway,
    store::{Change, Condition, Write},
};

/// Where the store and the lock service are.
#[derive(Debug, Clone)]
pub struct Servers {
    /// The store's URL.
    pub store: String,
    /// The lock service's; `None` for the store's own.
    pub locks: Option<String>,
}

impl Servers {
    /// Opens both, on connections of their own.
    ///
    /// # Errors
    /// As [`connect`].
    pub async fn connect(&self) -> anyhow::Result<Locks> {
        Ok(connect(&self.store, self.locks.as_deref()).await?)
    }

    /// Refuses servers that give no leases together: every attempt of every writer would be refused.
    ///
    /// # Errors
    /// When the store's epoch belongs to another lock service, or one of the two cannot be asked.
    pub async fn check_history(locks: &Locks) -> anyhow::Result<()> {
        let state = locks.store().epoch().await?;
        let Some(bound) = state.bound else {
            return Ok(());
        };
        let found = locks.service().identity().await?;
        if bound == found {
            return Ok(());
        }
        let error = GrantError::OtherHistory {
            epoch: state.epoch.get(),
            bound: Box::new(bound),
            found: Box::new(found),
        };
        Err(error.into())
    }

    /// The lock service's URL, also where it is the store's own.
    pub(super) fn locks_url(&self) -> &str {
        match self.locks.as_deref() {
            None | Some("postgres" | "sqlite") => &self.store,
            Some(url) => url,
        }
    }
}

/// What a story has to work with.
pub(super) struct Stage {
    pub(super) servers: Servers,
    pub(super) guard: Guard,
    pub(super) fence: FenceName,
    pub(super) ttl: Duration,
    pub(super) reporter: Reporter,
    pub(super) a: Replica,
    pub(super) b: Replica,
    /// The demo's own connections.
    pub(super) own: Locks,
    pub(super) holding: Holding,
    _watching: AbortOnDropHandle<()>,
}

impl Stage {
    /// Sets everything up. With a detour, A's gateway reaches the lock service by it.
    pub(super) async fn set(
        servers: &Servers,
        guard: Guard,
        plan: &Plan,
        reporter: &Reporter,
        detour: Option<&Detour>,
    ) -> anyhow::Result<Self> {
        let fence: FenceName = format!("demo:{}", uuid::Uuid::new_v4().simple()).parse()?;
        let holding = Holding::default();
        let mut by_detour = servers.clone();
        if let Some(detour) = detour {
            by_detour.locks = Some(detour.url().to_owned());
        }
        let start = async |who, servers: &Servers| {
            Replica::start(servers.connect().await?, guard, who, &holding, reporter).await
        };
        let own = servers.connect().await?;
        let watching = holding
            .clone()
            .watch(own.service().clone(), fence.clone(), reporter.clone());
        Ok(Self {
            guard,
            fence,
            ttl: plan.ttl,
            a: start(Who::A, &by_detour).await?,
            b: start(Who::B, servers).await?,
            servers: servers.clone(),
            reporter: reporter.clone(),
            own,
            holding,
            _watching: AbortOnDropHandle::new(tokio::spawn(watching)),
        })
    }

    /// Starts A, which waits for orders before it writes.
    pub(super) fn start_a(&self) -> anyhow::Result<Child> {
        self.start(Who::A, true, &[])
    }

    /// Starts B, which does its work without a break.
    pub(super) fn start_b(&self) -> anyhow::Result<Child> {
        self.start(Who::B, false, &[])
    }

    pub(super) fn start(&self, who: Who, waits: bool, more: &[&str]) -> anyhow::Result<Child> {
        let gateway = match who {
            Who::B => &self.b.url,
            _ => &self.a.url,
        };
        let start = Start {
            who,
            gateway,
            fence: &self.fence,
            ttl: self.ttl,
            waits,
            more,
        };
        Child::start(&start, &self.reporter)
    }

    /// Something that the demo does to A, or to whoever else.
    pub(super) fn note(&self, who: Who, happening: Happening) {
        self.reporter.note(who, happening);
    }

    /// The ledger as it stands.
    pub(super) async fn ledger(&self) -> anyhow::Result<Vec<String>> {
        let record = self.own.store().read(&self.fence, &ledger()?).await?;
        let record = record.context("nobody wrote the ledger")?;
        serde_json::from_slice(&record.value.bytes).context("the ledger is not a list of names")
    }

    /// Takes away what the story has left in the servers: the ledger and the lock. The fence's mark and its counter
    /// stay, as they always do.
    pub(super) async fn clear(self) -> anyhow::Result<()> {
        drop(self._watching);
        self.a.stop().await?;
        self.b.stop().await?;
        self.own.force_release(&self.fence).await?;
        let options = Options {
            wait: Duration::from_secs(10),
            label: "demo, clearing up".into(),
            ..Options::default()
        };
        let grant = self.own.grant(&self.fence, options).await?;
        let write = Write {
            fence: self.fence.clone(),
            token: grant.token.mark(),
            key: ledger()?,
            change: Change::Delete,
            condition: Condition::Always,
        };
        self.own.store().write(write).await?;
        self.own.release(&self.fence, &grant.token).await?;
        Ok(())
    }
}

fn ledger() -> anyhow::Result<RecordKey> {
    Ok(LEDGER.parse()?)
}

/// A gateway in this process.
pub(super) struct Replica {
    url: String,
    /// Where its grants look up the fence's mark.
    pub(super) looks: Gate,
    /// Where its grants are sealed.
    pub(super) seals: Gate,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), gateway::ServeError>>,
}

impl Replica {
    async fn start(
        locks: Locks,
        guard: Guard,
        who: Who,
        holding: &Holding,
        reporter: &Reporter,
    ) -> anyhow::Result<Self> {
        let (looks, seals) = (Gate::open(), Gate::open());
        let service = WatchedLocks {
            inner: locks.service().clone(),
            who,
            holding: holding.clone(),
            reporter: reporter.clone(),
        };
        let store = WatchedStore {
            inner: locks.store().clone(),
            guard,
            reporter: reporter.clone(),
            looks: looks.clone(),
            seals: seals.clone(),
        };
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .context("no free port on 127.0.0.1")?;
        let url = format!("http://{}", listener.local_addr()?);
        let shutdown = CancellationToken::new();
        let (stop, locks) = (
            shutdown.clone().cancelled_owned(),
            Locks::new(Arc::new(service), Arc::new(store)),
        );
        let task = tokio::spawn(gateway::serve(listener, stop, locks, gateway::Config::default()));
        Ok(Self {
            url,
            looks,
            seals,
            shutdown,
            task,
        })
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        Ok(self.task.await??)
    }
}
