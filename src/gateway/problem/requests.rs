//! What is wrong with a request, whatever the state of things.

use std::time::Duration;

use super::{Problem, kinds::*};
use crate::{
    gateway::record_patch::MERGE_PATCH,
    name::{FenceName, NameError},
    token::{Sequence, TokenError},
};

impl Problem {
    pub(in crate::gateway) fn token_required() -> Self {
        Self::new(
            TOKEN_REQUIRED,
            "send the token that the lease was answered with in the header Fencing-Token",
        )
    }

    /// Of a transaction.
    pub(in crate::gateway) fn token_missing(fence: &FenceName) -> Self {
        Self::new(
            TOKEN_REQUIRED,
            format!(
                "an operation writes to fence {fence}: give the token of its lease under that name in tokens"
            ),
        )
        .on(fence)
    }

    pub(in crate::gateway) fn token_malformed(error: TokenError) -> Self {
        Self::new(TOKEN_MALFORMED, error.to_string())
    }

    pub(in crate::gateway) fn token_not_text() -> Self {
        Self::new(TOKEN_MALFORMED, "the token is not ASCII text")
    }

    pub(in crate::gateway) fn tokens_differ() -> Self {
        Self::new(
            TOKEN_MALFORMED,
            "two different tokens are presented: send one, in Fencing-Token or in X-Fencing-Token",
        )
    }

    /// A bare sequence, of a program that took its lock directly on the lock service, where a lease's token is needed.
    pub(in crate::gateway) fn token_foreign(sequence: Sequence) -> Self {
        let mut problem = Self::new(
            TOKEN_UNSEALED,
            "a bare sequence is the token of a program that took its lock without fencegate: it can write, and its \
             lock is renewed and released where it was taken. A lease is renewed and released with its whole token",
        );
        problem.0.presented = Some(sequence.to_string());
        problem
    }

    pub(in crate::gateway) fn name_malformed(error: &NameError) -> Self {
        Self::new(NAME_MALFORMED, error.to_string())
    }

    pub(in crate::gateway) fn path_malformed(detail: &'static str) -> Self {
        Self::new(NAME_MALFORMED, detail)
    }

    pub(in crate::gateway) fn body_malformed(detail: impl Into<String>) -> Self {
        Self::new(BODY_MALFORMED, detail)
    }

    pub(in crate::gateway) fn query_malformed(detail: impl Into<String>) -> Self {
        Self::new(QUERY_MALFORMED, detail)
    }

    pub(in crate::gateway) fn header_malformed(detail: impl Into<String>) -> Self {
        Self::new(HEADER_MALFORMED, detail)
    }

    pub(in crate::gateway) fn body_too_large(limit: usize) -> Self {
        Self::new(BODY_TOO_LARGE, format!("the body has at most {limit} bytes"))
    }

    pub(in crate::gateway) fn value_too_large(limit: usize) -> Self {
        Self::new(BODY_TOO_LARGE, format!("a value has at most {limit} bytes"))
    }

    pub(in crate::gateway) fn patch_type() -> Self {
        let mut problem = Self::new(
            PATCH_TYPE,
            format!("a patch is a JSON merge patch: send it as Content-Type: {MERGE_PATCH}"),
        );
        problem.0.accept_patch = true;
        problem
    }

    pub(in crate::gateway) fn body_timeout(limit: Duration) -> Self {
        let limit = humantime::format_duration(limit);
        Self::new(BODY_TIMEOUT, format!("the body has {limit} to arrive"))
    }

    pub(in crate::gateway) fn route_not_found() -> Self {
        Self::new(ROUTE_NOT_FOUND, "no call has this path")
    }

    pub(in crate::gateway) fn method_not_allowed() -> Self {
        Self::new(
            METHOD_NOT_ALLOWED,
            "the header Allow names the methods of this path",
        )
    }
}
