//! How many connections clients may have. Where the process can open no more files, it can neither accept anybody nor
//! reach its store, so it stays well below.
//!
//! Whoever comes beyond is told so with a 503, and probes are answered: for that there are a few spare connections, each
//! for one request and to be used at once. When they are taken as well, what comes is closed. Nobody is left waiting in the
//! system's queue instead: who is refused can go to another replica, and who waits behind idle connections waits for
//! their timeouts, probes as well.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, Version, header},
    middleware,
    middleware::Next,
    response::Response,
};
use axum_server::{ConnectionShutdown, Handle, accept::Accept};
use futures::{FutureExt, future::BoxFuture};
use rustix::process::{Resource, getrlimit};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tower_service::Service;
use utoipa_axum::router::OpenApiRouter;

use super::{
    Gateway, health,
    metrics::{self, Metrics, NotServed},
};

/// Files that are left for the store, the lock service, the log, and those who are told that there is no place.
const RESERVE: u64 = 256;
/// The most connections on which that is told.
const SPARE: usize = 64;
/// How long such a connection may take to send anything.
const PROMPT: Duration = Duration::from_secs(1);
/// The most connections that were let in and have neither a place yet nor were closed.
const UNDECIDED: usize = 16;

/// The places for connections.
pub(super) struct Connections {
    most: usize,
    places: Arc<Semaphore>,
    most_spare: usize,
    spare: Arc<Semaphore>,
}

impl Connections {
    /// Of `most` connections, or as many as the limit of open files allows.
    pub(super) fn new(most: usize) -> Arc<Self> {
        let allowed = allowed(getrlimit(Resource::Nofile).current);
        if allowed < most {
            tracing::warn!(
                allowed,
                max_connections = most,
                "the limit of open files allows fewer connections"
            );
        }
        let most = most.min(allowed).min(Semaphore::MAX_PERMITS);
        let most_spare = (most / 8).clamp(1, SPARE);
        Arc::new(Self {
            most,
            places: Arc::new(Semaphore::new(most)),
            most_spare,
            spare: Arc::new(Semaphore::new(most_spare)),
        })
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.most + self.most_spare - self.places.available_permits() - self.spare.available_permits()
    }
}

/// How many connections this limit of open files allows.
fn allowed(files: Option<u64>) -> usize {
    let Some(files) = files else { return usize::MAX };
    let connections = files.saturating_sub(RESERVE).max(files / 2);
    usize::try_from(connections).unwrap_or(usize::MAX)
}

/// What is answered when there are too many connections: probes, and nothing else.
pub(super) fn when_full() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::new()
        .merge(health::routes())
        .merge(metrics::routes())
}

/// The routes, with the connection's end after the first request.
pub(super) fn for_one_request(routes: Router) -> Router {
    async fn end(request: Request, next: Next) -> Response {
        if let Some(connection) = request.extensions().get::<ConnectionShutdown>() {
            connection.graceful_shutdown();
        }
        // HTTP/2 has no such header, and says so in its own way.
        let says = request.version() < Version::HTTP_2;
        let mut answer = next.run(request).await;
        if says {
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(header::CONNECTION, close);
        }
        answer
    }
    routes.layer(middleware::from_fn(end))
}

/// Makes the service for each connection, and lets no more of them in than can be looked at: each that is let in has a file
/// already, and the server accepts without end.
pub(super) struct Door {
    routes: Router,
    handle: Handle<SocketAddr>,
    connections: Arc<Connections>,
}

impl Door {
    pub(super) fn new(routes: Router, handle: &Handle<SocketAddr>, gateway: &Gateway) -> Self {
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
pub(super) struct PlaceAcceptor {
    connections: Arc<Connections>,
    metrics: Arc<Metrics>,
    when_full: Router,
}

impl PlaceAcceptor {
    /// `when_full` answers those for whom there is none.
    pub(super) fn new(gateway: &Gateway, when_full: Router) -> Self {
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

#[derive(Debug, thiserror::Error)]
#[error("there are too many connections")]
struct TooMany;

/// Says which connections were not accepted, in a line a second at most.
pub(super) struct NotAccepted {
    metrics: Arc<Metrics>,
    /// When there last was a line, and how many have had none since.
    said: Mutex<(Option<Instant>, u64)>,
}

impl NotAccepted {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            said: Mutex::default(),
        }
    }

    pub(super) fn note(&self, error: &io::Error) {
        let too_many = error.get_ref().is_some_and(|inner| inner.is::<TooMany>());
        self.metrics.not_served(match too_many {
            true => NotServed::Closed,
            false => NotServed::Failed,
        });
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, others) = &mut *said;
        if last.is_some_and(|last| last.elapsed() < Duration::from_secs(1)) {
            *others += 1;
            return;
        }
        tracing::warn!(%error, others, "a connection could not be accepted");
        *said = (Some(Instant::now()), 0);
    }
}

/// A connection that has a place, until it is closed.
pub(super) struct Placed {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl Placed {
    fn new(stream: TcpStream, place: OwnedSemaphorePermit) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            _place: place,
        })
    }

    fn stream(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(&mut self.stream)
    }
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(context, buffer)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_left_for_the_store() {
        assert_eq!(allowed(None), usize::MAX);
        assert_eq!(allowed(Some(1024)), 768);
        assert_eq!(allowed(Some(20_000)), 19_744);
        for files in [0, 1, 64, 255, 256, 300] {
            assert_eq!(allowed(Some(files)) as u64, files / 2, "{files}");
        }
    }
}
