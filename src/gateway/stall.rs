//! Clients that ask, and then take nothing of their answer: each would hold a connection and its answer for ever.

use std::{io, pin::Pin, time::Duration};

use axum_server::accept::Accept;
use futures::{FutureExt, TryFutureExt, future::BoxFuture};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_io_timeout::TimeoutStream;

/// Accepts connections as another acceptor does. A write that makes no progress for the time fails, and with it the
/// connection; one that has nothing to write may be idle.
#[derive(Debug, Clone)]
pub(super) struct StallAcceptor<A> {
    pub(super) inner: A,
    pub(super) timeout: Duration,
}

impl<A, I, S> Accept<I, S> for StallAcceptor<A>
where
    A: Accept<I, S>,
    A::Stream: AsyncRead + AsyncWrite,
    A::Future: Send + 'static,
{
    type Stream = Pin<Box<TimeoutStream<A::Stream>>>;
    type Service = A::Service;
    type Future = BoxFuture<'static, io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        let timeout = self.timeout;
        let accepted = self.inner.accept(stream, service);
        let accepted = accepted.map_ok(move |(stream, service)| {
            let mut stream = TimeoutStream::new(stream);
            stream.set_write_timeout(Some(timeout));
            (Box::pin(stream), service)
        });
        accepted.boxed()
    }
}
