//! SQLite: one file, written by one connection at a time, safe with several processes on one machine.

use std::{path::Path, time::Duration};

use sqlx::{
    Sqlite, SqlitePool, Transaction,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::DatabaseError;

/// How long a transaction waits for another process that writes to the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// An open file. Clones share it.
#[derive(Debug, Clone)]
pub struct SqliteFile {
    pool: SqlitePool,
    /// Writers of this process queue here, fairly; SQLite itself makes those who wait poll.
    writer: std::sync::Arc<Mutex<()>>,
}

/// A transaction that holds the file's write lock from its first moment.
pub struct WriteTransaction {
    transaction: Transaction<'static, Sqlite>,
    _turn: OwnedMutexGuard<()>,
}

/// The migrations of fencegate's tables, in order.
pub fn migrations() -> Migrator {
    let mut migrator = sqlx::migrate!("migrations/sqlite");
    migrator.dangerous_set_table_name("migration");
    migrator
}

impl SqliteFile {
    /// Opens the file, makes it if it is not there, and brings its tables up to this version.
    ///
    /// # Errors
    /// As SQLite says: no permission, no directory, not a database.
    pub async fn open(path: &Path) -> Result<Self, DatabaseError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // An acknowledged write survives a power cut.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(8)
            .acquire_timeout(BUSY_TIMEOUT)
            .test_before_acquire(false)
            .connect_with(options)
            .await
            .map_err(|error| DatabaseError::Unavailable(format!("{}: {error}", path.display())))?;
        let file = Self {
            pool,
            writer: std::sync::Arc::default(),
        };
        if file.is_current().await {
            // Looks whether what was done is what is known.
            migrations().run(&file.pool).await?;
        } else {
            // Two processes that find an empty file take turns: the migrator locks nothing here.
            let mut transaction = file.begin().await?;
            migrations().run(&mut *transaction).await?;
            transaction.commit().await?;
        }
        Ok(file)
    }

    /// Whether there is nothing to migrate. Where this cannot be told, there is.
    async fn is_current(&self) -> bool {
        let done = sqlx::query_scalar::<_, i64>("select version from migration")
            .fetch_all(&self.pool)
            .await
            .unwrap_or_default();
        migrations().iter().all(|known| done.contains(&known.version))
    }

    /// The connections, for reading.
    pub fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    /// Begins a transaction that may write: it has the file's write lock at once, so nothing that it reads
    /// changes before it commits.
    ///
    /// # Errors
    /// [`DatabaseError::Conflict`] if another process held the file for five seconds.
    pub async fn begin(&self) -> Result<WriteTransaction, DatabaseError> {
        let turn = self.writer.clone().lock_owned().await;
        let transaction = self.pool.begin_with("begin immediate").await?;
        Ok(WriteTransaction {
            transaction,
            _turn: turn,
        })
    }
}

impl WriteTransaction {
    /// Commits.
    ///
    /// # Errors
    /// As SQLite says. The transaction is then rolled back.
    pub async fn commit(self) -> Result<(), DatabaseError> {
        self.transaction.commit().await.map_err(DatabaseError::at_commit)
    }
}

impl std::ops::Deref for WriteTransaction {
    type Target = sqlx::SqliteConnection;

    fn deref(&self) -> &Self::Target {
        &self.transaction
    }
}

impl std::ops::DerefMut for WriteTransaction {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.transaction
    }
}
