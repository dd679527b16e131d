//! For answers that go on for longer than the credentials behind them.

use std::time::{Duration, SystemTime};

use axum::{extract::FromRequestParts, http::request::Parts};
use tokio_util::sync::CancellationToken;

use crate::gateway::Problem;

/// How long a client stays who it has shown to be.
#[derive(Clone)]
pub(in crate::gateway) struct Standing {
    /// When its credentials end; `None` for those that do not.
    pub(super) until: Option<SystemTime>,
    /// Cancelled when who the clients are was read anew.
    pub(super) replaced: CancellationToken,
}

impl Standing {
    /// For clients that do not have to show who they are.
    pub(super) fn forever() -> Self {
        Self {
            until: None,
            replaced: CancellationToken::new(),
        }
    }

    /// Ends when the client has to show anew who it is, which it may well be able to.
    pub(in crate::gateway) async fn ended(self) {
        let expired = async {
            while let Some(until) = self.until {
                let Ok(left) = until.duration_since(SystemTime::now()) else {
                    return;
                };
                // Not all at once: the clock may be set meanwhile, and the time may be beyond all timers.
                tokio::time::sleep(left.min(Duration::from_secs(60))).await;
            }
            std::future::pending().await
        };
        tokio::select! {
            () = self.replaced.cancelled() => {}
            () = expired => {}
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Standing {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let standing = parts.extensions.get::<Self>().cloned();
        standing
            .ok_or_else(|| Problem::internal("a request came to its handler without its client's standing"))
    }
}
