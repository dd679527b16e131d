//! All metrics: their names, kinds, labels and meanings. `docs/metrics.md` is made from this, and held to it.

use super::{Kind, Metric};

/// Bounds of durations, in seconds.
const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// Bounds of what lasts longer.
const LONG_SECONDS: &[f64] = &[
    0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 14400.0, 86400.0,
];
/// Bounds of how many.
const COUNTS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

macro_rules! metrics {
    ($($constant:ident, $kind:expr, $name:literal, [$($label:literal),*], $help:literal;)*) => {
        $(pub(in crate::gateway) const $constant: Metric = Metric {
            name: concat!("fencegate_", $name),
            kind: $kind,
            labels: &[$($label),*],
            help: $help,
        };)*
        /// Every metric there is.
        pub(in crate::gateway) const ALL: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    REQUESTS, Kind::Counter, "http_requests_total", ["route", "method", "status"],
        "Requests that were answered. `route` is the template of the path; `status` is `gone` where the client did not wait for the answer.";
    REQUEST_SECONDS, Kind::Histogram(SECONDS), "http_request_seconds", ["route"],
        "How long requests took, in seconds. Those of leases include what they were asked to wait; those of `/v1/events` end with their first byte.";
    PROBLEMS, Kind::Counter, "problems_total", ["type"],
        "Requests that were answered with a problem, by its type without `urn:fencegate:problem:`.";
    GRANTS, Kind::Counter, "grants_total", ["outcome"],
        "Acquisitions: `granted`; `held`, when another holder had the lock for all of the wait; `failed`.";
    WAIT_SECONDS, Kind::Histogram(LONG_SECONDS), "lease_wait_seconds", [],
        "How long granted leases had to be waited for, in seconds.";
    HOLD_SECONDS, Kind::Histogram(LONG_SECONDS), "lease_hold_seconds", [],
        "How long leases were held until they were released, in seconds; of those that were granted and released here.";
    RENEWALS, Kind::Counter, "renewals_total", [],
        "Renewals that came in time.";
    RELEASES, Kind::Counter, "releases_total", ["by"],
        "Releases, by the `holder` or by `force`.";
    LOSSES, Kind::Counter, "lease_losses_total", [],
        "Renewals that came too late: a holder found out that its lease is over.";
    LEASES, Kind::Gauge, "leases", [],
        "Leases that were granted or renewed here and have not ended since, as far as is known here.";
    WAITING, Kind::Gauge, "lease_requests_waiting", [],
        "Lease requests that wait for their turn.";
    WRITES, Kind::Counter, "writes_total", ["kind", "outcome"],
        "Writes. `kind`: `put`, `patch`, `delete`, `transaction`. `outcome`: `written`; `replayed`, from an Idempotency-Key; `refused` by the guard; `condition`, when the record was not as the request wanted it; `unknown`; `failed`.";
    REFUSALS, Kind::Counter, "refusals_total", ["reason"],
        "Tokens that the guard refused, also in checks and in fenced reads: `stale`, `holder-mismatch`, `unsealed`.";
    BATCH_WRITES, Kind::Histogram(COUNTS), "batch_writes", [],
        "Writes in a batch of group commit (Postgres).";
    BATCH_SECONDS, Kind::Histogram(SECONDS), "batch_commit_seconds", [],
        "How long a batch took, statement and commit, in seconds (Postgres).";
    QUEUE, Kind::Gauge, "batch_queue_writes", [],
        "Writes that wait for a batch (Postgres).";
    CONNECTIONS, Kind::Gauge, "store_connections", ["state"],
        "Connections to the store: `busy` and `idle`.";
    CLIENT_CONNECTIONS, Kind::Gauge, "client_connections", [],
        "Connections of clients.";
    CONNECTIONS_REFUSED, Kind::Counter, "connections_refused_total", ["how"],
        "Connections that were not served. There were too many: `told`, for one request, with a 503; `closed` at once. `failed`: the handshake did, or there was no file left for it.";
    LISTENERS, Kind::Gauge, "event_listeners", [],
        "Clients that listen to `/v1/events`.";
    DRAINING, Kind::Gauge, "draining", [],
        "1 once the gateway was told to stop, 0 before.";
    LINES_LEFT_OUT, Kind::Counter, "log_lines_left_out_total", [],
        "Lines of requests that went well and were not logged, since there were too many.";
    BUILD, Kind::Gauge, "build_info", ["version"],
        "Always 1, with the version of the program.";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One row of the page for each metric.
    fn rows() -> String {
        ALL.iter()
            .map(|metric| {
                let kind = match metric.kind {
                    Kind::Counter => "counter",
                    Kind::Gauge => "gauge",
                    Kind::Histogram(_) => "histogram",
                };
                let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
                let labels = labels.join(", ");
                format!("| `{}` | {kind} | {labels} | {} |\n", metric.name, metric.help)
            })
            .collect()
    }

    #[test]
    fn the_page_says_what_the_code_does() {
        let page = include_str!("../../../docs/metrics.md");
        let table: String = page
            .lines()
            .filter(|line| line.starts_with("| `fencegate_"))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(
            table,
            rows(),
            "docs/metrics.md is to have these rows:\n{}",
            rows()
        );
    }
}
