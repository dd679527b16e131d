//! Traces of the gateway, sent to a collector by the OpenTelemetry protocol (OTLP over HTTP, protobuf).
//!
//! They are for whoever sets `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`; the other variables of
//! the OpenTelemetry specification count too (`OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER`, ...). What is logged within a span
//! goes out with it.

use anyhow::Result;
use tracing_subscriber::{
    Layer,
    filter::{Directive, LevelFilter},
    registry::LookupSpan,
};

pub(super) use export::{Traces, layer};

/// Whether the environment names a collector.
pub(super) fn wanted() -> bool {
    [
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    ]
    .into_iter()
    .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

/// Lets the library's spans pass, whatever is logged.
pub(super) fn spans() -> Directive {
    // A constant, so there is nothing that could not be read.
    "fencegate::traces=debug"
        .parse()
        .unwrap_or_else(|_| LevelFilter::DEBUG.into())
}

#[cfg(feature = "otel")]
mod export {
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_otlp::SpanExporter;
    use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
    use tracing::Subscriber;

    use super::{Layer, LookupSpan, Result};

    /// Sends what is left when it is dropped, for up to five seconds.
    pub struct Traces(SdkTracerProvider);

    impl Drop for Traces {
        fn drop(&mut self) {
            if let Err(error) = self.0.shutdown() {
                tracing::warn!(%error, "the last traces did not reach the collector");
            }
        }
    }

    /// The layer that makes them.
    ///
    /// # Errors
    /// When the environment's settings cannot be used.
    pub fn layer<S>() -> Result<(impl Layer<S>, Traces)>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        // It fails where another one is in place, which does as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let exporter = SpanExporter::builder().with_http().build()?;
        let mut resource = Resource::builder();
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("fencegate");
        }
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.build())
            .with_batch_exporter(exporter)
            .build();
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("fencegate"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false);
        Ok((layer, Traces(provider)))
    }
}

#[cfg(not(feature = "otel"))]
mod export {
    use tracing_subscriber::layer::Identity;

    use super::{Layer, LookupSpan, Result};

    pub enum Traces {}

    pub fn layer<S>() -> Result<(impl Layer<S>, Traces)>
    where
        S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    {
        let none = "this program is built without them: build it with --features otel";
        Err::<(Identity, Traces), _>(anyhow::anyhow!(none))
    }
}
