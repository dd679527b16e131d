//! Trying again what met another transaction.

use std::time::Duration;

use crate::{database::DatabaseError, grant::GrantError, guard::GuardError, store::StoreError};

/// How often, and after which pauses. Each pause is a random part of a time that doubles.
#[derive(Debug, Clone)]
pub struct Retry {
    /// How often it is tried at most, the first time included. Defaults to 10.
    pub tries: u32,
    /// The longest first pause. Defaults to 5 ms.
    pub first: Duration,
    /// The longest pause at all. Defaults to 500 ms.
    pub longest: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            tries: 10,
            first: Duration::from_millis(5),
            longest: Duration::from_millis(500),
        }
    }
}

/// Errors that know whether the same again may succeed.
pub trait Retryable {
    /// Whether nothing was changed and the same again may succeed.
    fn is_retryable(&self) -> bool;
}

macro_rules! retryable {
    ($($error:ty),*) => {
        $(impl Retryable for $error {
            fn is_retryable(&self) -> bool {
                Self::is_retryable(self)
            }
        })*
    };
}
retryable!(DatabaseError, GuardError, GrantError, StoreError);

/// Only what the database refused for another transaction's sake: a broken connection may have been broken at the
/// commit.
impl Retryable for sqlx::Error {
    fn is_retryable(&self) -> bool {
        let Self::Database(error) = self else { return false };
        // Serialization failure, deadlock; SQLite: busy, with its extended codes.
        matches!(
            error.code().as_deref(),
            Some("40001" | "40P01" | "5" | "261" | "517")
        )
    }
}

/// Runs a whole transaction, from its begin to its commit, again and again while it fails retryably.
///
/// ```no_run
/// # async fn example(lease: fencegate::Lease, pool: sqlx::PgPool) -> Result<(), fencegate::GuardError> {
/// use fencegate::{Isolation, retry, retry::Retry};
/// retry(&Retry::default(), || async {
///     let mut transaction = lease.begin_with(&pool, Isolation::Serializable).await?;
///     sqlx::query("update stock set left_over = left_over - 1 where item = $1")
///         .bind("chair")
///         .execute(&mut *transaction)
///         .await?;
///     transaction.commit().await
/// })
/// .await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// The last error, once it is not retryable or the tries are used up.
///
/// # Cancel safety
/// As the attempt's own.
pub async fn retry<T, E, F>(policy: &Retry, mut attempt: impl FnMut() -> F) -> Result<T, E>
where
    E: Retryable,
    F: Future<Output = Result<T, E>>,
{
    let mut longest = policy.first;
    for _ in 1..policy.tries {
        match attempt().await {
            Err(error) if error.is_retryable() => {}
            done => return done,
        }
        tokio::time::sleep(part_of(longest.min(policy.longest))).await;
        longest = longest.saturating_mul(2);
    }
    attempt().await
}

/// A random part of it: those who met do not meet again at once.
pub(crate) fn part_of(time: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX);
    time.mul_f64(f64::from(random) / f64::from(u32::MAX))
}
