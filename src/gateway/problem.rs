//! What the gateway answers when it does not do what it was asked: RFC 9457 problems.
//!
//! A problem has an outside, which the client gets, and sometimes an inside, which only the log gets. Its `type`
//! is stable; everything else may be worded anew. The request's id, the log line and the JSON are added by
//! [`exchange`](super::exchange), in one place for all.

mod errors;

use std::{fmt, time::Duration};

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::record_patch::MERGE_PATCH;
use crate::{
    guard::Refusal,
    name::NameError,
    rule::Reason,
    store::Version,
    token::{Sequence, TokenError},
};

/// What all problems of one type have in common.
#[derive(Debug, Clone, Copy)]
struct Kind {
    name: &'static str,
    status: StatusCode,
    title: &'static str,
}

/// A request that is refused, or could not be answered. Boxed, since it is carried through every handler.
#[derive(Clone)]
pub(super) struct Problem(Box<Parts>);

#[derive(Clone)]
struct Parts {
    kind: Kind,
    detail: String,
    fence: Option<String>,
    presented: Option<String>,
    mark: Option<String>,
    retryable: bool,
    retry_after: Option<Duration>,
    inside: Option<String>,
    accept_patch: bool,
}

/// The JSON of a problem.
#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    fence: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presented: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<&'a str>,
    retryable: bool,
    request_id: &'a str,
}

/// The table of all types.
macro_rules! kinds {
    ($($constant:ident, $status:ident, $name:literal, $title:literal;)*) => {
        $(const $constant: Kind = Kind {
            name: $name,
            status: StatusCode::$status,
            title: $title,
        };)*
    };
}

kinds! {
    TOKEN_REQUIRED, PRECONDITION_REQUIRED, "token-required", "A fencing token is required";
    TOKEN_MALFORMED, BAD_REQUEST, "token-malformed", "The fencing token cannot be read";
    TOKEN_STALE, PRECONDITION_FAILED, "token-stale", "A newer holder has the fence";
    HOLDER_MISMATCH, PRECONDITION_FAILED, "holder-mismatch", "The mark has another holder";
    TOKEN_UNSEALED, PRECONDITION_FAILED, "token-unsealed", "No grant stands behind the token";
    NAME_MALFORMED, BAD_REQUEST, "name-malformed", "The name cannot be";
    BODY_MALFORMED, BAD_REQUEST, "body-malformed", "The body cannot be read";
    QUERY_MALFORMED, BAD_REQUEST, "query-malformed", "The query cannot be read";
    HEADER_MALFORMED, BAD_REQUEST, "header-malformed", "A header cannot be read";
    BODY_TOO_LARGE, PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large";
    BODY_TIMEOUT, REQUEST_TIMEOUT, "body-timeout", "The body took too long to arrive";
    PATCH_TYPE, UNSUPPORTED_MEDIA_TYPE, "media-type-unsupported", "The body is of another type";
    RECORD_NOT_JSON, CONFLICT, "record-not-json", "The record is not JSON";
    KEY_REUSED, UNPROCESSABLE_ENTITY, "idempotency-key-reused", "The key is another request's";
    KEY_IN_FLIGHT, CONFLICT, "idempotency-key-in-flight", "A request under the key is under way";
    VERSION_MISMATCH, PRECONDITION_FAILED, "version-mismatch", "The record is in another version";
    LEASE_LOST, PRECONDITION_FAILED, "lease-lost", "The lease is over";
    LOCK_FOREIGN, CONFLICT, "lock-foreign", "The lock is another program's";
    NOT_ALLOWED, FORBIDDEN, "not-allowed", "This is not allowed";
    LOCK_HELD, CONFLICT, "lock-held", "Another holder has the lock";
    EPOCH_CHANGED, CONFLICT, "epoch-changed", "The epoch was raised meanwhile";
    LOCK_SERVICE_REGRESSED, CONFLICT, "lock-service-regressed", "The lock service's history is another one";
    LOCK_SERVICE_UNAVAILABLE, SERVICE_UNAVAILABLE, "lock-service-unavailable", "The lock service is out of reach";
    STORE_UNAVAILABLE, SERVICE_UNAVAILABLE, "store-unavailable", "The store is out of reach";
    STORE_BUSY, SERVICE_UNAVAILABLE, "store-busy", "Another transaction was in the way";
    NOT_READY, SERVICE_UNAVAILABLE, "not-ready", "The store is not ready";
    OUTCOME_UNKNOWN, SERVICE_UNAVAILABLE, "outcome-unknown", "It may have happened or not";
    TOO_MANY_WAITING, SERVICE_UNAVAILABLE, "too-many-waiting", "Too many lease requests are waiting";
    DRAINING, SERVICE_UNAVAILABLE, "draining", "The gateway is stopping";
    RECORD_NOT_FOUND, NOT_FOUND, "record-not-found", "There is no such record";
    FENCE_NOT_FOUND, NOT_FOUND, "fence-not-found", "There is no such fence";
    ROUTE_NOT_FOUND, NOT_FOUND, "route-not-found", "There is nothing here";
    METHOD_NOT_ALLOWED, METHOD_NOT_ALLOWED, "method-not-allowed", "The method is not for this";
    INTERNAL, INTERNAL_SERVER_ERROR, "internal", "Something is wrong inside the gateway";
}

