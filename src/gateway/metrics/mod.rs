//! Metrics, for Prometheus.
//!
//! Each gateway has its own, so several can live in one process. No label ever has a fence, a key, a client, or
//! anything else that clients choose: the number of series is bounded.

mod holds;
mod requests;
mod table;

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Gateway, openapi::problems};
use crate::{
    rule::Reason,
    store::{StoreError, watch::Batch},
};
pub(super) use holds::Holds;
use requests::Requests;
use table::*;

/// How often measurements are sorted.
const UPKEEP: Duration = Duration::from_secs(5);
/// Where they are scraped.
pub(super) const METRICS: &str = "/metrics";

/// What there is to know of a metric.
struct Metric {
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    /// With the upper bounds of its buckets.
    Histogram(&'static [f64]),
}

/// How a kind of write may end.
#[derive(Clone)]
struct Outcomes([(&'static str, Counter); 6]);

/// What was asked to be written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Written {
    Put,
    Patch,
    Delete,
    Transaction,
}

/// What became of a connection that was not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotServed {
    Told,
    Closed,
    Failed,
}

/// The metrics of one gateway.
pub(super) struct Metrics {
    recorder: PrometheusRecorder,
    requests: Requests,
    pub(super) granted: Counter,
    pub(super) held: Counter,
    pub(super) not_granted: Counter,
    pub(super) wait_seconds: Histogram,
    pub(super) renewals: Counter,
    pub(super) released: Counter,
    pub(super) forced: Counter,
    pub(super) losses: Counter,
    pub(super) holds: Holds,
    writes: [Outcomes; 4],
    refusals: [(Reason, Counter); 3],
    batch_writes: Histogram,
    batch_seconds: Histogram,
    leases: Gauge,
    waiting: Gauge,
    queue: Gauge,
    busy: Gauge,
    idle: Gauge,
    connections: Gauge,
    connections_refused: [(NotServed, Counter); 3],
    listeners: Gauge,
    draining: Gauge,
    pub(super) lines_left_out: Counter,
}

pub(super) fn routes() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::new().routes(routes!(scrape))
}

/// Sorts what was measured into buckets, for as long as the gateway serves: until then each measurement takes up
/// memory.
pub(super) async fn upkeep(metrics: Arc<Metrics>) {
    loop {
        tokio::time::sleep(UPKEEP).await;
        metrics.recorder.handle().run_upkeep();
        metrics.holds.forget();
    }
}

#[utoipa::path(
    get, path = "/metrics", operation_id = "scrapeMetrics", tag = "watching",
    summary = "The metrics of this replica, for Prometheus",
    responses((status = 200, description = "All metrics", body = String, content_type = "text/plain"), problems::Scrape),
)]
async fn scrape(State(gateway): State<Arc<Gateway>>) -> Response {
    let metrics = gateway.witness.metrics();
    let pressure = gateway.locks.store().pressure();
    metrics.leases.set(number(metrics.holds.live()));
    let waiting = gateway
        .config
        .max_waiting
        .saturating_sub(gateway.waiting.available_permits());
    metrics.waiting.set(number(waiting));
    metrics.queue.set(number(pressure.queued));
    metrics.busy.set(number(pressure.busy));
    metrics.idle.set(number(pressure.idle));
    metrics.connections.set(number(gateway.connections.count()));
    metrics
        .listeners
        .set(number(gateway.witness.events().listeners()));
    metrics
        .draining
        .set(f64::from(u8::from(gateway.draining.is_cancelled())));
    let text = metrics.recorder.handle().render();
    let headers = [
        (header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, text).into_response()
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut builder = PrometheusBuilder::new();
        for metric in ALL {
            if let Kind::Histogram(bounds) = metric.kind {
                let matcher = Matcher::Full(metric.name.to_owned());
                let bounded = builder.set_buckets_for_metric(matcher, bounds);
                builder = bounded.expect("a histogram has bounds");
            }
        }
        let recorder = builder.build_recorder();
        for metric in ALL {
            let (name, help) = (metric.name.into(), metric.help.into());
            match metric.kind {
                Kind::Counter => recorder.describe_counter(name, None, help),
                Kind::Gauge => recorder.describe_gauge(name, None, help),
                Kind::Histogram(_) => recorder.describe_histogram(name, None, help),
            }
        }
        let counter = |metric: &Metric, values: &[&'static str]| counter(&recorder, metric, values);
        let gauge = |metric: &Metric, values: &[&'static str]| gauge(&recorder, metric, values);
        let histogram = |metric: &Metric| recorder.register_histogram(&key(metric, &[]), &METADATA);
        let outcomes = |kind| {
            let outcomes = ["written", "replayed", "refused", "condition", "unknown", "failed"];
            Outcomes(outcomes.map(|outcome| (outcome, counter(&WRITES, &[kind, outcome]))))
        };
        let reasons = [Reason::Stale, Reason::HolderMismatch, Reason::Unsealed];
        let not_served = [
            (NotServed::Told, "told"),
            (NotServed::Closed, "closed"),
            (NotServed::Failed, "failed"),
        ]
        .map(|(how, name)| (how, counter(&CONNECTIONS_REFUSED, &[name])));
        gauge(&BUILD, &[env!("CARGO_PKG_VERSION")]).set(1.0);
        Self {
            requests: Requests::default(),
            granted: counter(&GRANTS, &["granted"]),
            held: counter(&GRANTS, &["held"]),
            not_granted: counter(&GRANTS, &["failed"]),
            wait_seconds: histogram(&WAIT_SECONDS),
            renewals: counter(&RENEWALS, &[]),
            released: counter(&RELEASES, &["holder"]),
            forced: counter(&RELEASES, &["force"]),
            losses: counter(&LOSSES, &[]),
            holds: Holds::new(histogram(&HOLD_SECONDS)),
            writes: ["put", "patch", "delete", "transaction"].map(outcomes),
            refusals: reasons.map(|reason| (reason, counter(&REFUSALS, &[reason.as_str()]))),
            batch_writes: histogram(&BATCH_WRITES),
            batch_seconds: histogram(&BATCH_SECONDS),
            leases: gauge(&LEASES, &[]),
            waiting: gauge(&WAITING, &[]),
            queue: gauge(&QUEUE, &[]),
            busy: gauge(&CONNECTIONS, &["busy"]),
            idle: gauge(&CONNECTIONS, &["idle"]),
            connections: gauge(&CLIENT_CONNECTIONS, &[]),
            connections_refused: not_served,
            listeners: gauge(&LISTENERS, &[]),
            draining: gauge(&DRAINING, &[]),
            lines_left_out: counter(&LINES_LEFT_OUT, &[]),
            recorder,
        }
    }

    /// A write ended: `Ok` with whether it had happened before, under the same key.
    pub(super) fn wrote(&self, kind: Written, outcome: Result<bool, &StoreError>) {
        let outcome = match outcome {
            Ok(false) => "written",
            Ok(true) => "replayed",
            Err(error) => ending(error),
        };
        let Outcomes(counters) = &self.writes[kind as usize];
        if let Some((_, counter)) = counters.iter().find(|(name, _)| *name == outcome) {
            counter.increment(1);
        }
    }

    pub(super) fn refused(&self, reason: Reason) {
        if let Some((_, counter)) = self.refusals.iter().find(|(known, _)| *known == reason) {
            counter.increment(1);
        }
    }

    /// A connection was not served.
    pub(super) fn not_served(&self, how: NotServed) {
        if let Some((_, counter)) = self.connections_refused.iter().find(|(known, _)| *known == how) {
            counter.increment(1);
        }
    }

    /// A request was answered with a problem of this type.
    pub(super) fn problem(&self, name: &'static str) {
        counter(&self.recorder, &PROBLEMS, &[name]).increment(1);
    }

    /// A batch of group commit ended.
    pub(super) fn batch(&self, batch: &Batch) {
        self.batch_writes.record(number(batch.writes));
        self.batch_seconds.record(batch.took);
    }
}

/// How a write ended that did not happen, or may not have.
fn ending(error: &StoreError) -> &'static str {
    use crate::database::DatabaseError;
    match error {
        StoreError::Refused(_) => "refused",
        StoreError::Condition { .. } => "condition",
        StoreError::Operation { error, .. } => ending(error),
        StoreError::Database(DatabaseError::OutcomeUnknown(_)) => "unknown",
        _ => "failed",
    }
}

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

fn key(metric: &Metric, values: &[&'static str]) -> Key {
    let labels = metric.labels.iter().zip(values);
    let labels: Vec<Label> = labels
        .map(|(name, value)| Label::from_static_parts(name, value))
        .collect();
    Key::from_parts(metric.name, labels)
}

fn counter(recorder: &PrometheusRecorder, metric: &Metric, values: &[&'static str]) -> Counter {
    recorder.register_counter(&key(metric, values), &METADATA)
}

fn gauge(recorder: &PrometheusRecorder, metric: &Metric, values: &[&'static str]) -> Gauge {
    recorder.register_gauge(&key(metric, values), &METADATA)
}

fn number(count: usize) -> f64 {
    // Exact up to 2^53.
    count as f64
}
