//! Who a request is from, and what they may do.
//!
//! Every request is authenticated before anything else is looked at, and carries a [`Client`] from then on. What it
//! may do is asked where it is done: the extractors [`ToLease`], [`ToWrite`] and [`ToRead`] give a handler the fence
//! that the path names only if the client has the right on it, and other handlers ask the [`Client`] itself. The
//! answer depends on names alone, so it never tells what there is.

mod fence;
#[allow(dead_code, reason = "for rights from a file")]
mod rights;

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, Request, State},
    http::request::Parts,
    middleware::Next,
    response::Response,
};

use super::{Gateway, Problem};
use crate::name::FenceName;
pub(super) use fence::{ToLease, ToRead, ToWrite};
pub(super) use rights::{Right, Rights};

/// Everybody's name while nobody has to show who they are.
const ANONYMOUS: &str = "anonymous";

/// Who a request is from. Clones share one.
#[derive(Clone)]
pub(super) struct Client(Arc<Known>);

struct Known {
    name: Box<str>,
    rights: Rights,
}

impl Client {
    fn new(name: &str, rights: Rights) -> Self {
        Self(Arc::new(Known {
            name: name.into(),
            rights,
        }))
    }

    /// Everybody, while nobody has to show who they are.
    pub(super) fn anonymous() -> Self {
        Self::new(ANONYMOUS, Rights::all())
    }

    /// The name: what its idempotency keys, its refusals and its foreign tokens go by.
    pub(super) fn name(&self) -> &str {
        &self.0.name
    }

    pub(super) fn is_anonymous(&self) -> bool {
        self.name() == ANONYMOUS
    }

    /// Whether it has this right on the fence.
    pub(super) fn has(&self, right: Right, fence: &FenceName) -> bool {
        self.0.rights.on(fence, right)
    }

    /// Refuses what it has not the right to on the fence.
    pub(super) fn may(&self, right: Right, fence: &FenceName) -> Result<(), Problem> {
        self.may_any(&[right], fence)
    }

    /// Refuses what it has none of the rights to on the fence.
    pub(super) fn may_any(&self, rights: &[Right], fence: &FenceName) -> Result<(), Problem> {
        match rights.iter().any(|right| self.has(*right, fence)) {
            true => Ok(()),
            false => Err(Problem::forbidden(rights, fence)),
        }
    }

    /// Refuses what needs the right on all fences there are and will be.
    pub(super) fn may_everywhere(&self, right: Right) -> Result<(), Problem> {
        match self.0.rights.everywhere(right) {
            true => Ok(()),
            false => Err(Problem::forbidden_everywhere(right)),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Client {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let client = parts.extensions.get::<Self>().cloned();
        client.ok_or_else(|| Problem::internal("a request came to its handler without being authenticated"))
    }
}

/// Wraps every route: who is it?
pub(super) async fn authenticate(
    State(gateway): State<Arc<Gateway>>,
    mut request: Request,
    next: Next,
) -> Response {
    request.extensions_mut().insert(gateway.anonymous.clone());
    next.run(request).await
}
