//! The servers: one Postgres for all, a lock service with two gateways and a database of its own for each kind of locks;
//! and the proxies through which everybody reaches everything. They are used from history to history.

use std::{collections::BTreeMap, process::Command, time::Duration};

use fencegate::Locks;
use sqlx::{Executor, PgPool};

use crate::{
    courier::Courier,
    plan::LockService,
    sabotage::Sabotage,
    support::{
        self, Etcd, EtcdCluster, Postgres, Process, Proxy, Redis, ZooKeeper, eventually,
        eventually::PATIENCE, ports::Port,
    },
};

/// What is written is logged in the same transaction, and so are marks.
const LOG: &str = "
    create schema chaos;
    create table chaos.plain (fence text, key text, value bytea not null, primary key (fence, key));
    create table chaos.log (
        n bigserial primary key, fence text, key text, op text, was text, epoch bigint, sequence bigint,
        xid text default pg_current_xact_id()::text
    );
    create index on chaos.log (fence);
    create table chaos.mark (n bigserial primary key, fence text, epoch bigint, sequence bigint);
    create index on chaos.mark (fence);
    create function chaos.log_record() returns trigger language plpgsql as $$
    declare
        value jsonb := convert_from(new.value, 'UTF8')::jsonb;
    begin
        insert into chaos.log (fence, key, op, was, epoch, sequence)
        values (new.fence, new.key, value->>'op', value->>'was', new.epoch, new.sequence);
        return null;
    end $$;
    create function chaos.log_mark() returns trigger language plpgsql as $$
    begin
        insert into chaos.mark (fence, epoch, sequence) values (new.name, new.epoch, new.sequence);
        return null;
    end $$;
    -- A row of version 0 holds the place of a record that is about to be made.
    create trigger chaos after insert or update on fencegate.record
        for each row when (new.version <> 0) execute function chaos.log_record();
    create trigger chaos after insert or update on fencegate.fence
        for each row execute function chaos.log_mark();
";

pub struct Stage {
    pub postgres: Postgres,
    pub to_postgres: Proxy,
    sets: BTreeMap<LockService, Set>,
    sabotage: Option<Sabotage>,
}

/// A lock service, and what uses it.
pub struct Set {
    pub ttl: Duration,
    pub servers: Servers,
    /// To each of the servers.
    pub to_servers: Vec<Proxy>,
    pub gateways: [Gateway; 2],
    pub couriers: [Courier; 2],
    /// Through the proxies.
    pub store: String,
    pub locks: String,
    /// Past them.
    pub direct: Locks,
    pub pool: PgPool,
    _folder: tempfile::TempDir,
}

pub enum Servers {
    /// The store itself, or a file.
    None,
    Etcd(EtcdCluster),
    ZooKeeper(ZooKeeper),
    Redis(Vec<Redis>),
}

pub struct Gateway {
    port: Port,
    command: Box<dyn Fn() -> Command + Send + Sync>,
    log: std::path::PathBuf,
    pub process: Process,
}

impl Stage {
    /// With everything as it is, or with something taken out of it.
    pub async fn start(sabotage: Option<Sabotage>) -> Self {
        let postgres = Postgres::builder()
            .set("track_commit_timestamp", "on")
            .set("max_connections", 1000)
            .start()
            .await;
        let to_postgres = Proxy::start(format!("127.0.0.1:{}", postgres.port())).await;
        Self {
            postgres,
            to_postgres,
            sets: BTreeMap::new(),
            sabotage,
        }
    }

    pub async fn prepare(&mut self, service: LockService) {
        if !self.sets.contains_key(&service) {
            let set = Set::start(service, &self.postgres, &self.to_postgres).await;
            if let Some(sabotage) = self.sabotage {
                set.pool.execute(sabotage.statement()).await.unwrap();
            }
            self.sets.insert(service, set);
        }
    }

    /// The set, with the Postgres that stands behind all of them.
    pub fn set(&mut self, service: LockService) -> (&mut Set, &mut Postgres, &Proxy) {
        let set = self.sets.get_mut(&service).expect("it was prepared");
        (set, &mut self.postgres, &self.to_postgres)
    }
}

