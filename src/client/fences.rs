//! Fences: what is remembered of each, who holds it, and whether a token may act.

use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::{
    Client, ClientError, Listing, path,
    request::{Repeat, fenced},
};
use crate::{name::FenceName, token::Token};

/// A fence in a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ListedFence {
    /// Its name.
    pub fence: String,
    /// Its mark, as epoch-sequence.
    pub mark: String,
    /// When it was sealed, as RFC 3339 has it.
    pub sealed_at: Option<String>,
}

/// A fence, as the gateway sees it: what the store remembers, and what the lock service says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FenceView {
    /// Its name.
    pub fence: String,
    /// Its mark, as epoch-sequence; `None` if it was never sealed.
    pub mark: Option<String>,
    /// When it was sealed, as RFC 3339 has it.
    pub sealed_at: Option<String>,
    /// The kind of the lock service.
    pub lock_service: String,
    /// Whether the lock service could be asked for the rest.
    pub lock_service_answers: bool,
    /// The live holder, if there is one.
    pub holder: Option<HolderView>,
    /// How many wait behind it, where the lock service keeps a queue.
    pub waiting: Option<u64>,
}

/// A live holder, as others may see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HolderView {
    /// The number of its acquisition, in decimal.
    pub sequence: String,
    /// Its text for people.
    pub label: String,
    /// Milliseconds until its lease expires, if it is not renewed.
    pub expires_in_ms: u64,
}

impl Client {
    /// The fences whose names begin with `prefix`, in byte order.
    pub fn fences(&self, prefix: &str) -> Listing<ListedFence> {
        Listing::new(
            self.clone(),
            path::FENCES.to_owned(),
            "fences",
            ("prefix", prefix),
        )
    }

    /// What is known of a fence; `None` if no lease was ever granted on it.
    ///
    /// # Errors
    /// When the gateway could not be asked, or could not reach the store.
    ///
    /// # Cancel safety
    /// Yes.
    pub async fn fence(&self, fence: &FenceName) -> Result<Option<FenceView>, ClientError> {
        let request = self.request(Method::GET, &path::fence(fence));
        match self.ask(request, Repeat::Safe).await {
            Err(ClientError::Problem(problem)) if problem.name() == "fence-not-found" => Ok(None),
            answer => answer?.json().map(Some),
        }
    }

    /// Whether a token may act now: it is the fence's mark. For resources that live elsewhere. The answer is
    /// already old when it arrives.
    ///
    /// # Errors
    /// [`ClientError::is_fenced`] when it may not.
    ///
    /// # Cancel safety
    /// Yes.
    pub async fn check(&self, fence: &FenceName, token: &Token) -> Result<(), ClientError> {
        let path = format!("{}/check", path::fence(fence));
        let request = fenced(self.request(Method::POST, &path), token);
        self.ask(request, Repeat::Safe).await.map(drop)
    }
}
