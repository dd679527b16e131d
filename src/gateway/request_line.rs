//! The log line of one request.
//!
//! It has the route's template and not the path, and nothing of headers and bodies, so neither a holder nor a value
//! can get into it. Requests that went well are many: of those beyond [`Config::log_lines`](super::Config) a second
//! only one in [`ONE_IN`] has a line, which says how many have none. All others have one each.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderMap, HeaderName, Method},
};
use uuid::Uuid;

use super::{Problem, auth::Client, health, metrics::Metrics, path, trace};

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The most bytes of a request id that is taken over from the client.
const LONGEST_ID: usize = 128;
/// Beyond the first lines of a second, one in so many is written.
const ONE_IN: u64 = 100;

/// Writes the lines of a gateway's requests, and counts them.
pub(super) struct Lines {
    metrics: Arc<Metrics>,
    sampler: Sampler,
}

impl Lines {
    /// `most`: how many lines a second of requests that went well, before they are sampled.
    pub(super) fn new(metrics: Arc<Metrics>, most: u32) -> Arc<Self> {
        Arc::new(Self {
            metrics,
            sampler: Sampler {
                began: Instant::now(),
                most: most.into(),
                second: AtomicU64::new(0),
                lines: AtomicU64::new(0),
                left_out: AtomicU64::new(0),
            },
        })
    }

    pub(super) fn begin(self: &Arc<Self>, request: &Request) -> Line {
        let route = request.extensions().get::<MatchedPath>();
        let fence = path::fence(request.uri().path()).and_then(Result::ok);
        Line {
            lines: self.clone(),
            begun: Instant::now(),
            method: request.method().clone(),
            route: route.cloned(),
            id: request_id(request.headers()),
            trace: trace::id(request.headers()),
            fence: fence.map(|fence| fence.to_string()),
            client: None,
            ended: false,
        }
    }
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

/// Dropped before its end, it says that the client went away.
pub(super) struct Line {
    lines: Arc<Lines>,
    begun: Instant,
    method: Method,
    route: Option<MatchedPath>,
    pub(super) id: String,
    trace: Option<String>,
    pub(super) fence: Option<String>,
    /// Once it is known.
    pub(super) client: Option<Client>,
    ended: bool,
}

impl Line {
    pub(super) fn method(&self) -> &Method {
        &self.method
    }

    /// The template of the path.
    pub(super) fn route(&self) -> &str {
        self.route.as_ref().map_or("unknown", MatchedPath::as_str)
    }

    pub(super) fn end(&mut self, status: u16, problem: Option<&Problem>) {
        self.ended = true;
        let took = self.begun.elapsed();
        let metrics = &self.lines.metrics;
        metrics.request(self.route(), &self.method, Some(status), took);
        if let Some(problem) = problem {
            metrics.problem(problem.name());
        }
        let mut left_out = None;
        if problem.is_none() && status < 400 && !health::is_probe(self.route()) {
            match self.lines.sampler.next() {
                Some(others) => left_out = Some(others).filter(|others| *others > 0),
                None => return metrics.lines_left_out.increment(1),
            }
        }
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    method = %self.method,
                    route = self.route(),
                    status,
                    duration_ms = (took.as_secs_f64() * 1e6).round() / 1e3,
                    request_id = self.id,
                    trace_id = self.trace,
                    fence = self.fence,
                    client = self.client.as_ref().map(Client::name),
                    problem = problem.map(Problem::name),
                    presented = problem.and_then(Problem::presented),
                    mark = problem.and_then(Problem::mark),
                    error = problem.and_then(Problem::inner),
                    left_out,
                    "request"
                )
            };
        }
        match status {
            500 => line!(error),
            501.. => line!(warn),
            200 if health::is_probe(self.route()) => line!(debug),
            _ => line!(info),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let took = self.begun.elapsed();
        self.lines.metrics.request(self.route(), &self.method, None, took);
        tracing::info!(
            method = %self.method,
            route = self.route(),
            duration_ms = (took.as_secs_f64() * 1e6).round() / 1e3,
            request_id = self.id,
            trace_id = self.trace,
            fence = self.fence,
            "request: the client went away"
        );
    }
}

/// Decides which lines are written.
struct Sampler {
    began: Instant,
    /// How many a second are written, whatever comes.
    most: u64,
    second: AtomicU64,
    /// How many there were in that second.
    lines: AtomicU64,
    /// How many were not written since the last one that was.
    left_out: AtomicU64,
}

impl Sampler {
    /// Whether the next line is written, and then how many before it were not.
    fn next(&self) -> Option<u64> {
        let second = self.began.elapsed().as_secs();
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.lines.store(0, Ordering::Relaxed);
        }
        let line = self.lines.fetch_add(1, Ordering::Relaxed);
        if line < self.most || (line - self.most + 1).is_multiple_of(ONE_IN) {
            return Some(self.left_out.swap(0, Ordering::Relaxed));
        }
        self.left_out.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_said() {
        let lines = Lines::new(Arc::new(Metrics::new()), 10);
        let (mut written, mut told, mut seconds) = (0, 0, 1);
        let began = Instant::now();
        for _ in 0..1011 {
            if let Some(left_out) = lines.sampler.next() {
                written += 1;
                told += left_out;
            }
        }
        seconds += began.elapsed().as_secs();
        let untold = lines.sampler.left_out.load(Ordering::Relaxed);
        assert_eq!(written + told + untold, 1011);
        assert!(
            (20..=20 * seconds + 10).contains(&written),
            "{written} in {seconds} s"
        );
    }
}
