//! The guard in an SQLite transaction.

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{GuardError, Guarded, Isolation, check, read_mark};
use crate::{
    database::sqlite::{SqliteFile, WriteTransaction},
    name::FenceName,
    token::{Mark, Token},
};

impl super::Resource for SqliteFile {
    type Transaction = WriteTransaction;

    async fn enter(
        &self,
        fences: &[(&FenceName, &Token)],
        _isolation: Isolation,
        _idle: Option<std::time::Duration>,
    ) -> Result<WriteTransaction, GuardError> {
        let mut transaction = self.begin().await?;
        for (fence, token) in fences {
            enter(&mut transaction, fence, &token.mark()).await?;
        }
        Ok(transaction)
    }
}

impl Guarded<WriteTransaction> {
    /// Commits, unless the lease is lost: then everything is rolled back.
    ///
    /// # Errors
    /// [`GuardError::LeaseLost`], and as SQLite says.
    ///
    /// # Cancel safety
    /// The commit may or may not happen.
    pub async fn commit(self) -> Result<(), GuardError> {
        Ok(self.unless_lost()?.commit().await?)
    }

    /// Rolls back, as dropping the transaction does.
    pub fn rollback(self) {
        drop(self.into_inner());
    }
}

/// Lets a transaction pass if `token` is the fence's mark.
///
/// The transaction must have begun with `begin immediate`: it then holds the file's only write lock, and
/// the mark stays as it is until it ends.
///
/// # Errors
/// [`GuardError::Refused`] when the token may not write; then roll back.
pub async fn enter(
    connection: &mut SqliteConnection,
    fence: &FenceName,
    token: &Mark,
) -> Result<(), GuardError> {
    let mark = mark(connection, fence).await?;
    check(fence, mark, token)
}

/// The fence's mark, as the transaction sees it.
pub(crate) async fn mark(
    connection: &mut SqliteConnection,
    fence: &FenceName,
) -> Result<Option<Mark>, GuardError> {
    let row = sqlx::query("select epoch, sequence, holder from fence where name = $1")
        .bind(fence.as_str())
        .fetch_optional(connection)
        .await?;
    row.map(|row| mark_of(&row)).transpose()
}

/// Reads the columns `epoch`, `sequence` and `holder`.
pub(crate) fn mark_of(row: &SqliteRow) -> Result<Mark, GuardError> {
    read_mark(
        row.try_get("epoch")?,
        row.try_get("sequence")?,
        row.try_get("holder")?,
    )
}
