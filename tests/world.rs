//! Whole set-ups: a store and a lock service on real servers.

use std::{any::Any, time::Duration};

use fencegate::{
    FenceName, Locks, Options, RecordKey, Sequence, StoreError, Token, connect,
    lock::{Held, LockError, LockService, Request},
    store::{Change, Condition, Value, Write, Written},
};
use tokio::task::JoinSet;

use crate::support;

/// A store and a lock service.
pub struct World {
    pub locks: Locks,
    /// The Postgres server, where the store is one.
    pub postgres: Option<support::Postgres>,
    pub etcd: Option<support::Etcd>,
    /// A short time to live that the lock service really grants.
    pub ttl: Duration,
    _others: Box<dyn Any + Send + Sync>,
}

impl World {
    /// Everything in one SQLite file.
    pub async fn sqlite() -> Self {
        let folder = support::folder("store");
        let url = format!("sqlite:{}", folder.path().join("store.db").display());
        Self::open(
            &url,
            None,
            Duration::from_millis(600),
            None,
            None,
            Box::new(folder),
        )
        .await
    }

    /// Everything in one Postgres database.
    pub async fn postgres() -> Self {
        Self::on(support::Postgres::start().await).await
    }

    /// Everything in this Postgres server.
    pub async fn on(server: support::Postgres) -> Self {
        let url = server.url();
        Self::open(
            &url,
            None,
            Duration::from_millis(600),
            Some(server),
            None,
            Box::new(()),
        )
        .await
    }

    /// Records in Postgres, locks in etcd.
    pub async fn postgres_and_etcd() -> Self {
        let (server, etcd) = tokio::join!(support::Postgres::start(), support::Etcd::start());
        let (url, locks) = (server.url(), etcd_url(&etcd));
        let ttl = Duration::from_secs(2);
        Self::open(&url, Some(&locks), ttl, Some(server), Some(etcd), Box::new(())).await
    }

    async fn open(
        store: &str,
        locks: Option<&str>,
        ttl: Duration,
        postgres: Option<support::Postgres>,
        etcd: Option<support::Etcd>,
        others: Box<dyn Any + Send + Sync>,
    ) -> Self {
        let locks = connect(store, locks).await.unwrap();
        locks.migrate().await.unwrap();
        Self {
            locks,
            postgres,
            etcd,
            ttl,
            _others: others,
        }
    }

    /// A pool of its own on the Postgres server.
    pub fn pool(&self) -> sqlx::PgPool {
        sqlx::PgPool::connect_lazy(&self.postgres.as_ref().expect("the store is Postgres").url()).unwrap()
    }

    /// Grants a fence that nobody renews, waiting for it.
    pub async fn grant(&self, fence: &str) -> Token {
        let options = Options {
            ttl: self.ttl,
            wait: Duration::from_secs(20),
            ..Options::default()
        };
        self.locks.grant(&name(fence), options).await.unwrap().token
    }

    /// Writes a text under a token.
    pub async fn put(
        &self,
        fence: &str,
        token: &Token,
        key: &str,
        text: &str,
    ) -> Result<Written, StoreError> {
        let value = Value {
            bytes: text.into(),
            content_type: "text/plain".into(),
        };
        self.write(fence, token, key, Change::Put(value)).await
    }

    /// Deletes a record under a token.
    pub async fn delete(&self, fence: &str, token: &Token, key: &str) -> Result<Written, StoreError> {
        self.write(fence, token, key, Change::Delete).await
    }

    async fn write(
        &self,
        fence: &str,
        token: &Token,
        key: &str,
        change: Change,
    ) -> Result<Written, StoreError> {
        let write = Write {
            fence: name(fence),
            token: token.mark(),
            key: key.parse::<RecordKey>().unwrap(),
            change,
            condition: Condition::Always,
        };
        self.locks.store().write(write).await
    }

    /// A record's text.
    pub async fn text(&self, fence: &str, key: &str) -> Option<String> {
        let record = self
            .locks
            .store()
            .read(&name(fence), &key.parse().unwrap())
            .await
            .unwrap()?;
        Some(String::from_utf8(record.value.bytes).unwrap())
    }
}

/// The token of the holder after this one.
pub fn next(token: &Token) -> Token {
    Token {
        sequence: Sequence::new(token.sequence.get() + 1).unwrap(),
        ..token.clone()
    }
}

pub fn name(fence: &str) -> FenceName {
    fence.parse().unwrap()
}

pub fn etcd_url(etcd: &support::Etcd) -> String {
    format!("etcd://{}", etcd.endpoint().trim_start_matches("http://"))
}

/// Asks for all at once.
pub async fn acquire_all<L: LockService + Clone + 'static>(
    locks: &L,
    requests: impl IntoIterator<Item = Request>,
) -> Vec<Result<Held, LockError>> {
    let mut asking = JoinSet::new();
    for request in requests {
        let locks = locks.clone();
        asking.spawn(async move { locks.acquire(&request).await });
    }
    asking.join_all().await
}
