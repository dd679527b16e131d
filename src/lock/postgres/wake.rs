//! Waking who waits: a release notifies, and one connection of this process listens for all fences.
//!
//! Notifications are a courtesy. They are lost while the connection is, and behind a pooler that shares connections
//! between clients there are none: so whoever waits also asks again from time to time.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{PgPool, postgres::PgListener};
use tokio::sync::Notify;

use crate::name::FenceName;

/// The channel on which releases are told, with the fence as the payload.
pub(super) const CHANNEL: &str = "fencegate_lock";

/// The pause before listening is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Who waits in this process, by fence. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Wake(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    ears: Mutex<HashMap<FenceName, Arc<Notify>>>,
    started: AtomicBool,
    listening: AtomicBool,
}

/// Waits for news of one fence.
pub(super) struct Ear {
    wake: Wake,
    name: FenceName,
    news: Arc<Notify>,
}

impl Wake {
    /// Begins to listen for a fence; in the background also for all, with the first that is listened for.
    pub(super) fn listen(&self, pool: &PgPool, name: &FenceName) -> Ear {
        if !self.0.started.swap(true, Ordering::Relaxed) {
            tokio::spawn(listen(pool.clone(), Arc::downgrade(&self.0)));
        }
        let news = self.0.ears().entry(name.clone()).or_default().clone();
        Ear {
            wake: self.clone(),
            name: name.clone(),
            news,
        }
    }

    /// Whether releases are told at the moment.
    pub(super) fn is_listening(&self) -> bool {
        self.0.listening.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn ears(&self) -> MutexGuard<'_, HashMap<FenceName, Arc<Notify>>> {
        self.ears.lock().expect("nothing panics while it holds the ears")
    }

    /// Wakes one of those who wait for a fence here: only one can have it.
    fn tell(&self, name: &str) {
        if let Ok(name) = name.parse::<FenceName>()
            && let Some(news) = self.ears().get(&name)
        {
            news.notify_one();
        }
    }

    /// After a time without news, something may have been missed.
    fn tell_all(&self) {
        for news in self.ears().values() {
            news.notify_one();
        }
    }
}

impl Ear {
    /// Ends with the next news.
    ///
    /// # Cancel safety
    /// Yes.
    pub(super) async fn heard(&self) {
        self.news.notified().await;
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        let mut ears = self.wake.0.ears();
        // The map's and this one.
        if Arc::strong_count(&self.news) == 2 {
            ears.remove(&self.name);
        }
    }
}

/// Listens for as long as the lock service is there.
async fn listen(pool: PgPool, shared: Weak<Shared>) {
    while shared.strong_count() > 0 {
        if let Err(error) = listen_once(&pool, &shared).await {
            tracing::debug!(%error, "releases are not told at the moment");
        }
        if let Some(shared) = shared.upgrade() {
            shared.listening.store(false, Ordering::Relaxed);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Listens until the connection breaks.
async fn listen_once(pool: &PgPool, shared: &Weak<Shared>) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    if let Some(shared) = shared.upgrade() {
        shared.listening.store(true, Ordering::Relaxed);
        shared.tell_all();
    }
    loop {
        // Looks up now and then, to end with the lock service.
        let news = tokio::time::timeout(PAUSE, listener.try_recv()).await;
        let Some(shared) = shared.upgrade() else {
            return Ok(());
        };
        match news {
            Ok(Ok(Some(news))) => shared.tell(news.payload()),
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => {}
        }
    }
}
