//! The types of problems: stable names, each with its status and its title.

use axum::http::StatusCode;

/// What all problems of one type have in common.
#[derive(Debug, Clone, Copy)]
pub(in crate::gateway) struct Kind {
    pub(in crate::gateway) name: &'static str,
    pub(in crate::gateway) status: StatusCode,
    pub(in crate::gateway) title: &'static str,
}

/// The table of all types.
macro_rules! kinds {
    ($($constant:ident, $status:ident, $name:literal, $title:literal;)*) => {
        $(pub(in crate::gateway) const $constant: Kind = Kind {
            name: $name,
            status: StatusCode::$status,
            title: $title,
        };)*
        /// All of them.
        pub(in crate::gateway) const KINDS: &[Kind] = &[$($constant),*];
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
    LEASE_ELSEWHERE, MISDIRECTED_REQUEST, "lease-elsewhere", "Another gateway keeps the lease";
    LOCK_FOREIGN, CONFLICT, "lock-foreign", "The lock is another program's";
    NOT_ALLOWED, FORBIDDEN, "not-allowed", "This is not allowed";
    ORIGIN_NOT_ALLOWED, FORBIDDEN, "origin-not-allowed", "A page that is not the gateway's asks";
    HOST_NOT_ALLOWED, FORBIDDEN, "host-not-allowed", "The host is not this machine";
    UNAUTHENTICATED, UNAUTHORIZED, "unauthenticated", "It is not known who asks";
    FORBIDDEN, FORBIDDEN, "forbidden", "The right is missing";
    LOCK_HELD, CONFLICT, "lock-held", "Another holder has the lock";
    EPOCH_CHANGED, CONFLICT, "epoch-changed", "The epoch was raised meanwhile";
    LOCK_SERVICE_REGRESSED, CONFLICT, "lock-service-regressed", "The lock service's history is another one";
    LOCK_SERVICE_UNAVAILABLE, SERVICE_UNAVAILABLE, "lock-service-unavailable", "The lock service is out of reach";
    STORE_UNAVAILABLE, SERVICE_UNAVAILABLE, "store-unavailable", "The store is out of reach";
    STORE_QUARANTINED, SERVICE_UNAVAILABLE, "store-quarantined", "The store's marks may be lost";
    STORE_BUSY, SERVICE_UNAVAILABLE, "store-busy", "Another transaction was in the way";
    NOT_READY, SERVICE_UNAVAILABLE, "not-ready", "The store is not ready";
    OUTCOME_UNKNOWN, SERVICE_UNAVAILABLE, "outcome-unknown", "It may have happened or not";
    TOO_MANY_WAITING, SERVICE_UNAVAILABLE, "too-many-waiting", "Too many lease requests are waiting";
    TOO_MANY_LISTENING, SERVICE_UNAVAILABLE, "too-many-listening", "Too many clients listen to events";
    TOO_MANY_BODIES, SERVICE_UNAVAILABLE, "too-many-bodies", "Too much is being sent";
    TOO_MANY_CONNECTIONS, SERVICE_UNAVAILABLE, "too-many-connections", "Too many clients are connected";
    DRAINING, SERVICE_UNAVAILABLE, "draining", "The gateway is stopping";
    RECORD_NOT_FOUND, NOT_FOUND, "record-not-found", "There is no such record";
    FENCE_NOT_FOUND, NOT_FOUND, "fence-not-found", "There is no such fence";
    ROUTE_NOT_FOUND, NOT_FOUND, "route-not-found", "There is nothing here";
    METHOD_NOT_ALLOWED, METHOD_NOT_ALLOWED, "method-not-allowed", "The method is not for this";
    INTERNAL, INTERNAL_SERVER_ERROR, "internal", "Something is wrong inside the gateway";
}
