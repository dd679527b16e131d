//! Requests by route, method and status.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use axum::http::Method;
use metrics::{Counter, Histogram, Label, Recorder};

use super::{METADATA, Metrics, REQUEST_SECONDS, REQUESTS};

/// What a route has been asked for. Looked up with every request, so nothing is allocated for what is known.
#[derive(Default)]
pub(super) struct Requests(RwLock<HashMap<String, Route>>);

struct Route {
    seconds: Histogram,
    answers: HashMap<(&'static str, Option<u16>), Counter>,
}

impl Metrics {
    /// A request was answered, or not waited for. `route` is a template, never a path.
    pub(in crate::gateway) fn request(
        &self,
        route: &str,
        method: &Method,
        status: Option<u16>,
        took: Duration,
    ) {
        let answer = (known(method), status);
        {
            let routes = self.requests.0.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(route) = routes.get(route)
                && let Some(counter) = route.answers.get(&answer)
            {
                counter.increment(1);
                route.seconds.record(took);
                return;
            }
        }
        let mut routes = self.requests.0.write().unwrap_or_else(PoisonError::into_inner);
        let known = routes.entry(route.to_owned()).or_insert_with(|| Route {
            seconds: self.recorder.register_histogram(
                &metrics::Key::from_parts(REQUEST_SECONDS.name, vec![Label::new("route", route.to_owned())]),
                &METADATA,
            ),
            answers: HashMap::new(),
        });
        let counter = known.answers.entry(answer).or_insert_with(|| {
            let status = status.map_or("gone".to_owned(), |status| status.to_string());
            let labels = vec![
                Label::new("route", route.to_owned()),
                Label::from_static_parts("method", answer.0),
                Label::new("status", status),
            ];
            let key = metrics::Key::from_parts(REQUESTS.name, labels);
            self.recorder.register_counter(&key, &METADATA)
        });
        counter.increment(1);
        known.seconds.record(took);
    }
}

/// Clients may make methods up.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
