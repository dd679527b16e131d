//! Distributed locks whose fencing tokens the resource really enforces.
//!
//! A lock with a timeout cannot keep two writers apart: a holder that stalls wakes up believing that it still
//! holds a lock that has long gone to somebody else, and writes. This crate puts the check where the write is:
//!
//! - a [lock service](lock) gives a lock and a number that only rises;
//! - [`Locks`] seals that number in the [store], beside the data, and hands out a [`Lease`] with a [`Token`];
//! - the [guard] lets a transaction write only if its token is the newest that the fence was shown.
//!
//! The words are: a *fence* is a named unit of mutual exclusion; a *token* orders its holders; the *mark* is the
//! newest token that it was shown; to *seal* is to raise the mark; *stale* is refused because the mark is higher.

#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(
    not(any(feature = "postgres", feature = "sqlite")),
    allow(
        dead_code,
        unused_imports,
        reason = "without a store, nothing uses what stores share"
    )
)]

#[cfg(feature = "client")]
pub mod client;
pub mod clock;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub mod connect;
pub mod database;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "gateway")]
pub mod gateway;
pub mod grant;
pub mod guard;
mod keep;
pub mod lease;
pub mod leases;
pub mod lock;
pub mod name;
pub mod rejections;
pub mod retry;
pub mod rule;
#[cfg(any(feature = "client", feature = "postgres", feature = "sqlite"))]
mod scheme;
pub mod store;
pub mod token;

#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub use connect::{ConnectError, connect};
pub use grant::{Grant, GrantError, Locks, Options};
pub use guard::{GuardError, Guarded, Isolation, Refusal};
pub use lease::Lease;
pub use leases::Leases;
pub use lock::{LockError, LockService};
pub use name::{FenceName, NameError, RecordKey};
pub use retry::{Retry, retry};
pub use store::{Store, StoreError};
pub use token::{Epoch, Holder, Mark, Sequence, Token, TokenError};

/// The target of every span, so that a filter can let them pass whatever is logged.
const SPANS: &str = "fencegate::traces";

/// The README's Rust is compiled with the documentation's.
#[cfg(all(doctest, feature = "etcd", feature = "postgres"))]
#[doc = include_str!("../README.md")]
struct Readme;
