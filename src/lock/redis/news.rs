//! News of releases in other processes, over one subscribed connection that is opened when it is first needed.
//!
//! News can be lost, so whoever waits for it also asks from time to time.

use std::{
    collections::HashMap,
    io::{self, ErrorKind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use redis::RedisResult;
use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc},
};

use super::link::Link;
use crate::lock::wait::random_share;

/// How many processes a release calls, of all that wait for the lock.
const CALLED: f64 = 4.0;
/// The pause before a connection that broke is opened again.
const PAUSE: Duration = Duration::from_millis(200);

/// Subscribes to channels for as long as somebody listens.
#[derive(Clone)]
pub(super) struct News(Arc<Inner>);

struct Inner {
    link: Link,
    /// To the task that delivers. It ends with the runtime of whoever came first, and then there is another one.
    changes: Mutex<Option<mpsc::UnboundedSender<Change>>>,
}

enum Change {
    Listen(String, Arc<Ear>),
    Leave(String, Arc<Ear>),
}

/// What somebody who waits hears with.
#[derive(Default)]
struct Ear {
    called: Notify,
    subscribed: AtomicBool,
}

/// Hears the news of one channel until it is dropped. Of several for one channel the last one hears.
pub(super) struct Listener {
    news: News,
    channel: String,
    ear: Arc<Ear>,
}

impl News {
    /// Opens no connection yet.
    pub(super) fn new(link: Link) -> Self {
        Self(Arc::new(Inner {
            link,
            changes: Mutex::default(),
        }))
    }

    /// Listens to a channel. The listener is called once when it has been subscribed to: what happened before
    /// was not heard.
    pub(super) fn listen(&self, channel: String) -> Listener {
        let ear = Arc::<Ear>::default();
        self.change(Change::Listen(channel.clone(), ear.clone()));
        Listener {
            news: self.clone(),
            channel,
            ear,
        }
    }

    fn change(&self, change: Change) {
        let mut changes = self.0.changes.lock().expect("nothing panics while it holds it");
        let change = match &*changes {
            Some(changes) => match changes.send(change) {
                Ok(()) => return,
                Err(unsent) => unsent.0,
            },
            None => change,
        };
        // A listener may be dropped where there is no runtime, and what nobody delivers needs no end.
        let (Change::Listen(..), Ok(runtime)) = (&change, Handle::try_current()) else {
            return;
        };
        let (sender, delivered) = mpsc::unbounded_channel();
        let _ = sender.send(change);
        // Ends when the sender is gone.
        runtime.spawn(deliver(self.0.link.clone(), delivered));
        *changes = Some(sender);
    }
}

impl Listener {
    /// Waits for news.
    ///
    /// # Cancel safety
    /// Yes.
    pub(super) async fn called(&self) {
        self.ear.called.notified().await;
    }

    /// Whether news would be heard now.
    pub(super) fn hears(&self) -> bool {
        self.ear.subscribed.load(Ordering::Relaxed)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.news
            .change(Change::Leave(std::mem::take(&mut self.channel), self.ear.clone()));
    }
}

impl Ear {
    fn set(&self, subscribed: bool) {
        self.subscribed.store(subscribed, Ordering::Relaxed);
        if subscribed {
            self.called.notify_one();
        }
    }
}

type Ears = HashMap<String, Arc<Ear>>;

/// Keeps a subscribed connection while anybody listens.
async fn deliver(link: Link, mut changes: mpsc::UnboundedReceiver<Change>) {
    let mut ears = Ears::new();
    while let Some(change) = changes.recv().await {
        apply(&mut ears, change);
        while !ears.is_empty() {
            if let Err(error) = subscribed(&link, &mut ears, &mut changes).await {
                tracing::debug!(service = link.service(), %error, "no news of releases, asking instead");
            }
            ears.values().for_each(|ear| ear.set(false));
            if changes.is_closed() && changes.is_empty() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
            while let Ok(change) = changes.try_recv() {
                apply(&mut ears, change);
            }
        }
    }
}

/// Follows a change, and says which channel it concerns and whether that is to be heard, if it makes a difference.
fn apply(ears: &mut Ears, change: Change) -> Option<(String, bool)> {
    match change {
        Change::Listen(channel, ear) => {
            ears.insert(channel.clone(), ear);
            Some((channel, true))
        }
        Change::Leave(channel, ear) => {
            ears.get(&channel).filter(|present| Arc::ptr_eq(present, &ear))?;
            ears.remove(&channel);
            Some((channel, false))
        }
    }
}

/// Opens a connection and passes on what it says, until it breaks.
async fn subscribed(
    link: &Link,
    ears: &mut Ears,
    changes: &mut mpsc::UnboundedReceiver<Change>,
) -> RedisResult<()> {
    let open = async { link.client().await?.get_async_pubsub().await };
    let (mut sink, mut stream) = in_time(link, open).await?.split();
    for (channel, ear) in &*ears {
        in_time(link, sink.subscribe(channel)).await?;
        ear.set(true);
    }
    loop {
        tokio::select! {
            message = stream.next() => {
                let Some(message) = message else { return Err(io::Error::from(ErrorKind::BrokenPipe).into()) };
                // Each of many processes comes with a chance, so that a few come. If none does, the next one
                // that asks by itself gets the lock.
                let listeners: f64 = message.get_payload().unwrap_or(1.0);
                if let Some(ear) = ears.get(message.get_channel_name())
                    && random_share() * listeners <= CALLED
                {
                    ear.called.notify_one();
                }
            }
            change = changes.recv() => {
                let Some(change) = change else { return Ok(()) };
                match apply(ears, change) {
                    Some((channel, true)) => {
                        in_time(link, sink.subscribe(&channel)).await?;
                        ears[&channel].set(true);
                    }
                    Some((channel, false)) => in_time(link, sink.unsubscribe(&channel)).await?,
                    None => {}
                }
            }
        }
    }
}

async fn in_time<T>(link: &Link, request: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    match tokio::time::timeout(link.timeout(), request).await {
        Ok(answer) => answer,
        Err(_) => Err(io::Error::from(ErrorKind::TimedOut).into()),
    }
}
