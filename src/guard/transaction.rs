//! Transactions that have passed the guard.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    time::Duration,
};

use super::GuardError;
use crate::{lease::Watch, name::FenceName, token::Token};

/// How far a transaction is kept apart from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// Each statement sees what was committed before it. The guard is complete at this level.
    #[default]
    ReadCommitted,
    /// All statements see the same. Postgres may refuse to go on, retryably.
    RepeatableRead,
    /// As if one transaction ran after the other. Postgres may refuse to go on, retryably.
    Serializable,
}

/// A database whose transactions the guard can let pass: a Postgres pool, or an SQLite file, whose transactions are
/// all serializable.
pub trait Resource: Sync {
    /// Its transactions.
    type Transaction: Send;

    /// Begins a transaction and enters these fences. `idle` is how long it may be idle, where that has to be limited.
    fn enter(
        &self,
        fences: &[(&FenceName, &Token)],
        isolation: Isolation,
        idle: Option<Duration>,
    ) -> impl Future<Output = Result<Self::Transaction, GuardError>> + Send;
}

/// A transaction that has passed the guard. It derefs to sqlx's connection, so `&mut *transaction` executes
/// queries, and `transaction.begin()` makes a savepoint. Dropping it rolls back.
pub struct Guarded<T> {
    transaction: T,
    leases: Vec<Watch>,
}

/// Begins a read committed transaction under a token that nobody renews here. Programs with a lease want
/// [`Lease::begin`](crate::Lease::begin), which also refuses to commit when the lease is lost.
///
/// # Errors
/// [`GuardError::Refused`] when the token may not write.
///
/// # Cancel safety
/// Yes: the transaction is rolled back.
pub async fn begin<R: Resource>(
    resource: &R,
    fence: &FenceName,
    token: &Token,
    isolation: Isolation,
) -> Result<Guarded<R::Transaction>, GuardError> {
    let transaction = resource.enter(&[(fence, token)], isolation, None).await?;
    Ok(Guarded {
        transaction,
        leases: Vec::new(),
    })
}

impl<T> Guarded<T> {
    pub(crate) fn new(transaction: T, leases: Vec<Watch>) -> Self {
        Self { transaction, leases }
    }

    /// The transaction, to be committed: not after a lease is lost.
    pub(super) fn unless_lost(self) -> Result<T, GuardError> {
        match self.leases.iter().any(Watch::is_lost) {
            true => Err(GuardError::LeaseLost),
            false => Ok(self.transaction),
        }
    }

    pub(super) fn into_inner(self) -> T {
        self.transaction
    }
}

impl<T: Deref> Deref for Guarded<T> {
    type Target = T::Target;

    fn deref(&self) -> &Self::Target {
        &self.transaction
    }
}

impl<T: DerefMut> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.transaction
    }
}

impl<T> fmt::Debug for Guarded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").finish_non_exhaustive()
    }
}
