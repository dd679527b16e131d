//! Handing a lock to the next one in the same process, without waiting for the server.
//!
//! When the holder and the next in the queue are of one process, the lock is the next one's from the moment of its
//! release: its znode is right behind the holder's, so for everybody else the lock is taken before and
//! after. That the holder's znode is gone is only waited for by its release.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::oneshot;

/// Who is to be handed what, by the path of the znode just before. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Handovers(Arc<Mutex<HashMap<String, Handover>>>);

#[derive(Debug)]
enum Handover {
    /// The next one waits for it.
    Expected(oneshot::Sender<()>),
    /// It was released, and its znode is being removed.
    Released,
}

impl Handovers {
    /// To be told when the holder of that znode, of this process, has released.
    pub(super) fn expect(&self, path: &str) -> Expected<'_> {
        let (sender, receiver) = oneshot::channel();
        let mut handovers = self.handovers();
        match handovers.get(path) {
            Some(Handover::Released) => {
                let _ = sender.send(());
            }
            _ => {
                handovers.insert(path.to_owned(), Handover::Expected(sender));
            }
        }
        Expected {
            handovers: self,
            path: path.to_owned(),
            receiver,
        }
    }

    /// Hands the lock of that znode, which is the first, to the next one. It is for as long as the result lasts.
    pub(super) fn release(&self, path: String) -> Released<'_> {
        if let Some(Handover::Expected(next)) = self.handovers().insert(path.clone(), Handover::Released) {
            let _ = next.send(());
        }
        Released {
            handovers: self,
            path,
        }
    }

    fn handovers(&self) -> MutexGuard<'_, HashMap<String, Handover>> {
        self.0
            .lock()
            .expect("nothing panics while it holds the handovers")
    }
}

/// The wait for a handover.
pub(super) struct Expected<'a> {
    handovers: &'a Handovers,
    path: String,
    receiver: oneshot::Receiver<()>,
}

impl Expected<'_> {
    /// Ends when the lock was handed over; never if it comes free in another way.
    ///
    /// # Cancel safety
    /// Yes.
    pub(super) async fn handed_over(&mut self) {
        if (&mut self.receiver).await.is_err() {
            std::future::pending().await
        }
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.receiver.close();
        let mut handovers = self.handovers.handovers();
        // A later one may expect the same znode.
        if let Some(Handover::Expected(sender)) = handovers.get(&self.path)
            && sender.is_closed()
        {
            handovers.remove(&self.path);
        }
    }
}

/// A release under way.
pub(super) struct Released<'a> {
    handovers: &'a Handovers,
    path: String,
}

impl Drop for Released<'_> {
    fn drop(&mut self) {
        self.handovers.handovers().remove(&self.path);
    }
}
