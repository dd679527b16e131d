//! Which member of the cluster is asked: one, until it fails or is too slow, and then the next one.
//!
//! A channel that spreads calls over all members would go on sending its share to one that hangs: the kernel accepts
//! connections in its name.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use etcd_client::{Client, ConnectOptions, Error};

use crate::lock::wait::random_share;

/// The members that the URL names. Clones share which one is asked.
#[derive(Clone)]
pub(super) struct Members(Arc<Inner>);

struct Inner {
    clients: Vec<Client>,
    /// Counts on when a member is left.
    present: AtomicUsize,
}

impl Members {
    /// Nothing is asked of them yet.
    pub(super) async fn connect(addresses: &[String], options: &ConnectOptions) -> Result<Self, Error> {
        let mut clients = Vec::new();
        for address in addresses {
            clients.push(Client::connect([address], Some(options.clone())).await?);
        }
        // So that processes do not all ask the same one.
        let first = (random_share() * clients.len() as f64) as usize;
        Ok(Self(Arc::new(Inner {
            clients,
            present: AtomicUsize::new(first),
        })))
    }

    /// The one to ask, and the number to leave it by.
    pub(super) fn present(&self) -> (usize, &Client) {
        let number = self.0.present.load(Ordering::Relaxed);
        (number, &self.0.clients[number % self.0.clients.len()])
    }

    /// The next one is to be asked from now on, unless somebody has said so already.
    pub(super) fn leave(&self, number: usize) {
        let next = number.wrapping_add(1);
        let _ = self
            .0
            .present
            .compare_exchange(number, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub(super) fn are_several(&self) -> bool {
        self.0.clients.len() > 1
    }
}
