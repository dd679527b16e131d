//! Between clients and a gateway: passes HTTP requests on, late, twice, in another order, or not at all, and loses
//! answers.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::rng::Rng;

/// What requests meet. In percent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    /// The longest that one is held up, which also changes their order.
    pub delay: Duration,
    /// Passed on a second time, up to this much later. Only what is meant to be repeated.
    pub twice: u64,
    pub again: Duration,
    /// Said to be lost, and passed on up to that much later.
    pub late: u64,
    /// Passed on, and the answer is lost.
    pub unanswered: u64,
    /// Not passed on.
    pub lost: u64,
}

pub struct Courier {
    pub url: String,
    state: Arc<Post>,
    serving: JoinHandle<()>,
}

struct Post {
    to: String,
    http: reqwest::Client,
    now: Mutex<(Weather, Rng)>,
}

impl Courier {
    /// To the gateway on this port, which need not be up yet.
    pub async fn start(port: u16) -> Self {
        // Some other client may have chosen already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let state = Arc::new(Post {
            to: format!("http://127.0.0.1:{port}"),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            now: Mutex::new((Weather::default(), Rng::new(0))),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(carry).with_state(state.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, state, serving }
    }

    pub fn weather(&self, weather: Weather, seed: u64) {
        *self.state.now.lock().unwrap() = (weather, Rng::new(seed));
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn carry(State(post): State<Arc<Post>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(bytes) = to_bytes(body, 1 << 20).await else {
        return lost();
    };
    let (held_up, again, twice, is_late, is_unanswered, is_lost) = {
        let (weather, rng) = &mut *post.now.lock().unwrap();
        let mut upto = |limit: Duration| rng.millis(0, limit.as_millis() as u64);
        let (delay, again) = (upto(weather.delay), upto(weather.again));
        let mut happens = |percent| rng.percent(percent);
        (
            delay,
            again,
            happens(weather.twice),
            happens(weather.late),
            happens(weather.unanswered),
            happens(weather.lost),
        )
    };
    tokio::time::sleep(held_up).await;
    if is_lost {
        return lost();
    }
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut headers = head.headers.clone();
    for name in ["host", "content-length", "connection", "transfer-encoding"] {
        headers.remove(name);
    }
    // Leases know their holder again, and reads change nothing.
    let is_repeatable =
        headers.contains_key("idempotency-key") || head.method == Method::GET || path.ends_with("/lease");
    let request = post
        .http
        .request(head.method, format!("{}{path}", post.to))
        .headers(headers)
        .timeout(Duration::from_secs(20))
        .body(bytes);
    if is_late || twice && is_repeatable {
        let request = request.try_clone().unwrap();
        tokio::spawn(async move {
            tokio::time::sleep(again).await;
            let _ = request.send().await;
        });
    }
    if is_late {
        return lost();
    }
    // Whoever asked may go away; what was sent is sent all the same.
    let asked = tokio::spawn(async move {
        let answer = request.send().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        answer.bytes().await.map(|bytes| (status, headers, bytes))
    });
    match asked.await.unwrap() {
        Ok((status, mut headers, bytes)) if !is_unanswered => {
            headers.remove("transfer-encoding");
            headers.remove("content-length");
            (status, headers, Body::from(bytes)).into_response()
        }
        _ => lost(),
    }
}

/// As from a proxy that does not know what became of the request.
fn lost() -> Response {
    (StatusCode::BAD_GATEWAY, "the answer is lost").into_response()
}
