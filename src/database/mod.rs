//! Connections to the databases, shared by the stores and by the lock services that live in the same ones.

#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub mod sqlite;

/// What went wrong with a database, before it is known what was being asked.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// The URL cannot be used.
    #[error("the database URL cannot be used: {0}")]
    Url(String),
    /// No connection, or it broke before the commit was sent: nothing was changed.
    #[error("the database is out of reach: {0}")]
    Unavailable(String),
    /// The connection broke while the commit was under way: it may have happened or not.
    #[error("the connection broke while the commit was under way, so it may have happened or not: {0}")]
    OutcomeUnknown(String),
    /// The schema is missing or older than this program.
    #[error("fencegate's tables are missing or too old: run `fencegate migrate --store URL` ({0})")]
    NotMigrated(String),
    /// The role that the program connects as lacks a right: nothing was changed.
    #[error("the database role lacks a right: {0}")]
    NotPermitted(String),
    /// Another transaction was in the way: the same again may pass. Nothing was changed.
    #[error("the transaction met another one, nothing was changed: try again ({0})")]
    Conflict(String),
    /// More is waiting for the database than is good: nothing was changed.
    #[error("too many writes are waiting for the database, nothing was changed: try again in a moment")]
    Overloaded,
    /// The marks are of another history than the database's present one, so some may be lost: nothing was changed.
    #[error("{0}. Nothing was changed: run `fencegate rebase --reason TEXT`, then acquire leases again")]
    Quarantined(String),
    /// Anything else that the database said.
    #[error("the database refused: {0}")]
    Refused(String),
}

impl DatabaseError {
    /// Whether the same call may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Conflict(_) | Self::Overloaded)
    }
}

/// An error of a statement before the commit.
impl From<sqlx::Error> for DatabaseError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match error {
            E::Configuration(error) => Self::Url(error.to_string()),
            E::PoolTimedOut => Self::Unavailable("no connection could be had in time".into()),
            E::Database(error) => {
                let code = error.code().unwrap_or_default();
                let text = error.message().to_owned();
                match code.as_ref() {
                    // Postgres: serialization failure, deadlock, lock not available.
                    "40001" | "40P01" | "55P03" => Self::Conflict(text),
                    "ZF008" => Self::Quarantined(text),
                    // Postgres: the session was idle for too long inside a transaction, and is ended.
                    "25P03" => Self::Unavailable(text),
                    // Undefined table, schema, function, column.
                    "42P01" | "3F000" | "42883" | "42703" => Self::NotMigrated(text),
                    // Insufficient privilege.
                    "42501" => Self::NotPermitted(text),
                    // SQLite: busy and locked, with their extended codes.
                    "5" | "6" | "261" | "262" | "517" | "518" => Self::Conflict(text),
                    code if ["08", "53", "57", "58"]
                        .iter()
                        .any(|class| code.starts_with(class)) =>
                    {
                        Self::Unavailable(text)
                    }
                    _ if text.starts_with("no such table") => Self::NotMigrated(text),
                    _ => Self::Refused(text),
                }
            }
            E::Io(_) | E::Tls(_) | E::Protocol(_) | E::PoolClosed | E::WorkerCrashed => {
                Self::Unavailable(error.to_string())
            }
            other => Self::Refused(other.to_string()),
        }
    }
}

impl DatabaseError {
    /// An error of the commit itself: a connection that broke leaves the outcome open.
    pub(crate) fn at_commit(error: sqlx::Error) -> Self {
        match Self::from(error) {
            Self::Unavailable(text) => Self::OutcomeUnknown(text),
            other => other,
        }
    }
}

impl From<sqlx::migrate::MigrateError> for DatabaseError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        match error {
            sqlx::migrate::MigrateError::Execute(error)
            | sqlx::migrate::MigrateError::ExecuteMigration(error, _) => error.into(),
            other => Self::Refused(other.to_string()),
        }
    }
}
