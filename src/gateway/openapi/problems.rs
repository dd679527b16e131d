//! Which problems each call may be answered with.

use std::collections::BTreeMap;

use utoipa::{
    IntoResponses,
    openapi::{
        Content, HeaderBuilder, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder, Type, schema::Schema,
    },
};

use crate::gateway::problem::kinds::*;

/// Whatever is asked.
const ANY: &[Kind] = &[INTERNAL, ORIGIN_NOT_ALLOWED, HOST_NOT_ALLOWED];
/// Whatever is asked, but by probes.
const CROWD: &[Kind] = &[TOO_MANY_CONNECTIONS];
/// Calls about fences, by clients that have rights on them.
const ON_FENCES: &[Kind] = &[TOO_MANY_CONNECTIONS, UNAUTHENTICATED, NAME_MALFORMED, FORBIDDEN];
const QUERY: &[Kind] = &[QUERY_MALFORMED];
const BODY: &[Kind] = &[BODY_MALFORMED, BODY_TOO_LARGE, BODY_TIMEOUT, TOO_MANY_BODIES];
const TOKEN: &[Kind] = &[TOKEN_REQUIRED, TOKEN_MALFORMED];
/// The guard's word.
const GUARD: &[Kind] = &[TOKEN_STALE, HOLDER_MISMATCH, TOKEN_UNSEALED];
/// What may come of asking the lock service about a bare sequence, and of sealing it.
const FOREIGN: &[Kind] = &[
    LOCK_SERVICE_UNAVAILABLE,
    LOCK_SERVICE_REGRESSED,
    EPOCH_CHANGED,
    STORE_BUSY,
    STORE_QUARANTINED,
];
const STORE: &[Kind] = &[STORE_UNAVAILABLE, NOT_READY];
const CONDITION: &[Kind] = &[HEADER_MALFORMED, VERSION_MISMATCH];
const ONCE: &[Kind] = &[KEY_REUSED, KEY_IN_FLIGHT];
/// What a write may end in.
const WRITE: &[Kind] = &[STORE_BUSY, STORE_QUARANTINED, OUTCOME_UNKNOWN];
const SERVICE: &[Kind] = &[LOCK_SERVICE_UNAVAILABLE];

macro_rules! calls {
    ($($call:ident: $($kinds:expr),*;)*) => {$(
        pub(in crate::gateway) struct $call;

        impl IntoResponses for $call {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                responses(&[ANY, $($kinds),*])
            }
        }
    )*};
}

calls! {
    Acquire: ON_FENCES, QUERY, BODY, STORE, SERVICE, WRITE,
        &[LOCK_HELD, EPOCH_CHANGED, LOCK_SERVICE_REGRESSED, TOO_MANY_WAITING, DRAINING];
    Renew: ON_FENCES, QUERY, BODY, TOKEN, &[TOKEN_UNSEALED], SERVICE, &[LEASE_LOST, LEASE_ELSEWHERE];
    Release: ON_FENCES, QUERY, TOKEN, &[TOKEN_UNSEALED], STORE, SERVICE, WRITE, &[LOCK_FOREIGN, NOT_ALLOWED];
    ListFences: CROWD, QUERY, STORE, &[UNAUTHENTICATED];
    ShowFence: ON_FENCES, QUERY, STORE, &[FENCE_NOT_FOUND];
    Check: ON_FENCES, QUERY, TOKEN, GUARD, FOREIGN, STORE;
    Read: ON_FENCES, QUERY, &[TOKEN_MALFORMED], GUARD, FOREIGN, STORE, &[RECORD_NOT_FOUND];
    List: ON_FENCES, QUERY, &[TOKEN_MALFORMED], GUARD, FOREIGN, STORE;
    Put: ON_FENCES, QUERY, BODY, TOKEN, GUARD, FOREIGN, CONDITION, ONCE, STORE, WRITE;
    Patch: ON_FENCES, QUERY, BODY, TOKEN, GUARD, FOREIGN, CONDITION, ONCE, STORE, WRITE,
        &[PATCH_TYPE, RECORD_NOT_FOUND, RECORD_NOT_JSON];
    Delete: ON_FENCES, QUERY, TOKEN, GUARD, FOREIGN, CONDITION, ONCE, STORE, WRITE;
    Transact: ON_FENCES, QUERY, BODY, TOKEN, GUARD, FOREIGN, CONDITION, ONCE, STORE, WRITE;
    Rejections: ON_FENCES, QUERY, STORE;
    Listen: ON_FENCES, QUERY, &[HEADER_MALFORMED, TOO_MANY_LISTENING, DRAINING];
    Live: ;
    Ready: ;
    Scrape: &[UNAUTHENTICATED];
    Describe: CROWD;
    Dashboard: CROWD;
}

/// One answer for each status, which names all its types.
fn responses(kinds: &[&[Kind]]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<String, Vec<Kind>> = BTreeMap::new();
    for kind in kinds.iter().copied().flatten() {
        let of_status = by_status.entry(kind.status.as_str().to_owned()).or_default();
        if !of_status.iter().any(|known| known.name == kind.name) {
            of_status.push(*kind);
        }
    }
    let response = |(status, kinds): (String, Vec<Kind>)| {
        let lines: Vec<_> = kinds
            .iter()
            .map(|kind| format!("`{}`: {}.", kind.name, kind.title))
            .collect();
        let content = Content::new(Some(Ref::from_schema_name("Problem")));
        let mut response = ResponseBuilder::new()
            .description(lines.join(" "))
            .content("application/problem+json", content);
        if ["409", "421", "429", "503"].contains(&status.as_str()) {
            let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
            let retry_after = HeaderBuilder::new()
                .schema(Some(Schema::from(seconds.build())))
                .description(Some("Seconds; only where `retryable` is true"));
            response = response.header("Retry-After", retry_after.build());
        }
        (status, RefOr::T(response.build()))
    };
    by_status.into_iter().map(response).collect()
}
