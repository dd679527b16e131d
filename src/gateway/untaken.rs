//! Answers over HTTP/2 that their clients do not take. A client says for each how much of it may be sent, which may be
//! nothing: so nothing is ever written, and no write makes no progress, while 200 answers of a connection wait in memory.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{Request, State},
    http::Version,
    middleware::Next,
    response::Response,
};
use axum_server::ConnectionShutdown;
use http_body::{Frame, SizeHint};
use tokio_util::task::AbortOnDropHandle;

/// The most that is given away at a time. What is given away is not seen to wait.
const PIECE: usize = 16 * 1024;

/// Closes a connection of HTTP/2 when an answer's next piece is not asked for in this time.
pub(super) async fn cut_off(State(stall_timeout): State<Duration>, request: Request, next: Next) -> Response {
    let connection = match request.version() {
        Version::HTTP_2 => request.extensions().get::<ConnectionShutdown>().cloned(),
        _ => None,
    };
    let answer = next.run(request).await;
    match connection {
        None => answer,
        Some(connection) => answer.map(|body| {
            Body::new(Watched {
                body,
                rest: Bytes::new(),
                connection,
                stall_timeout,
                alarm: None,
            })
        }),
    }
}

/// A body whose pieces have to be taken in time. One that has nothing to give waits for as long as it likes.
struct Watched {
    body: Body,
    /// What is left of the last piece of the body.
    rest: Bytes,
    connection: ConnectionShutdown,
    stall_timeout: Duration,
    /// Goes off unless the next piece is asked for, or the body is dropped.
    alarm: Option<AbortOnDropHandle<()>>,
}

impl Watched {
    fn set_alarm(&mut self) {
        let (connection, stall_timeout) = (self.connection.clone(), self.stall_timeout);
        let alarm = tokio::spawn(async move {
            tokio::time::sleep(stall_timeout).await;
            connection.shutdown();
        });
        self.alarm = Some(AbortOnDropHandle::new(alarm));
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.alarm = None;
        if self.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            match frame.into_data() {
                Ok(data) => self.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let piece = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(piece);
        self.set_alarm();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (body, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + rest);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}
