//! A client: who a request is from, and what it may do.

use std::sync::Arc;

use axum::{extract::FromRequestParts, http::request::Parts};

use super::rights::{Fences, Right, Rights};
use crate::{gateway::Problem, name::FenceName};

/// Everybody's name while nobody has to show who they are. No client that has shown it is called so.
pub(super) const ANONYMOUS: &str = "anonymous";
/// The most bytes of a name.
const LONGEST: usize = 200;

/// Who a request is from. Clones share one.
#[derive(Clone)]
pub(in crate::gateway) struct Client(Arc<Known>);

struct Known {
    name: Box<str>,
    rights: Rights,
}

/// Whether a client may be called so, in the clients file or as the subject of a JWT.
///
/// # Errors
/// [`NotAName`], which says what a name is.
pub fn check_name(name: &str) -> Result<(), NotAName> {
    let sane = (1..=LONGEST).contains(&name.len()) && !name.chars().any(char::is_control);
    match sane && name != ANONYMOUS {
        true => Ok(()),
        false => Err(NotAName),
    }
}

impl Client {
    /// One that has shown who it is.
    pub(super) fn new(name: &str, rights: Rights) -> Result<Self, NotAName> {
        check_name(name)?;
        Ok(Self::known(name, rights))
    }

    fn known(name: &str, rights: Rights) -> Self {
        Self(Arc::new(Known {
            name: name.into(),
            rights,
        }))
    }

    /// Everybody, while nobody has to show who they are.
    pub(in crate::gateway) fn anonymous() -> Self {
        Self::known(ANONYMOUS, Rights::all())
    }

    /// Whoever has not shown who they are, where everybody else has to.
    pub(super) fn nobody() -> Self {
        Self::known(ANONYMOUS, Rights::default())
    }

    /// The name: what its idempotency keys, its refusals and its foreign tokens go by.
    pub(in crate::gateway) fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether it has not shown who it is.
    pub(in crate::gateway) fn is_anonymous(&self) -> bool {
        self.name() == ANONYMOUS
    }

    /// Whether it has this right on the fence.
    pub(in crate::gateway) fn has(&self, right: Right, fence: &FenceName) -> bool {
        self.0.rights.on(fence, right)
    }

    /// Refuses what it has not the right to on the fence.
    pub(in crate::gateway) fn may(&self, right: Right, fence: &FenceName) -> Result<(), Problem> {
        self.may_any(&[right], fence)
    }

    /// Refuses what it has none of the rights to on the fence.
    pub(in crate::gateway) fn may_any(&self, rights: &[Right], fence: &FenceName) -> Result<(), Problem> {
        match rights.iter().any(|right| self.has(*right, fence)) {
            true => Ok(()),
            false => Err(Problem::forbidden(rights, fence)),
        }
    }

    /// Whether it has the right on all fences there are and will be.
    pub(in crate::gateway) fn has_everywhere(&self, right: Right) -> bool {
        self.0.rights.everywhere(right)
    }

    /// Refuses what needs the right on all fences there are and will be.
    pub(in crate::gateway) fn may_everywhere(&self, right: Right) -> Result<(), Problem> {
        match self.has_everywhere(right) {
            true => Ok(()),
            false => Err(Problem::forbidden_everywhere(right)),
        }
    }

    /// The fences that it has the right on, of those whose names begin so: in the order of their names, and none
    /// twice.
    pub(in crate::gateway) fn fences(&self, right: Right, beginning: &str) -> Vec<Fences> {
        self.0.rights.fences(right, beginning)
    }
}

/// A name that no client can have.
#[derive(Debug, thiserror::Error)]
#[error(
    "a client's name has 1 to {LONGEST} bytes of UTF-8 without control characters, and is not {ANONYMOUS:?}"
)]
pub struct NotAName;

impl<S: Sync> FromRequestParts<S> for Client {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let client = parts.extensions.get::<Self>().cloned();
        client.ok_or_else(|| Problem::internal("a request came to its handler without being authenticated"))
    }
}
