//! Whether a gateway can do its work.

use reqwest::{Method, header};
use serde::Deserialize;

use super::{Client, ClientError, error::chain};

/// What a gateway says of itself.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct Health {
    /// `ready`, `not-ready` or `draining`.
    pub status: String,
    /// Its store.
    pub store: HealthPart,
    /// Its lock service.
    pub lock_service: HealthPart,
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
    /// When it does not answer, or is none.
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
        let date = answer.headers().get(header::DATE);
        let date = date.and_then(|date| date.to_str().ok()).map(str::to_owned);
        let text = answer.bytes().await.unwrap_or_default();
        let mut health: Health = serde_json::from_slice(&text)
            .map_err(|_| ClientError::Unexpected("what it says of its health cannot be read".into()))?;
        health.date = date;
        Ok(health)
    }
}
