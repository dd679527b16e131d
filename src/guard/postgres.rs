//! The guard in a Postgres transaction.

use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{GuardError, check, read_mark};
use crate::{name::FenceName, token::Mark};

/// Lets a transaction pass if `token` is the fence's mark, and holds the mark still until it ends.
///
/// Two statements, since the second must see what was committed while the first waited: the fence's advisory
/// lock, shared, which a seal takes exclusively; then the mark. At read committed the lock alone holds the mark
/// still. Elsewhere the snapshot may be older than the lock, and the row's lock finds that out: it fails with a
/// serialization failure.
///
/// # Errors
/// [`GuardError::Refused`] when the token may not write; then roll back.
///
/// # Cancel safety
/// The transaction has then to be rolled back.
pub async fn enter(connection: &mut PgConnection, fence: &FenceName, token: &Mark) -> Result<(), GuardError> {
    let isolation: String = sqlx::query(
        "select fencegate.make_durable(), pg_advisory_xact_lock_shared(fencegate.lock_key($1)),
                current_setting('transaction_isolation')",
    )
    .bind(fence.as_str())
    .fetch_one(&mut *connection)
    .await?
    .try_get(2)?;
    let look = if isolation == "read committed" {
        "select epoch, sequence, holder from fencegate.fence where name = $1"
    } else {
        "select epoch, sequence, holder from fencegate.fence where name = $1 for share"
    };
    let row = sqlx::query(look)
        .bind(fence.as_str())
        .fetch_optional(connection)
        .await?;
    let mark = row.map(|row| mark_of(&row)).transpose()?;
    check(fence, mark, token)
}

/// Reads the columns `epoch`, `sequence` and `holder`.
pub(crate) fn mark_of(row: &PgRow) -> Result<Mark, GuardError> {
    read_mark(
        row.try_get("epoch")?,
        row.try_get("sequence")?,
        row.try_get("holder")?,
    )
}
