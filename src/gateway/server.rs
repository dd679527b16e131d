//! The server: connections with their limits, and an orderly end.

use std::{io, net::SocketAddr, sync::Arc};

use axum_server::{Handle, Server, tls_rustls::RustlsAcceptor};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Advertised, Config, Gateway,
    connections::{Door, NotAccepted, PlaceAcceptor},
    idempotency, metrics, routers,
    stall::StallAcceptor,
};
use crate::{clock::Moment, grant::Locks, lock::given_back};

/// The most headers of a request, whatever is configured.
const MOST_HEADERS: usize = 10_000;

/// Serves the gateway until `shutdown` ends, and then until the requests that are under way have ended.
///
/// From then on no connection is accepted, waiting lease requests are answered with 503 at once, and the rest
/// has [`Config::drain_timeout`] to finish.
///
/// # Errors
/// As [`Config::may_advertise`], and [`Config::may_listen`] for the listener's address; [`ServeError::Io`] if the listener does not work.
///
/// # Cancel safety
/// Dropping the future closes all connections. Writes that are under way go on.
pub async fn serve(
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
    locks: Locks,
    config: Config,
) -> Result<(), ServeError> {
    config.may_advertise()?;
    let address = listener.local_addr()?;
    config.may_listen(address)?;
    let gateway = Arc::new(Gateway::new(locks, config, address.ip().is_loopback()));
    let handle = Handle::new();
    let _close = CloseOnDrop(handle.clone());
    let draining = drain(gateway.clone(), handle.clone(), shutdown);
    let draining = AbortOnDropHandle::new(tokio::spawn(draining));
    let _forget = AbortOnDropHandle::new(tokio::spawn(idempotency::forget(gateway.clone())));
    let upkeep = metrics::upkeep(gateway.witness.metrics().clone());
    let _upkeep = AbortOnDropHandle::new(tokio::spawn(upkeep));

    let not_accepted = NotAccepted::new(gateway.witness.metrics().clone());
    let mut server = Server::<SocketAddr>::from_listener(listener)
        .handle(handle.clone())
        .first_request_timeout(gateway.config.first_head_timeout)
        .accept_error_handler(move |_, error| not_accepted.note(error));
    limit(&mut server, &gateway.config);
    let (routes, when_full) = routers(gateway.clone());
    let routes = Door::new(routes, &handle, &gateway);
    let plain = StallAcceptor {
        inner: PlaceAcceptor::new(&gateway, when_full),
        timeout: gateway.config.stall_timeout,
    };
    match &gateway.config.tls {
        None => server.acceptor(plain).serve(routes).await?,
        Some(tls) => {
            let acceptor = RustlsAcceptor::new(tls.config())
                .handshake_timeout(gateway.config.first_head_timeout)
                .acceptor(plain);
            server.acceptor(acceptor).serve(routes).await?;
        }
    }

    gateway.tasks.close();
    let deadline = draining.await.unwrap_or_else(|_| Moment::now());
    let unfinished = async {
        gateway.tasks.wait().await;
        gateway.witness.rejections().flush().await;
        // The places in queues of those who were told to wait elsewhere.
        given_back().await;
    };
    if tokio::time::timeout(deadline.remaining(), unfinished)
        .await
        .is_err()
    {
        let writes = gateway.tasks.len();
        tracing::warn!(writes, "the time to drain was over before all was done");
    }
    Ok(())
}

fn limit<A>(server: &mut Server<SocketAddr, A>, config: &Config) {
    let builder = server.http_builder();
    builder
        .http1()
        .header_read_timeout(config.head_timeout)
        // More than there is memory for ends the process, and more than a map holds each request.
        .max_headers(config.max_headers.min(MOST_HEADERS))
        // Less makes hyper panic.
        .max_buf_size(usize::try_from(config.max_head).unwrap_or(usize::MAX).max(8192));
    builder
        .http2()
        .max_header_list_size(config.max_head)
        // Finds out about clients that are gone without a word.
        .keep_alive_interval(config.head_timeout / 2)
        .keep_alive_timeout(config.head_timeout / 2);
}

/// Waits for the shutdown and begins the drain; answers with its end.
async fn drain(
    gateway: Arc<Gateway>,
    handle: Handle<SocketAddr>,
    shutdown: impl Future<Output = ()> + Send,
) -> Moment {
    shutdown.await;
    let config = &gateway.config;
    gateway.draining.cancel();
    tracing::info!(connections = handle.connection_count(), "draining");
    tokio::time::sleep(config.drain_notice).await;
    handle.graceful_shutdown(Some(config.drain_timeout));
    Moment::now() + config.drain_timeout
}

/// Connections are tasks of their own, and outlive the future that accepts them.
struct CloseOnDrop(Handle<SocketAddr>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.shutdown();
    }
}

/// Why the gateway does not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Anybody who reaches the listener could do everything.
    #[error(
        "{0} can be reached from other machines, and clients do not have to show who they are: name a clients file or \
         a key for JWTs, listen on 127.0.0.1, or let everybody do everything with --allow-unauthenticated"
    )]
    Unauthenticated(SocketAddr),
    /// Anybody on the way to the listener could read and change everything.
    #[error(
        "{0} can be reached from other machines, and there is no TLS: name a certificate and its key, listen on \
         127.0.0.1, or, where something in front ends TLS, allow it with --allow-plaintext"
    )]
    Plaintext(SocketAddr),
    /// Clients do not reach it there.
    #[error(
        "this gateway has a certificate, so clients reach it over https, and not at {0}: advertise that URL"
    )]
    Advertised(Advertised),
    /// The listener does not work.
    #[error("the listener does not work: {0}")]
    Io(#[from] io::Error),
}
