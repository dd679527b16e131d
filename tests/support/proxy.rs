//! A TCP proxy that fails on demand: a network that is cut, silent, slow, or loses just the reply.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::ports::Port;

mod pump;

/// Passes everything on, until told otherwise. Dropping it closes all connections.
pub struct Proxy {
    port: Port,
    weather: watch::Sender<Weather>,
    traps: Traps,
    listening: Option<JoinHandle<()>>,
    upstream: String,
}

/// What every connection, old or new, meets at the moment.
#[derive(Clone, Default)]
struct Weather {
    requests_silent: bool,
    replies_silent: bool,
    delay: Duration,
    /// The number of cuts so far: a connection ends when it grows.
    cuts: u64,
}

/// Waits for one request, whose reply it takes away.
struct Trap {
    matches: Predicate,
    sprung: oneshot::Sender<()>,
}

type Predicate = Box<dyn FnMut(&[u8]) -> bool + Send>;

/// At most one is set at a time.
type Traps = Arc<Mutex<Option<Trap>>>;

impl Proxy {
    /// To `host:port`, which need not be up yet.
    pub async fn start(upstream: impl ToString) -> Self {
        let (weather, _) = watch::channel(Weather::default());
        let mut proxy = Self {
            port: Port::reserve(),
            weather,
            traps: Traps::default(),
            listening: None,
            upstream: upstream.to_string(),
        };
        proxy.listen().await;
        proxy
    }

    pub fn addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port.number()).into()
    }

    /// Resets every connection, now. New ones get through.
    pub fn cut(&self) {
        self.weather.send_modify(|weather| weather.cuts += 1);
    }

    /// Refuses new connections, as a machine does on which the server is down, or accepts them again.
    /// Those that stand go on.
    pub async fn refuse(&mut self, refuse: bool) {
        match (refuse, self.listening.take()) {
            (true, Some(listening)) => {
                listening.abort();
                let _ = listening.await;
            }
            (false, None) => self.listen().await,
            (_, listening) => self.listening = listening,
        }
    }

    /// Leads to another server from now on, as a load balancer may.
    pub async fn lead_to(&mut self, upstream: impl ToString) {
        self.refuse(true).await;
        self.upstream = upstream.to_string();
        self.refuse(false).await;
        self.cut();
    }

    /// Silence in both directions: connections stand, nothing comes through, nothing is lost.
    pub fn pause(&self) {
        self.pause_requests();
        self.pause_replies();
    }

    /// What clients send does not arrive.
    pub fn pause_requests(&self) {
        self.weather.send_modify(|weather| weather.requests_silent = true);
    }

    /// The server is asked and acts, but its replies do not arrive.
    pub fn pause_replies(&self) {
        self.weather.send_modify(|weather| weather.replies_silent = true);
    }

    /// Lets everything through that was held up.
    pub fn resume(&self) {
        self.weather.send_modify(|weather| {
            weather.requests_silent = false;
            weather.replies_silent = false;
        });
    }

    /// Holds every piece of data up for this long, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.weather.send_modify(|weather| weather.delay = delay);
    }

    /// Loses one reply: the next piece of data from a client for which `matches` is true is passed on, and
    /// the client's connection is reset when the server begins to reply. The server's end of it stays open,
    /// so that the server finishes what it was asked to do. The receiver hears when it has happened.
    ///
    /// A protocol that answers several requests at once over one connection (HTTP/2) may begin to reply to
    /// another one: then wait for the server's act by other means before relying on it.
    pub fn cut_on_request(
        &self,
        matches: impl FnMut(&[u8]) -> bool + Send + 'static,
    ) -> oneshot::Receiver<()> {
        let (sprung, receiver) = oneshot::channel();
        *self.traps.lock().unwrap() = Some(Trap {
            matches: Box::new(matches),
            sprung,
        });
        receiver
    }

    async fn listen(&mut self) {
        let listener = TcpListener::bind(self.addr()).await.unwrap();
        let (upstream, traps) = (self.upstream.clone(), self.traps.clone());
        let weather = self.weather.subscribe();
        self.listening = Some(tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else {
                    continue;
                };
                // Not our child: it outlives the listener when new connections are refused, and ends with
                // the sender of the weather.
                tokio::spawn(pump::connection(
                    client,
                    upstream.clone(),
                    weather.clone(),
                    traps.clone(),
                ));
            }
        }));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
        }
    }
}
