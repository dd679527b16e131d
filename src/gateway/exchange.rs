//! What every request and every answer has: an id, one line in the log, and an answer even after a panic.
//!
//! Problems are rendered here, and logged here, once. The line has the route's template and not the path, and
//! nothing of headers and bodies, so neither a holder nor a value can get into it.

use std::{panic::AssertUnwindSafe, time::Instant};

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderMap, HeaderName, HeaderValue, Method},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use uuid::Uuid;

use super::{Problem, health, path};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The most bytes of a request id that is taken over from the client.
const LONGEST_ID: usize = 128;

/// Wraps every route.
pub(super) async fn exchange(request: Request, next: Next) -> Response {
    let mut line = Line::begin(&request);
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let mut answer = answer.unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let what = what.or_else(|| panic.downcast_ref::<String>().cloned());
        Problem::internal(format!("panic: {}", what.unwrap_or_default())).into_response()
    });
    let problem = answer.extensions_mut().remove::<Problem>();
    if let Some(problem) = &problem {
        let headers = std::mem::take(answer.headers_mut());
        answer = problem.render(line.fence.as_deref(), &line.id, headers);
    }
    if let Ok(id) = HeaderValue::from_str(&line.id) {
        answer.headers_mut().insert(REQUEST_ID, id);
    }
    line.end(answer.status().as_u16(), problem.as_ref());
    answer
}

/// The client's request id if it is sane, or a fresh one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    match given {
        Some(id) if (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic()) => {
            id.into()
        }
        _ => Uuid::new_v4().to_string(),
    }
}

/// The log line of one request. Dropped before its end, it says that the client went away.
struct Line {
    begun: Instant,
    method: Method,
    route: String,
    id: String,
    fence: Option<String>,
    ended: bool,
}

impl Line {
    fn begin(request: &Request) -> Self {
        let route = request.extensions().get::<MatchedPath>();
        let fence = path::fence(request.uri().path()).and_then(Result::ok);
        Self {
            begun: Instant::now(),
            method: request.method().clone(),
            route: route.map_or("unknown", MatchedPath::as_str).into(),
            id: request_id(request.headers()),
            fence: fence.map(|fence| fence.to_string()),
            ended: false,
        }
    }

    fn duration_ms(&self) -> f64 {
        (self.begun.elapsed().as_secs_f64() * 1e6).round() / 1e3
    }

    fn end(&mut self, status: u16, problem: Option<&Problem>) {
        self.ended = true;
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    method = %self.method,
                    route = self.route,
                    status,
                    duration_ms = self.duration_ms(),
                    request_id = self.id,
                    fence = self.fence,
                    problem = problem.map(Problem::name),
                    presented = problem.and_then(Problem::presented),
                    mark = problem.and_then(Problem::mark),
                    error = problem.and_then(Problem::inner),
                    "request"
                )
            };
        }
        match status {
            500 => line!(error),
            501.. => line!(warn),
            200 if health::is_probe(&self.route) => line!(debug),
            _ => line!(info),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.ended {
            tracing::info!(
                method = %self.method,
                route = self.route,
                duration_ms = self.duration_ms(),
                request_id = self.id,
                fence = self.fence,
                "request: the client went away"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, middleware, routing::get};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_problem() {
        async fn broken() -> &'static str {
            panic!("a secret of the inside")
        }
        let router = Router::new()
            .route("/", get(broken))
            .layer(middleware::from_fn(exchange));
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
