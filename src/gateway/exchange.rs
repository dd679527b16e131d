//! What every request and every answer has: an id, one line in the log, a span, and an answer even after a panic.
//!
//! Problems are rendered here, and logged here, once.

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::{
    extract::{Request, State},
    http::HeaderValue,
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use tracing::Instrument;

use super::{
    Problem,
    auth::Client,
    request_line::{Lines, REQUEST_ID},
    trace,
};

/// Wraps every route.
pub(super) async fn exchange(State(lines): State<Arc<Lines>>, request: Request, next: Next) -> Response {
    let mut line = lines.begin(&request);
    let span = trace::span(&line, request.headers());
    let answer = next.run(request).instrument(span.clone());
    let answer = AssertUnwindSafe(answer).catch_unwind().await;
    let mut answer = answer.unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let what = what.or_else(|| panic.downcast_ref::<String>().cloned());
        Problem::internal(format!("panic: {}", what.unwrap_or_default())).into_response()
    });
    line.client = answer.extensions_mut().remove::<Client>();
    let problem = answer.extensions_mut().remove::<Problem>();
    if let Some(problem) = &problem {
        let headers = std::mem::take(answer.headers_mut());
        answer = problem.render(line.fence.as_deref(), &line.id, headers);
    }
    if let Ok(id) = HeaderValue::from_str(&line.id) {
        answer.headers_mut().insert(REQUEST_ID, id);
    }
    let status = answer.status().as_u16();
    trace::end(&span, status, problem.as_ref());
    line.end(status, problem.as_ref());
    answer
}

#[cfg(test)]
mod tests {
    use axum::{Router, middleware, routing::get};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::gateway::metrics::Metrics;

    #[tokio::test]
    async fn a_panic_is_a_problem() {
        async fn broken() -> &'static str {
            panic!("a secret of the inside")
        }
        let router = Router::new()
            .route("/", get(broken))
            .layer(middleware::from_fn_with_state(
                Lines::new(Arc::new(Metrics::new()), 1),
                exchange,
            ));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        assert!(answer.contains("urn:fencegate:problem:internal"), "{answer}");
        assert!(answer.contains("x-request-id: "), "{answer}");
        assert!(!answer.contains("secret"), "{answer}");
    }
}
