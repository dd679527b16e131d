//! Who is let in: each connection gets a place, or a spare one to be told on, or is closed.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::Router;
use axum_server::{Handle, accept::Accept};
use futures::{FutureExt, future::BoxFuture};
use tokio::net::TcpStream;
use tower_service::Service;

use super::{Connections, not_accepted::TooMany, placed::Placed};
use crate::gateway::{
    Gateway,
    metrics::{Metrics, NotServed},
};

/// How long a connection with a spare place may take to send anything.
const PROMPT: Duration = Duration::from_secs(1);
/// The most connections that were let in and have neither a place yet nor were closed.
const UNDECIDED: usize = 16;

/// Makes the service for each connection, and lets no more of them in than can be looked at: each that is let in has a file
/// already, and the server accepts without end.
pub(in crate::gateway) struct Door {
    routes: Router,
    handle: Handle<SocketAddr>,
    connections: Arc<Connections>,
}

impl Door {
    pub(in crate::gateway) fn new(routes: Router, handle: &Handle<SocketAddr>, gateway: &Gateway) -> Self {
        Self {
            routes,
            handle: handle.clone(),
            connections: gateway.connections.clone(),
        }
    }
}

impl Service<SocketAddr> for Door {
    type Response = Router;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Router, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: SocketAddr) -> Self::Future {
        let (routes, handle, connections) =
            (self.routes.clone(), self.handle.clone(), self.connections.clone());
        async move {
            let until = Instant::now() + PROMPT;
            while handle.connection_count() > connections.count() + UNDECIDED && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok(routes)
        }
        .boxed()
    }
}

/// Accepts a connection if there is a place for it.
#[derive(Clone)]
pub(in crate::gateway) struct PlaceAcceptor {
    connections: Arc<Connections>,
    metrics: Arc<Metrics>,
    when_full: Router,
}

impl PlaceAcceptor {
    /// `when_full` answers those for whom there is none.
    pub(in crate::gateway) fn new(gateway: &Gateway, when_full: Router) -> Self {
        Self {
            connections: gateway.connections.clone(),
            metrics: gateway.witness.metrics().clone(),
            when_full,
        }
    }

    /// Somebody for whom there is no place.
    async fn turn_away(self, stream: TcpStream) -> io::Result<(Placed, Router)> {
        let place = self.connections.spare.clone().try_acquire_owned();
        let place = place.map_err(|_| io::Error::other(TooMany))?;
        // That it may be readable is not enough: that is said too early.
        let first = tokio::time::timeout(PROMPT, stream.peek(&mut [0])).await;
        first.map_err(|_| io::Error::other(TooMany))??;
        self.metrics.not_served(NotServed::Told);
        Ok((Placed::new(stream, place)?, self.when_full))
    }
}

impl Accept<TcpStream, Router> for PlaceAcceptor {
    type Stream = Placed;
    type Service = Router;
    type Future = BoxFuture<'static, io::Result<(Placed, Router)>>;

    fn accept(&self, stream: TcpStream, routes: Router) -> Self::Future {
        match self.connections.places.clone().try_acquire_owned() {
            Ok(place) => {
                std::future::ready(Placed::new(stream, place).map(|placed| (placed, routes))).boxed()
            }
            Err(_) => self.clone().turn_away(stream).boxed(),
        }
    }
}
