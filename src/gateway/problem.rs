//! What the gateway answers when it does not do what it was asked: RFC 9457 problems.
//!
//! A problem has an outside, which the client gets, and sometimes an inside, which only the log gets. Its `type`
//! is stable; everything else may be worded anew. The request's id, the log line and the JSON are added by
//! [`exchange`](super::exchange), in one place for all.

mod clients;
mod errors;
pub(super) mod kinds;
mod render;
mod requests;
mod states;

use std::{fmt, time::Duration};

pub(super) use kinds::{KINDS, Kind};
pub(super) use render::Body;

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
    challenge: Option<&'static str>,
}

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
            challenge: None,
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
}

/// The names of all types.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|kind| kind.name)
}
