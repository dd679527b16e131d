//! Connection trouble: one suite for the lock services that one server serves, seen through a proxy that cuts, is silent,
//! and loses replies. Redlock, whose point is several servers, has its own in `tests/redlock`.
//!
//! Whatever happens, the outcome is a correct grant or a clear error, and no lock stays that nobody holds.

mod cases;

use std::{sync::Arc, time::Duration};

use fencegate::{
    Holder,
    lock::{LockService, Request},
};

use crate::support::{self, Proxy};

/// A lock service behind a proxy, and the same one without.
pub struct Fixture {
    pub through: Arc<dyn LockService>,
    pub beside: Arc<dyn LockService>,
    pub proxy: Proxy,
    /// Whether a piece of what a client sends is the request that takes the lock, or the one that frees it.
    pub takes: fn(&[u8]) -> bool,
    pub frees: fn(&[u8]) -> bool,
    /// A short time to live that the service really grants.
    pub ttl: Duration,
    pub server: Server,
}

pub enum Server {
    Etcd(support::Etcd),
    Postgres(support::Postgres),
    #[cfg(feature = "redis")]
    Redis(support::Redis),
    #[cfg(feature = "zookeeper")]
    ZooKeeper(support::ZooKeeper),
}

/// Far longer than any test: what is left behind by mistake stays.
pub const LONG: Duration = Duration::from_secs(3600);

/// A fence's name that no protocol has in it by itself.
pub const FENCE: &str = "contested-fence";

impl Fixture {
    pub fn request(&self, ttl: Duration, wait: Duration) -> Request {
        Request {
            name: crate::world::name(FENCE),
            holder: Holder::random(),
            label: "worker-7".into(),
            ttl,
            wait,
            floor: 0,
        }
    }

    /// Opens the connections and makes what is only made once.
    pub async fn warm_up(&self) {
        for service in [&self.through, &self.beside] {
            let held = service
                .acquire(&self.request(LONG, support::eventually::PATIENCE))
                .await
                .unwrap();
            service.release(&held.claim).await.unwrap();
        }
    }
}

impl Server {
    pub async fn restart(&mut self) {
        match self {
            Self::Etcd(server) => server.restart().await,
            Self::Postgres(server) => server.restart().await,
            #[cfg(feature = "redis")]
            Self::Redis(server) => server.restart().await,
            #[cfg(feature = "zookeeper")]
            Self::ZooKeeper(server) => server.restart().await,
        }
    }
}

fn has(chunk: &[u8], text: &str) -> bool {
    chunk
        .windows(text.len())
        .any(|window| window.eq_ignore_ascii_case(text.as_bytes()))
}

macro_rules! suite {
    ($service:ident: $($case:ident)*) => {
        mod $service {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let fixture = super::start::$service().await;
                    fixture.warm_up().await;
                    super::cases::$case(fixture).await;
                }
            )*
        }
    };
}

macro_rules! services {
    ($($(#[$attribute:meta])* $service:ident)*) => {
        $(
            $(#[$attribute])*
            suite! { $service:
                cut_while_acquiring
                cut_while_renewing
                cut_while_releasing
                the_reply_to_an_acquisition_is_lost
                the_reply_to_a_release_is_lost
                dropped_while_the_server_is_silent
                dropped_while_the_server_is_out_of_reach
                five_seconds_of_silence
                nobody_believes_in_a_lock_that_another_has
                the_server_is_restarted
            }
        )*
    };
}

services! {
    etcd
    postgres
    #[cfg(feature = "redis")]
    redis
    #[cfg(feature = "zookeeper")]
    zookeeper
}

mod start {
    use fencegate::{
        database::postgres::{PoolSize, connect, migrate},
        lock::{etcd::EtcdLocks, postgres::PostgresLocks},
    };

    use super::*;

    pub async fn etcd() -> Fixture {
        let server = support::Etcd::builder().quick().start().await;
        let proxy = Proxy::start(server.endpoint()).await;
        let locks = async |at: String| {
            Arc::new(EtcdLocks::connect(&format!("etcd://{at}")).await.unwrap()) as Arc<dyn LockService>
        };
        Fixture {
            through: locks(proxy.addr().to_string()).await,
            beside: locks(server.endpoint()).await,
            proxy,
            takes: |chunk| has(chunk, "fencegate_holder"),
            frees: |chunk| has(chunk, FENCE),
            ttl: Duration::from_secs(2),
            server: Server::Etcd(server),
        }
    }

    pub async fn postgres() -> Fixture {
        let server = support::Postgres::start().await;
        let url = url::Url::parse(&server.url()).unwrap();
        let at = (url.host_str().unwrap().to_owned(), url.port().unwrap());
        let proxy = Proxy::start(format!("{}:{}", at.0, at.1)).await;
        let mut through = url.clone();
        through.set_port(Some(proxy.addr().port())).unwrap();
        let size = PoolSize {
            acquire_timeout: Duration::from_secs(2),
            ..PoolSize::default()
        };
        let pool = |url: &str| connect(url, &size).unwrap();
        migrate(&pool(url.as_str())).await.unwrap();
        Fixture {
            through: Arc::new(PostgresLocks::new(pool(through.as_str()))),
            beside: Arc::new(PostgresLocks::new(pool(url.as_str()))),
            proxy,
            takes: |chunk| has(chunk, "COMMIT"),
            frees: |chunk| has(chunk, "COMMIT"),
            ttl: Duration::from_secs(1),
            server: Server::Postgres(server),
        }
    }

    #[cfg(feature = "redis")]
    pub async fn redis() -> Fixture {
        use fencegate::lock::redis::RedisLocks;
        let server = support::Redis::builder().durable().start().await;
        let proxy = Proxy::start(server.endpoint()).await;
        let through = format!("redis://{}", proxy.addr());
        Fixture {
            through: Arc::new(RedisLocks::connect(&through).unwrap()),
            beside: Arc::new(RedisLocks::connect(&server.url()).unwrap()),
            proxy,
            takes: |chunk| has(chunk, FENCE),
            frees: |chunk| has(chunk, FENCE),
            ttl: Duration::from_secs(1),
            server: Server::Redis(server),
        }
    }

    #[cfg(feature = "zookeeper")]
    pub async fn zookeeper() -> Fixture {
        use fencegate::lock::zookeeper::ZookeeperLocks;
        let server = support::ZooKeeper::start().await;
        let proxy = Proxy::start(server.endpoint()).await;
        let locks = |at: String| Arc::new(ZookeeperLocks::new(&format!("zookeeper://{at}")).unwrap());
        Fixture {
            through: locks(proxy.addr().to_string()),
            beside: locks(server.endpoint()),
            proxy,
            takes: |chunk| has(chunk, "fencegate_holder"),
            // The number of the request's kind: a removal.
            frees: |chunk| chunk.get(8..12).is_some_and(|kind| kind == 2i32.to_be_bytes()),
            ttl: Duration::from_secs(2),
            server: Server::ZooKeeper(server),
        }
    }
}
