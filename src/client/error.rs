//! What a call gives instead of what was asked for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::retry::Retryable;

/// A refusal or a failure, as RFC 9457 has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Problem {
    /// The kind, which does not change: `token-stale` and so on, behind `urn:fencegate:problem:`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The HTTP status.
    #[serde(default)]
    pub status: u16,
    /// What happened, and what to do.
    #[serde(default)]
    pub detail: String,
    /// The fence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<String>,
    /// The token that was shown, as epoch-sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presented: Option<String>,
    /// The fence's mark, as epoch-sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    /// Whether the same call may succeed later.
    #[serde(default)]
    pub retryable: bool,
    /// What the gateway's logs call this request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// When to ask again, if the gateway says so.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
}

impl Problem {
    /// The kind without its prefix: `token-stale` and so on.
    pub fn name(&self) -> &str {
        self.kind.rsplit([':', '/']).next().unwrap_or(&self.kind)
    }
}

/// Why a call did not give what was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The gateway's URL cannot be used.
    #[error("the gateway's URL cannot be used, give one as http://127.0.0.1:7411: {0}")]
    Url(String),
    /// A key or a certificate cannot be used.
    #[error("the credentials for the gateway cannot be used: {0}")]
    Credentials(String),
    /// What was given cannot be put into a request, as a content type with a line end in it: nothing was sent.
    #[error("the request cannot be made, so nothing was sent: {0}")]
    Request(String),
    /// There was no way to the gateway: nothing was sent.
    #[error("the gateway at {gateway} cannot be reached: {detail}")]
    Unreachable {
        /// Its URL.
        gateway: String,
        /// What happened.
        detail: String,
    },
    /// No answer. A write may have happened or not.
    #[error("the gateway at {gateway} did not answer: {detail}")]
    NoAnswer {
        /// Its URL.
        gateway: String,
        /// What happened.
        detail: String,
    },
    /// The gateway said to ask another one, and this client does not: nothing was done.
    #[error("the gateway at {gateway} redirects to {location}, where this client sends nothing: {detail}")]
    Redirect {
        /// The URL of the gateway that said so.
        gateway: String,
        /// Where it pointed.
        location: String,
        /// Why not, and what to do.
        detail: String,
    },
    /// The gateway said no.
    #[error("{} ({}): {}", .0.status, .0.name(), .0.detail)]
    Problem(Box<Problem>),
    /// The lease is lost, so nothing was sent under it.
    #[error("the lease is lost: acquire again, which gives a new token")]
    Lost,
    /// The answer is not one of the gateway's.
    #[error("the answer is not a gateway's: {0}")]
    Unexpected(String),
}

impl ClientError {
    /// What the gateway said, if it said no.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            _ => None,
        }
    }

    /// Whether the guard refused the token because a newer one is known.
    pub fn is_stale(&self) -> bool {
        self.is("token-stale")
    }

    /// Whether the guard refused the token, for whatever reason: it is no longer, or never was, the fence's newest.
    pub fn is_fenced(&self) -> bool {
        ["token-stale", "holder-mismatch", "token-unsealed"]
            .iter()
            .any(|name| self.is(name))
    }

    /// Whether the lease is over.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost) || self.is("lease-lost")
    }

    /// Whether another held the fence for all of the wait.
    pub fn is_busy(&self) -> bool {
        self.is("lock-held")
    }

    /// Whether a write may have happened or not. Look, or repeat it with the same
    /// [`IdempotencyKey`](super::IdempotencyKey), if it had one.
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::NoAnswer { .. } | Self::Unexpected(_)) || self.is("outcome-unknown")
    }

    /// Whether nothing was changed and the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Problem(problem) => problem.retryable,
            _ => false,
        }
    }

    /// Whether it passes, for a call that may be made twice. Somebody else's lease does not count.
    pub(super) fn passes(&self) -> bool {
        !self.is_busy()
            && (self.is_retryable() || matches!(self, Self::NoAnswer { .. }) || self.is("outcome-unknown"))
    }

    fn is(&self, name: &str) -> bool {
        self.problem().is_some_and(|problem| problem.name() == name)
    }
}

impl Retryable for ClientError {
    fn is_retryable(&self) -> bool {
        Self::is_retryable(self)
    }
}

/// An error with what caused it, which is where the address and the reason are.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
