//! What a client may not do.

use super::{Problem, kinds::*};
use crate::{gateway::auth::Right, name::FenceName};

impl Problem {
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