const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// When to come back after something that passes quickly.
const SOON: Duration = Duration::from_secs(1);

impl Problem {
    fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            kind,
            detail: detail.into(),
            fence: None,
            presented: None,
            mark: None,
            retryable: false,
            retry_after: None,
            inside: None,
            accept_patch: false,
        }))
    }

    fn retry_after(mut self, pause: Duration) -> Self {
        self.0.retryable = true;
        self.0.retry_after = Some(pause);
        self
    }

    fn inside(mut self, inside: impl fmt::Display) -> Self {
        self.0.inside = Some(inside.to_string());
        self
    }

    pub(super) fn token_required() -> Self {
        Self::new(
            TOKEN_REQUIRED,
            "send the token that the lease was answered with in the header Fencing-Token",
        )
    }

    pub(super) fn token_malformed(error: TokenError) -> Self {
        Self::new(TOKEN_MALFORMED, error.to_string())
    }

    pub(super) fn token_not_text() -> Self {
        Self::new(TOKEN_MALFORMED, "the token is not ASCII text")
    }

    pub(super) fn tokens_differ() -> Self {
        Self::new(
            TOKEN_MALFORMED,
            "two different tokens are presented: send one, in Fencing-Token or in X-Fencing-Token",
        )
    }

    /// A bare sequence, of a program that took its lock directly on the lock service.
    pub(super) fn token_foreign(sequence: Sequence) -> Self {
        let mut problem = Self::new(
            TOKEN_UNSEALED,
            "a bare sequence is a foreign token, and those are not enabled: acquire a lease, and send its whole token",
        );
        problem.0.presented = Some(sequence.to_string());
        problem
    }

    /// The guard's refusal.
    pub(super) fn refused(refusal: &Refusal) -> Self {
        let kind = match refusal.reason {
            Reason::Stale => TOKEN_STALE,
            Reason::HolderMismatch => HOLDER_MISMATCH,
            Reason::Unsealed => TOKEN_UNSEALED,
        };
        let mut problem = Self::new(kind, refusal.to_string());
        problem.0.fence = Some(refusal.fence.to_string());
        problem.0.presented = Some(refusal.presented.to_string());
        problem.0.mark = refusal.mark.map(|mark| mark.to_string());
        problem
    }

    pub(super) fn name_malformed(error: &NameError) -> Self {
        Self::new(NAME_MALFORMED, error.to_string())
    }

    pub(super) fn path_malformed(detail: &'static str) -> Self {
        Self::new(NAME_MALFORMED, detail)
    }

    pub(super) fn body_malformed(detail: impl Into<String>) -> Self {
        Self::new(BODY_MALFORMED, detail)
    }

    pub(super) fn query_malformed(detail: impl Into<String>) -> Self {
        Self::new(QUERY_MALFORMED, detail)
    }

    pub(super) fn header_malformed(detail: impl Into<String>) -> Self {
        Self::new(HEADER_MALFORMED, detail)
    }

    pub(super) fn body_too_large(limit: usize) -> Self {
        Self::new(BODY_TOO_LARGE, format!("the body has at most {limit} bytes"))
    }

    pub(super) fn value_too_large(limit: usize) -> Self {
        Self::new(BODY_TOO_LARGE, format!("a value has at most {limit} bytes"))
    }

    pub(super) fn patch_type() -> Self {
        let mut problem = Self::new(
            PATCH_TYPE,
            format!("a patch is a JSON merge patch: send it as Content-Type: {MERGE_PATCH}"),
        );
        problem.0.accept_patch = true;
        problem
    }

    pub(super) fn force_not_allowed() -> Self {
        Self::new(
            NOT_ALLOWED,
            "releasing by force is for operators: start the gateway with --allow-force-release, and keep others away \
             from its address",
        )
    }

    pub(super) fn body_timeout(limit: Duration) -> Self {
        let limit = humantime::format_duration(limit);
        Self::new(BODY_TIMEOUT, format!("the body has {limit} to arrive"))
    }

    pub(super) fn version_mismatch(current: Option<Version>) -> Self {
        let found = match current {
            Some(version) => format!("in version {version}"),
            None => "absent".into(),
        };
        Self::new(
            VERSION_MISMATCH,
            format!("the record is {found}, which the condition does not allow: read it, and decide again"),
        )
    }

    pub(super) fn lease_lost() -> Self {
        Self::new(
            LEASE_LOST,
            "the lease expired, was released, or belongs to another: it is never taken back, so acquire again, which \
             gives a new token",
        )
    }

    /// `expires_in`: how long until the present lease ends, if it is not renewed.
    pub(super) fn lock_held(expires_in: Option<Duration>) -> Self {
        let pause = expires_in.unwrap_or(SOON).clamp(SOON, Duration::from_secs(10));
        Self::new(
            LOCK_HELD,
            "another holder had the lock for all of the wait: ask for a longer wait, or come back later",
        )
        .retry_after(pause)
    }

    pub(super) fn lock_service_unavailable(detail: impl Into<String>) -> Self {
        Self::new(LOCK_SERVICE_UNAVAILABLE, detail).retry_after(SOON)
    }

    pub(super) fn store_slow(limit: Duration) -> Self {
        let limit = humantime::format_duration(limit);
        Self::new(
            STORE_UNAVAILABLE,
            format!("the store has not answered in {limit}"),
        )
        .retry_after(SOON)
    }

    /// A write that is not over when its time is; it goes on.
    pub(super) fn write_slow(limit: Duration) -> Self {
        let limit = humantime::format_duration(limit);
        Self::new(
            OUTCOME_UNKNOWN,
            format!(
                "the store has not answered in {limit}, and the write goes on: look whether it has happened, or \
                 repeat it with the same Idempotency-Key, if it had one"
            ),
        )
    }

    pub(super) fn too_many_waiting(limit: usize) -> Self {
        Self::new(
            TOO_MANY_WAITING,
            format!("{limit} lease requests are waiting already: come back later"),
        )
        .retry_after(SOON)
    }

    pub(super) fn draining() -> Self {
        Self::new(
            DRAINING,
            "this gateway gives no more leases: ask another one, or come back",
        )
        .retry_after(SOON)
    }

    pub(super) fn record_not_found() -> Self {
        Self::new(RECORD_NOT_FOUND, "there is no record under this key")
    }

    pub(super) fn fence_not_found() -> Self {
        Self::new(
            FENCE_NOT_FOUND,
            "no lease was ever granted on this fence, and nobody holds its lock",
        )
    }

    pub(super) fn route_not_found() -> Self {
        Self::new(ROUTE_NOT_FOUND, "no call has this path")
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(
            METHOD_NOT_ALLOWED,
            "the header Allow names the methods of this path",
        )
    }

    pub(super) fn internal(inside: impl fmt::Display) -> Self {
        Self::new(INTERNAL, "the gateway's log says more, under the request's id").inside(inside)
    }

    /// The stable name of its type.
    pub(super) fn name(&self) -> &'static str {
        self.0.kind.name
    }

    /// What only the log may say.
    pub(super) fn inner(&self) -> Option<&str> {
        self.0.inside.as_deref()
    }

    /// The token that was shown, as epoch-sequence.
    pub(super) fn presented(&self) -> Option<&str> {
        self.0.presented.as_deref()
    }

    /// The mark, as epoch-sequence.
    pub(super) fn mark(&self) -> Option<&str> {
        self.0.mark.as_deref()
    }

    /// The answer itself. `fence` is the one that the path names.
    pub(super) fn render(&self, fence: Option<&str>, request_id: &str, mut headers: HeaderMap) -> Response {
        let body = Body {
            r#type: format!("urn:fencegate:problem:{}", self.0.kind.name),
            title: self.0.kind.title,
            status: self.0.kind.status.as_u16(),
            detail: &self.0.detail,
            fence: self.0.fence.as_deref().or(fence),
            presented: self.0.presented.as_deref(),
            mark: self.0.mark.as_deref(),
            retryable: self.0.retryable,
            request_id,
        };
        // Plain fields always have a JSON form; were it otherwise, the status would say enough.
        let body = serde_json::to_vec(&body).unwrap_or_default();
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.0.accept_patch {
            headers.insert(ACCEPT_PATCH, HeaderValue::from_static(MERGE_PATCH));
        }
        if let Some(pause) = self.0.retry_after {
            headers.insert(
                header::RETRY_AFTER,
                HeaderValue::from(pause.as_secs_f64().ceil() as u64),
            );
        }
        (self.0.kind.status, headers, body).into_response()
    }
}

/// The status, with the problem behind it for [`exchange`](super::exchange) to render.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.0.kind.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
