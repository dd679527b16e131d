//! Logs on standard error: for people at a terminal, JSON elsewhere.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, Layer, fmt, layer::SubscriberExt, registry, util::SubscriberInitExt};

use super::{
    output,
    traces::{self, Traces},
};

/// For a service.
pub(super) const SERVICE: &str = "info,sqlx=warn";
/// For a verb that talks to a person.
/// What is wrong with a gateway's certificate is in the error that ends the verb.
pub(super) const QUIET: &str = "warn,sqlx=error,rustls_platform_verifier=off";
/// For the demo, which tells what goes wrong itself.
pub(super) const SILENT: &str = "off";

/// Starts logging, filtered as `FENCEGATE_LOG` or else `RUST_LOG` says, or by default. A service has traces as well, where
/// the environment names a collector, until what is returned is dropped.
pub(super) fn start(default: &str) -> Option<Traces> {
    let wanted = ["FENCEGATE_LOG", "RUST_LOG"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|filter| !filter.is_empty());
    let filter = match wanted.as_deref().map(EnvFilter::try_new) {
        Some(Ok(filter)) => filter,
        Some(Err(error)) => {
            output::aside(&format!(
                "the log filter is not understood, so it is \"{default}\": {error}"
            ));
            EnvFilter::new(default)
        }
        None => EnvFilter::new(default),
    };
    // Nobody may be reading, and complaining about that where nobody reads would panic.
    let log = fmt::layer()
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    let log = if std::io::stderr().is_terminal() {
        log.compact().boxed()
    } else {
        log.json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed()
    };
    // Not a filter for each layer: what sqlx asks of those then costs the next event.
    let wanted = (default == SERVICE && traces::wanted()).then(traces::layer);
    match wanted.transpose() {
        Ok(Some((layer, traces))) => {
            registry()
                .with(filter.add_directive(traces::spans()))
                .with(log)
                .with(layer)
                .init();
            Some(traces)
        }
        none => {
            registry().with(filter).with(log).init();
            if let Err(error) = none {
                tracing::warn!(%error, "there will be no traces");
            }
            None
        }
    }
}
