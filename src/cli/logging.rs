//! Logs on standard error: for people at a terminal, JSON elsewhere.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt};

const DEFAULT: &str = "info,sqlx=warn";

/// Starts logging, filtered as `FENCEGATE_LOG` or else `RUST_LOG` says.
pub(super) fn start() {
    let wanted = ["FENCEGATE_LOG", "RUST_LOG"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|filter| !filter.is_empty());
    let filter = match wanted.as_deref().map(EnvFilter::try_new) {
        Some(Ok(filter)) => filter,
        Some(Err(error)) => {
            eprintln!("fencegate: the log filter is not understood, so it is \"{DEFAULT}\": {error}");
            EnvFilter::new(DEFAULT)
        }
        None => EnvFilter::new(DEFAULT),
    };
    let log = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        log.compact().init();
    } else {
        log.json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .init();
    }
}
