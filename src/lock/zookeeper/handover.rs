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

/// How often a lock is handed over before the first of those znodes is gone: so many may stand before the holder's. It is
/// more than one transaction removes, so that it seldom holds anybody up.
pub(super) const MOST: usize = 64;

/// Who is to be handed what. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Handovers(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// By the path of the znode just before.
    next: HashMap<String, Handover>,
    /// How many were released and are not gone yet, by the path of the fence's znode.
    released: HashMap<String, usize>,
}

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
        let mut state = self.state();
        match state.next.get(path) {
            Some(Handover::Released) => {
                let _ = sender.send(());
            }
            _ => {
                state.next.insert(path.to_owned(), Handover::Expected(sender));
            }
        }
        Expected {
            handovers: self,
            path: path.to_owned(),
            receiver,
        }
    }

    /// Hands the lock of that znode, which is the first, to the next one, at the end of what it returns if not at once. That
    /// is to last until the znode is gone.
    pub(super) fn release(&self, path: String) -> Released<'_> {
        let mut state = self.state();
        let released = state.released.entry(fence_of(&path).to_owned()).or_default();
        *released += 1;
        if *released <= MOST
            && let Some(Handover::Expected(next)) = state.next.insert(path.clone(), Handover::Released)
        {
            let _ = next.send(());
        }
        Released {
            handovers: self,
            path,
        }
    }

    /// Whether that znode's lock was handed over, or would be: it is being removed.
    pub(super) fn is_released(&self, path: &str) -> bool {
        matches!(self.state().next.get(path), Some(Handover::Released))
    }

    fn state(&self) -> MutexGuard<'_, State> {
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
        let mut state = self.handovers.state();
        // A later one may expect the same znode.
        if let Some(Handover::Expected(sender)) = state.next.get(&self.path)
            && sender.is_closed()
        {
            state.next.remove(&self.path);
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
        let mut state = self.handovers.state();
        if let Some(Handover::Expected(next)) = state.next.remove(&self.path) {
            let _ = next.send(());
        }
        let fence = fence_of(&self.path);
        if let Some(released) = state.released.get_mut(fence) {
            *released -= 1;
            if *released == 0 {
                state.released.remove(fence);
            }
        }
    }
}

/// The path of the fence's znode.
fn fence_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(fence, _)| fence)
}
