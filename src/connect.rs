//! From URLs to a store and a lock service.

use std::sync::Arc;

use crate::{
    database::DatabaseError,
    grant::Locks,
    lock::{LockError, LockService},
    scheme,
    store::Store,
};

pub use crate::lock::LOCK_PREFIX;

/// Opens a store and a lock service.
///
/// - `store`: `postgres://user:password@host:5432/database`, or `sqlite:FILE`.
/// - `locks`: `etcd://a:2379,b:2379/prefix`, `zookeeper://a:2181,b:2181/prefix`, `redis://host:6379`,
///   `redlock://a:6379,b:6379,c:6379`, `postgres://...`, `sqlite:FILE`; `postgres` or `sqlite` for the store's own
///   database, which is also what `None` stands for.
///
/// Nothing is asked of servers yet, so one that is down shows with the first call. An SQLite file is made if
/// it is not there.
///
/// # Errors
/// [`ConnectError`], whose message names what can be given instead. It never shows a URL, which may have a
/// password in it.
pub async fn connect(store: &str, locks: Option<&str>) -> Result<Locks, ConnectError> {
    let opened = open_store(store).await?;
    let service = match locks {
        None => opened.own_locks(),
        Some(url) => open_locks(url, &opened).await?,
    };
    Ok(Locks::new(service, opened.into_store()))
}

/// Whether [`connect`] could open both, as far as that shows without a server. Makes and opens no file.
///
/// # Errors
/// As [`connect`], apart from what only opening a file shows.
pub async fn check(store: &str, locks: Option<&str>) -> Result<(), ConnectError> {
    let kind = match scheme::of(store) {
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => open_postgres(store)?.kind(),
        #[cfg(feature = "sqlite")]
        "sqlite" => {
            sqlite_file(store)?;
            "sqlite"
        }
        other => return Err(ConnectError::StoreScheme(other.to_owned())),
    };
    match locks {
        None => Ok(()),
        Some(url) if url == kind => Ok(()),
        #[cfg(feature = "sqlite")]
        Some(url) if url.starts_with("sqlite:") => sqlite_file(url).map(drop),
        Some(url) => open_locks_elsewhere(url, kind).await.map(drop),
    }
}

/// A store, with what a lock service in the same database needs.
enum OpenStore {
    #[cfg(feature = "postgres")]
    Postgres(sqlx::PgPool),
    #[cfg(feature = "sqlite")]
    Sqlite(crate::database::sqlite::SqliteFile, std::path::PathBuf),
}

impl OpenStore {
    fn own_locks(&self) -> Arc<dyn LockService> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => Arc::new(crate::lock::postgres::PostgresLocks::new(pool.clone())),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(file, _) => Arc::new(crate::lock::sqlite::SqliteLocks::new(file.clone())),
        }
    }

    fn into_store(self) -> Arc<dyn Store> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => Arc::new(crate::store::postgres::PostgresStore::new(pool)),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(file, path) => Arc::new(crate::store::sqlite::SqliteStore::new(file, path)),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => "postgres",
            #[cfg(feature = "sqlite")]
            Self::Sqlite(..) => "sqlite",
        }
    }
}

async fn open_store(url: &str) -> Result<OpenStore, ConnectError> {
    match scheme::of(url) {
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => open_postgres(url),
        #[cfg(feature = "sqlite")]
        "sqlite" => open_sqlite(url).await,
        other => Err(ConnectError::StoreScheme(other.to_owned())),
    }
}

#[cfg(feature = "postgres")]
fn open_postgres(url: &str) -> Result<OpenStore, ConnectError> {
    use crate::database::postgres::{PoolSize, connect};
    Ok(OpenStore::Postgres(connect(url, &PoolSize::default())?))
}

#[cfg(feature = "sqlite")]
fn sqlite_file(url: &str) -> Result<&std::path::Path, ConnectError> {
    let file = url.strip_prefix("sqlite:").unwrap_or_default();
    match file.strip_prefix("//").unwrap_or(file) {
        "" => Err(ConnectError::NoFile),
        file => Ok(std::path::Path::new(file)),
    }
}

