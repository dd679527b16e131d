//! What a client may not do.

use super::{Problem, kinds::*};
use crate::{gateway::auth::Right, name::FenceName};

/// What shows who a client is (RFC 6750).
const CHALLENGE: &str = r#"Bearer realm="fencegate""#;
/// The same, to one that has tried.
const INVALID: &str = r#"Bearer realm="fencegate", error="invalid_token""#;

impl Problem {
    /// Nothing shows who the client is.
    pub(in crate::gateway) fn no_credentials() -> Self {
        let mut problem = Self::new(
            UNAUTHENTICATED,
            "send an API key or a JWT as Authorization: Bearer ..., or connect with a TLS client certificate",
        );
        problem.0.challenge = Some(CHALLENGE);
        problem
    }

    /// What was to show who the client is does not.
    pub(in crate::gateway) fn unauthenticated(detail: &'static str) -> Self {
        let mut problem = Self::new(UNAUTHENTICATED, detail);
        problem.0.challenge = Some(INVALID);
        problem
    }

    /// A page of somebody else's made a browser ask.
    pub(in crate::gateway) fn origin_not_allowed() -> Self {
        Self::new(
            ORIGIN_NOT_ALLOWED,
            "a web page that is not this gateway's own has sent this, as its Origin says, and no key or JWT with it. \
             Programs send no Origin; where a proxy gives the gateway another name, tell it by --advertise",
        )
    }

    /// A name that leads to this machine, and may not be its own.
    pub(in crate::gateway) fn host_not_allowed() -> Self {
        Self::new(
            HOST_NOT_ALLOWED,
            "this gateway listens on loopback and asks nobody who they are, so its host is an IP address, localhost, or \
             the one that --advertise names: any other may be the name of a web page, led here",
        )
    }

    /// With more of the reason, which only the log may say.
    pub(in crate::gateway) fn because(self, reason: impl std::fmt::Display) -> Self {
        self.inside(reason)
    }

    /// None of the rights that would do is the client's, on this fence.
    pub(in crate::gateway) fn forbidden(rights: &[Right], fence: &FenceName) -> Self {
        let rights: Vec<_> = rights.iter().map(|right| right.as_str()).collect();
        let rights = rights.join(" or ");
        Self::new(
            FORBIDDEN,
            format!("this needs the right {rights} on fence {fence}, which the client has not"),
        )
        .on(fence)
    }

    /// The right is not the client's on all fences.
    pub(in crate::gateway) fn forbidden_everywhere(right: Right) -> Self {
        let right = right.as_str();
        Self::new(
            FORBIDDEN,
            format!("this needs the right {right} on all fences, which the client has not"),
        )
    }
}
