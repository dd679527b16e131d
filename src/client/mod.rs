//! A typed client of the gateway.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use fencegate::client::{AcquireOptions, Client};
//!
//! let client = Client::builder("http://127.0.0.1:7411").build()?;
//! let lease = client.acquire(&"invoices:2026-11".parse()?, AcquireOptions::default()).await?; // renews itself
//! let version = lease.put(&"42".parse()?, b"paid".to_vec(), "text/plain", Default::default()).await?;
//! println!("stored as version {version}");
//! lease.release().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is asked again by itself
//!
//! A call whose answer is lost, or that is refused for a reason that passes, is asked again for as long as
//! [`Builder::patience`] allows, if that cannot do more than once what was wanted once:
//!
//! - whatever only reads: records, fences, rejections, a check;
//! - acquiring, which always names its holder, so asking again finds the lease that was granted;
//! - renewing and releasing, which act on one acquisition;
//! - a write with an [`IdempotencyKey`].
//!
//! A write without a key is sent once, and so is a release by force: asked again, it would end the next holder's lease.
//!
//! # Redirects
//!
//! With ZooKeeper a lease is renewed by the gateway that granted it, and another one answers with a redirect. Lease
//! calls follow a few of those, with the token and the credentials, and never from https to http; other calls follow
//! none.

mod builder;
mod error;
mod fences;
mod health;
mod lease;
mod leases;
mod listing;
pub(crate) mod path;
mod records;
mod redirect;
mod rejections;
mod request;
mod transaction;

pub use builder::Builder;
pub use error::{ClientError, Problem};
pub use fences::{FenceView, HolderView, ListedFence};
pub use health::{Health, HealthPart};
pub use lease::Lease;
pub use leases::{AcquireOptions, GrantedLease};
pub use listing::Listing;
pub use records::{ListedRecord, ReadRecord};
pub use rejections::ListedRejection;
pub use request::{IdempotencyKey, WriteOptions};
pub use transaction::{Done, Transaction};

use std::{sync::Arc, time::Duration};

/// A client of one gateway, or of several behind one address. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    http: reqwest::Client,
    /// Without a slash at its end.
    base: String,
    patience: Duration,
    is_loopback: bool,
}

impl Client {
    /// A client of the gateway at `url`, for example `http://127.0.0.1:7411`, without credentials. Nothing is sent
    /// yet.
    ///
    /// # Errors
    /// [`ClientError::Url`] if the URL cannot be used.
    pub fn new(url: &str) -> Result<Self, ClientError> {
        Self::builder(url).build()
    }

    /// A client with credentials, certificates or another patience.
    pub fn builder(url: &str) -> Builder {
        Builder::new(url)
    }

    /// The gateway's address, without credentials.
    pub fn url(&self) -> &str {
        &self.0.base
    }

    /// Whether the address is one of this machine's own, so that nothing that is sent leaves it.
    pub fn is_on_this_machine(&self) -> bool {
        self.0.is_loopback
    }
}
