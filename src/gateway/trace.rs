//! Traces: each request's span, and the W3C `traceparent` that a client may send with it.
//!
//! Spans are at the level of debugging, so they cost nothing where nobody wants them. With the feature `otel`
//! they become those of OpenTelemetry, and a request's is a child of the client's.

use axum::http::{HeaderMap, HeaderName};
use tracing::{Span, field::Empty};

use super::{Problem, request_line::Line};
use crate::SPANS;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The span of a request.
pub(super) fn span(line: &Line, headers: &HeaderMap) -> Span {
    let span = tracing::debug_span!(
        target: SPANS,
        "request",
        otel.name = Empty,
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = %line.method(),
        http.route = line.route(),
        http.response.status_code = Empty,
        request_id = line.id,
        fence = line.fence,
        problem = Empty,
    );
    if !span.is_disabled() {
        span.record("otel.name", format!("{} {}", line.method(), line.route()));
        follow(&span, headers);
    }
    span
}

/// Says in its span how a request was answered.
pub(super) fn end(span: &Span, status: u16, problem: Option<&Problem>) {
    if span.is_disabled() {
        return;
    }
    span.record("http.response.status_code", status);
    if let Some(problem) = problem {
        span.record("problem", problem.name());
    }
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
    }
}

/// Makes the span one of the client's trace.
#[cfg(feature = "otel")]
fn follow(span: &Span, headers: &HeaderMap) {
    use opentelemetry::propagation::{Extractor, TextMapPropagator};
    use opentelemetry_sdk::propagation::TraceContextPropagator;
    use tracing_opentelemetry::OpenTelemetrySpanExt;

    struct Headers<'a>(&'a HeaderMap);

    impl Extractor for Headers<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            self.0.get(key)?.to_str().ok()
        }

        fn keys(&self) -> Vec<&str> {
            self.0.keys().map(HeaderName::as_str).collect()
        }
    }

    if id(headers).is_some() {
        let client = TraceContextPropagator::new().extract(&Headers(headers));
        // Fails where the program has no layer for it, and then nobody looks.
        let _ = span.set_parent(client);
    }
}

#[cfg(not(feature = "otel"))]
fn follow(_: &Span, _: &HeaderMap) {}

/// The id of the trace that a request belongs to, if its client has one and says so as it should.
pub(super) fn id(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(TRACEPARENT)?.to_str().ok()?;
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |part: &str, length| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let named = |part: &str, length| hex(part, length) && part.bytes().any(|byte| byte != b'0');
    let known = hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
    (known && named(trace, 32) && named(span, 16) && hex(flags, 2)).then(|| trace.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<String> {
        id(&[(TRACEPARENT, text.parse().unwrap())].into_iter().collect())
    }

    #[test]
    fn takes_what_the_recommendation_allows() {
        const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
        for text in [
            "00-T-00f067aa0ba902b7-01",
            "00-T-00f067aa0ba902b7-00",
            "01-T-00f067aa0ba902b7-01-more",
        ] {
            assert_eq!(of(&text.replace('T', TRACE)).as_deref(), Some(TRACE), "{text}");
        }
        for text in [
            "",
            "00-T",
            "00-T-00f067aa0ba902b7",
            "ff-T-00f067aa0ba902b7-01",
            "00-T-00f067aa0ba902b7-01-more",
            "00-T-0000000000000000-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-T0-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(of(&text.replace('T', TRACE)), None, "{text}");
        }
    }
}