#[cfg(feature = "sqlite")]
async fn open_sqlite(url: &str) -> Result<OpenStore, ConnectError> {
    let path = sqlite_file(url)?;
    Ok(OpenStore::Sqlite(
        crate::database::sqlite::SqliteFile::open(path).await?,
        path.to_owned(),
    ))
}

async fn open_locks(url: &str, store: &OpenStore) -> Result<Arc<dyn LockService>, ConnectError> {
    match url == store.kind() {
        true => Ok(store.own_locks()),
        false => open_locks_elsewhere(url, store.kind()).await,
    }
}

/// A lock service apart from a store of this kind.
async fn open_locks_elsewhere(url: &str, store: &'static str) -> Result<Arc<dyn LockService>, ConnectError> {
    match scheme::of(url) {
        #[cfg(feature = "etcd")]
        "etcd" => Ok(Arc::new(crate::lock::etcd::EtcdLocks::connect(url).await?)),
        #[cfg(feature = "zookeeper")]
        "zookeeper" => Ok(Arc::new(crate::lock::zookeeper::ZookeeperLocks::new(url)?)),
        #[cfg(feature = "redis")]
        "redis" | "rediss" | "redis+sentinel" | "rediss+sentinel" => {
            Ok(Arc::new(crate::lock::redis::RedisLocks::connect(url)?))
        }
        #[cfg(feature = "redis")]
        "redlock" | "redlocks" => Ok(Arc::new(crate::lock::redlock::Redlock::connect(url)?)),
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" if url.contains("://") => Ok(open_postgres(url)?.own_locks()),
        #[cfg(feature = "sqlite")]
        "sqlite" if url.contains(':') => Ok(open_sqlite(url).await?.own_locks()),
        _ if ["postgres", "sqlite"].contains(&url) => Err(ConnectError::OtherStore {
            named: url.to_owned(),
            store,
        }),
        other => Err(ConnectError::LocksScheme(other.to_owned())),
    }
}

/// How the URLs of stores begin.
const STORES: &[&str] = &["postgres", "postgresql", "sqlite"];

/// How the URLs of lock services begin.
const LOCKS: &[&str] = &[
    "etcd",
    "zookeeper",
    "redis",
    "rediss",
    "redis+sentinel",
    "rediss+sentinel",
    "redlock",
    "redlocks",
    "postgres",
    "postgresql",
    "sqlite",
];

/// Why a store or a lock service cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// A store's URL that begins with something else.
    #[error("no store begins with {0:?}{hint}: give postgres://user@host:5432/database or sqlite:FILE", hint = scheme::hint(.0, STORES))]
    StoreScheme(String),
    /// A lock service's URL that begins with something else.
    #[error(
        "no lock service begins with {0:?}{hint}: give etcd://host:2379,host:2379/prefix, \
         zookeeper://host:2181,host:2181/prefix, redis://host:6379, redlock://host:6379,host:6379,host:6379, \
         postgres://..., sqlite:FILE, or the kind of the store alone, to keep the locks in its database",
        hint = scheme::hint(.0, LOCKS)
    )]
    LocksScheme(String),
    /// The locks are to be kept in the store's database, which is of another kind.
    #[error(
        "{named} alone, as a lock service, means the store's own database, and the store is {store}: leave it out to keep \
         the locks there, or name a database of their own, as {}",
        if named == "sqlite" { "sqlite:FILE" } else { "postgres://user@host:5432/database" }
    )]
    OtherStore {
        /// The kind that was named.
        named: String,
        /// The store's.
        store: &'static str,
    },
    /// `sqlite:` and nothing behind it.
    #[error("sqlite: needs a file behind it, as sqlite:fencegate.db")]
    NoFile,
    /// A database's own error.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A URL that does not name Redis servers.
    #[cfg(feature = "redis")]
    #[error("the URL of the lock service cannot be used: {0}")]
    Redis(crate::lock::redis::AddressError),
    /// A lock service's own error.
    #[error(transparent)]
    Lock(#[from] LockError),
}

// By hand: what is a source is printed once more behind the message that has it already.
#[cfg(feature = "redis")]
impl From<crate::lock::redis::AddressError> for ConnectError {
    fn from(error: crate::lock::redis::AddressError) -> Self {
        Self::Redis(error)
    }
}
