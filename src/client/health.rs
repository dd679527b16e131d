//! Whether a gateway can do its work.

use reqwest::{Method, header};
use serde::Deserialize;

use super::{Client, ClientError, error::chain, request::refusal};

/// What a gateway says of itself.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct Health {
    /// `ready`, `not-ready` or `draining`.
    pub status: String,
    /// Its store; `None` where this client may not see it, for want of the right `admin` on all fences.
    pub store: Option<HealthPart>,
    /// Its lock service; `None` likewise.
    pub lock_service: Option<HealthPart>,
    /// What its clock showed, as HTTP has it.
    #[serde(skip)]
    pub date: Option<String>,
}

/// What a gateway says of what stands behind it.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct HealthPart {
    /// What it is, and where.
    pub name: String,
    /// What is wrong with it, if anything is.
    pub problem: Option<String>,
}

impl Client {
    /// Whether the gateway can do its work, and if not, why. Asked once.
    ///
    /// # Errors
    /// When it does not answer, does not believe who this client is, or is none.
    ///
    /// # Cancel safety
    /// Yes.
    pub async fn health(&self) -> Result<Health, ClientError> {
        let gateway = self.url().to_owned();
        let answer = self.request(Method::GET, "/readyz").send().await;
        let answer = answer.map_err(|error| ClientError::Unreachable {
            gateway,
            detail: chain(&error.without_url()),
        })?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let date = headers.get(header::DATE);
        let date = date.and_then(|date| date.to_str().ok()).map(str::to_owned);
        let text = answer.bytes().await.unwrap_or_default();
        // A problem's status is a number.
        match serde_json::from_slice::<Health>(&text) {
            Ok(health) => Ok(Health { date, ..health }),
            Err(_) if status.is_success() => Err(ClientError::Unexpected(
                "what it says of its health cannot be read".into(),
            )),
            Err(_) => Err(refusal(status, &headers, &text)),
        }
    }
}