impl Set {
    async fn start(service: LockService, postgres: &Postgres, to_postgres: &Proxy) -> Self {
        let folder = support::folder("chaos");
        let direct_store = postgres.create_database().await;
        let store = direct_store.replace(
            &format!(":{}/", postgres.port()),
            &format!(":{}/", to_postgres.addr().port()),
        );
        let servers = Servers::start(service).await;
        let mut to_servers = Vec::new();
        for endpoint in servers.endpoints() {
            to_servers.push(Proxy::start(endpoint).await);
        }
        let through: Vec<String> = to_servers.iter().map(|proxy| proxy.addr().to_string()).collect();
        let file = folder.path().join("locks.db");
        let url = |endpoints: &[String]| match service {
            LockService::Postgres => "postgres".to_owned(),
            LockService::Sqlite => format!("sqlite:{}", file.display()),
            other => format!("{}://{}", other.name(), endpoints.join(",")),
        };
        let (locks, direct_locks) = (url(&through), url(&servers.endpoints()));
        let direct = fencegate::connect(&direct_store, Some(&direct_locks))
            .await
            .unwrap();
        direct.migrate().await.unwrap();
        let pool = PgPool::connect(&direct_store).await.unwrap();
        pool.execute(LOG).await.unwrap();
        let mut gateways = Vec::new();
        let mut couriers = Vec::new();
        for i in 0..2 {
            let gateway = Gateway::start(&store, &locks, &folder.path().join(format!("gateway-{i}"))).await;
            couriers.push(Courier::start(gateway.port.number()).await);
            gateways.push(gateway);
        }
        let pair = |gateways: Vec<Gateway>| gateways.try_into().ok().expect("two");
        Self {
            ttl: service.ttl(),
            servers,
            to_servers,
            gateways: pair(gateways),
            couriers: couriers.try_into().ok().expect("two"),
            store,
            locks,
            direct,
            pool,
            _folder: folder,
        }
    }
}

impl Servers {
    async fn start(service: LockService) -> Self {
        let redis = || Redis::builder().durable().start();
        match service {
            LockService::Postgres | LockService::Sqlite => Self::None,
            LockService::Etcd => Self::Etcd(Etcd::builder().quick().start_cluster(3).await),
            LockService::Zookeeper => Self::ZooKeeper(ZooKeeper::start().await),
            LockService::Redis => Self::Redis(vec![redis().await]),
            LockService::Redlock => Self::Redis(vec![redis().await, redis().await, redis().await]),
        }
    }

    fn endpoints(&self) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::Etcd(cluster) => cluster.endpoints(),
            Self::ZooKeeper(server) => vec![server.endpoint()],
            Self::Redis(servers) => servers.iter().map(Redis::endpoint).collect(),
        }
    }

    /// The one whose loss is felt most, or one that a number chooses.
    pub async fn victim(&self, number: u64) -> usize {
        match self {
            Self::None | Self::ZooKeeper(_) => 0,
            Self::Etcd(cluster) => {
                let leader = cluster.leader().await;
                leader.unwrap_or(number as usize % cluster.members.len())
            }
            Self::Redis(servers) => number as usize % servers.len(),
        }
    }

    pub fn process(&mut self, which: usize) -> &mut Process {
        match self {
            Self::None => unreachable!("no servers of its own"),
            Self::Etcd(cluster) => cluster.members[which].process(),
            Self::ZooKeeper(server) => server.process(),
            Self::Redis(servers) => servers[which].process(),
        }
    }

    /// Kills it where it still runs, and starts it again on the same data.
    pub async fn restart(&mut self, which: usize) {
        self.process(which).kill9();
        match self {
            Self::None => {}
            Self::Etcd(cluster) => cluster.members[which].restart().await,
            Self::ZooKeeper(server) => server.restart().await,
            Self::Redis(servers) => servers[which].restart().await,
        }
    }

    pub fn count(&self) -> usize {
        self.endpoints().len()
    }
}

impl Gateway {
    async fn start(store: &str, locks: &str, folder: &std::path::Path) -> Self {
        std::fs::create_dir(folder).unwrap();
        let port = Port::reserve();
        let (store, locks, inside, listen) = (
            store.to_owned(),
            locks.to_owned(),
            folder.to_owned(),
            format!("127.0.0.1:{}", port.number()),
        );
        let command = Box::new(move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_fencegate"));
            for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FENCEGATE_")) {
                command.env_remove(name);
            }
            command.env_remove("DATABASE_URL").env("RUST_LOG", "warn");
            command.current_dir(&inside);
            command.args(["serve", "--store", &store, "--locks", &locks, "--listen", &listen]);
            command
        });
        let log = folder.join("log");
        let mut gateway = Self {
            process: Process::spawn("gateway", command(), &log),
            port,
            command,
            log,
        };
        gateway.ready().await;
        gateway
    }

    pub async fn restart(&mut self) {
        self.process.kill9();
        self.process = Process::spawn("gateway", (self.command)(), &self.log);
        self.ready().await;
    }

    async fn ready(&mut self) {
        let port = self.port.number();
        eventually(PATIENCE, async || {
            assert!(self.process.ended().is_none(), "{}", self.process.log());
            let answer = support::http::get(port, "/livez").await;
            answer
                .is_ok_and(|answer| answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.0 200"))
        })
        .await;
    }
}
