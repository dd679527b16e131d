//! What stands behind the gateways of a test, and the gateways.

use std::{any::Any, time::Duration};

use fencegate::gateway::{Config, ServeError};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::Client;
use crate::support::{self, Etcd, Postgres};

/// Runs each test over SQLite, over Postgres, and over Postgres with locks in etcd.
macro_rules! on_every_store {
    ($($test:ident)*) => {
        $(
            mod $test {
                use super::super::World;

                #[tokio::test]
                async fn sqlite() {
                    super::$test(World::sqlite().await).await;
                }

                #[tokio::test]
                async fn postgres() {
                    super::$test(World::postgres().await).await;
                }

                #[tokio::test]
                async fn etcd() {
                    super::$test(World::etcd().await).await;
                }
            }
        )*
    };
}

/// A store and a lock service.
pub struct World {
    pub store: String,
    pub locks: Option<String>,
    /// A short time to live that the lock service really grants.
    pub ttl: &'static str,
    _servers: Box<dyn Any + Send>,
}

impl World {
    pub async fn sqlite() -> Self {
        let folder = support::folder("gateway");
        Self {
            store: format!("sqlite:{}", folder.path().join("fencegate.db").display()),
            locks: None,
            ttl: "2s",
            _servers: Box::new(folder),
        }
    }

    pub async fn postgres() -> Self {
        let server = Postgres::start().await;
        Self {
            store: server.url(),
            locks: None,
            ttl: "2s",
            _servers: Box::new(server),
        }
    }

    pub async fn etcd() -> Self {
        let (store, locks) = tokio::join!(Postgres::start(), Etcd::builder().quick().start());
        Self {
            store: store.url(),
            locks: Some(format!("etcd://{}", locks.endpoint())),
            ttl: "2s",
            _servers: Box::new((store, locks)),
        }
    }

    pub async fn gateway(&self) -> Gateway {
        self.gateway_with(Config::default()).await
    }

    pub async fn gateway_with(&self, config: Config) -> Gateway {
        Gateway::start(&self.store, self.locks.as_deref(), config).await
    }
}

/// A gateway in this process.
pub struct Gateway {
    pub port: u16,
    pub stop: CancellationToken,
    pub serving: JoinHandle<Result<(), ServeError>>,
}

impl Gateway {
    /// Migrates the store first, if it can be reached.
    pub async fn start(store: &str, locks: Option<&str>, config: Config) -> Self {
        let locks = fencegate::connect(store, locks).await.unwrap();
        let _ = locks.store().migrate().await;
        Self::start_on(locks, config).await
    }

    pub async fn start_on(locks: fencegate::Locks, config: Config) -> Self {
        Self::start_at(TcpListener::bind("127.0.0.1:0").await.unwrap(), locks, config)
    }

    /// Where somebody listens already.
    pub fn start_at(listener: TcpListener, locks: fencegate::Locks, config: Config) -> Self {
        let port = listener.local_addr().unwrap().port();
        let stop = CancellationToken::new();
        let shutdown = stop.clone().cancelled_owned();
        Self {
            port,
            stop,
            serving: tokio::spawn(fencegate::gateway::serve(listener, shutdown, locks, config)),
        }
    }

    pub fn client(&self) -> Client {
        Client::of(self.port)
    }

    /// Waits until it has ended by itself.
    pub async fn ended(self) {
        tokio::time::timeout(Duration::from_secs(30), self.serving)
            .await
            .expect("the gateway ends")
            .unwrap()
            .unwrap();
    }
}
