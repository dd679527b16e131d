//! A typed client of the gateway.

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde::{Deserialize, Serialize};

use crate::{
    name::{FenceName, RecordKey},
    store::{Condition, Value, Version},
    token::{Holder, Token},
};

/// What stays as it is in a segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b':');
/// The same in a record's key, whose slashes are segments' ends.
const KEY: &AsciiSet = &SEGMENT.remove(b'/');

/// How long a call may take, apart from the time that an acquisition waits.
const LIMIT: Duration = Duration::from_secs(30);

/// A client of one gateway, or of several behind one address. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

/// What an acquisition may be asked for. Unset fields are left to the gateway.
#[derive(Debug, Clone, Default)]
pub struct AcquireOptions {
    /// How long the lease outlives its last renewal.
    pub ttl: Option<Duration>,
    /// How long to wait while others hold the fence.
    pub wait: Option<Duration>,
    /// A text for people who ask who holds the fence.
    pub label: Option<String>,
    /// Who is to hold it: with the same one, an answer that was lost can be asked for again.
    pub holder: Option<Holder>,
}

/// A lease as the gateway granted it. Nobody renews it but the caller.
#[derive(Debug, Clone)]
pub struct GrantedLease {
    /// The token to write with.
    pub token: Token,
    /// The time to live that was granted.
    pub ttl: Duration,
    /// How long it lasted still when the gateway answered.
    pub expires_in: Duration,
}

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRecord {
    /// What it holds.
    pub value: Value,
    /// Which state this is.
    pub version: Version,
}

/// A refusal or a failure, as RFC 9457 has it.
#[derive(Debug, Clone, Deserialize)]
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
    pub fence: Option<String>,
    /// The token that was shown, as epoch-sequence.
    pub presented: Option<String>,
    /// The fence's mark, as epoch-sequence.
    pub mark: Option<String>,
    /// Whether the same call may succeed later.
    #[serde(default)]
    pub retryable: bool,
    /// What the gateway's logs call this request.
    pub request_id: Option<String>,
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
    /// No answer. A write may have happened or not.
    #[error("the gateway did not answer: {0}")]
    NoAnswer(String),
    /// The gateway said no.
    #[error("{} ({}): {}", .0.status, .0.name(), .0.detail)]
    Problem(Box<Problem>),
    /// The answer is not one of the gateway's.
    #[error("the answer is not a gateway's: {0}")]
    Unexpected(String),
}

impl ClientError {
    /// The kind of a refusal: `token-stale` and so on.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            _ => None,
        }
    }
}

#[derive(Serialize)]
struct AcquireBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<String>,
}

#[derive(Deserialize)]
struct LeaseBody {
    token: String,
    ttl: String,
    expires_in_ms: u64,
}

#[derive(Deserialize)]
struct WrittenBody {
    version: String,
}

impl Client {
    /// A client of the gateway at `url`, for example `http://127.0.0.1:7411`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ClientError::Url`] if the URL cannot be used.
    pub fn new(url: &str) -> Result<Self, ClientError> {
        let parsed = url::Url::parse(url).map_err(|error| ClientError::Url(error.to_string()))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(ClientError::Url(format!("it begins with {}:", parsed.scheme())));
        }
        // Fails if the program has chosen a provider already, which is then used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .build()
            .map_err(|error| ClientError::Url(error.to_string()))?;
        Ok(Self {
            http,
            base: parsed.as_str().trim_end_matches('/').to_owned(),
        })
    }

    /// Acquires a lease.
    ///
    /// # Errors
    /// [`ClientError::Problem`], of kind `lock-held` when the wait ran out. When there was no answer, asking
    /// again with the same [`AcquireOptions::holder`] gives the same lease.
    ///
    /// # Cancel safety
    /// The gateway gives the place in the queue back when it sees the connection end; a lease that was
    /// granted meanwhile lasts for its TTL, unless its holder was chosen and asks again.
    pub async fn acquire(
        &self,
        fence: &FenceName,
        options: &AcquireOptions,
    ) -> Result<GrantedLease, ClientError> {
        let duration = |duration: Duration| humantime::format_duration(duration).to_string().replace(' ', "");
        let body = AcquireBody {
            ttl: options.ttl.map(duration),
            wait: options.wait.map(duration),
            label: options.label.as_deref(),
            holder: options.holder.as_ref().map(Holder::expose),
        };
        let limit = LIMIT + options.wait.unwrap_or_default();
        let request = self
            .request(Method::POST, &lease_path(fence))
            .json(&body)
            .timeout(limit);
        lease(answer(request).await?).await
    }

    /// Renews a lease: it lasts its TTL again.
    ///
    /// # Errors
    /// [`ClientError::Problem`] of kind `lease-lost` when it is too late.
    pub async fn renew(&self, fence: &FenceName, token: &Token) -> Result<GrantedLease, ClientError> {
        lease(answer(fenced(self.request(Method::PUT, &lease_path(fence)), token)).await?).await
    }

    /// Releases a lease; it does not matter whether it is over already.
    ///
    /// # Errors
    /// When the gateway could not be asked, or could not reach the store or the lock service.
    pub async fn release(&self, fence: &FenceName, token: &Token) -> Result<(), ClientError> {
        answer(fenced(self.request(Method::DELETE, &lease_path(fence)), token)).await?;
        Ok(())
    }

    /// Reads a record; `None` if there is none.
    ///
    /// # Errors
    /// When the gateway could not be asked, or could not reach the store.
    pub async fn read(&self, fence: &FenceName, key: &RecordKey) -> Result<Option<ReadRecord>, ClientError> {
        let response = match answer(self.request(Method::GET, &record_path(fence, key))).await {
            Err(ClientError::Problem(problem)) if problem.name() == "record-not-found" => return Ok(None),
            response => response?,
        };
        let text = |name| {
            let value = response
                .headers()
                .get(&name)
                .and_then(|value: &header::HeaderValue| value.to_str().ok());
            value
                .map(str::to_owned)
                .ok_or_else(|| ClientError::Unexpected(format!("no {name} header")))
        };
        let version = text(header::ETAG)?;
        let content_type = text(header::CONTENT_TYPE)?;
        let bytes = response
            .bytes()
            .await
            .map_err(|error| ClientError::NoAnswer(error.to_string()))?;
        let version = version.trim_matches('"').parse();
        Ok(Some(ReadRecord {
            value: Value {
                bytes: bytes.into(),
                content_type,
            },
            version: Version(
                version.map_err(|_| ClientError::Unexpected("an ETag that is no version".into()))?,
            ),
        }))
    }

    /// Stores a record under a token.
    ///
    /// # Errors
    /// [`ClientError::Problem`] of kind `token-stale` and its relatives when the guard refuses the token,
    /// `version-mismatch` when the condition does not hold, `outcome-unknown` when it cannot be told.
    ///
    /// # Cancel safety
    /// The write may or may not happen.
    pub async fn put(
        &self,
        fence: &FenceName,
        token: &Token,
        key: &RecordKey,
        value: Value,
        condition: Condition,
    ) -> Result<Version, ClientError> {
        let request = self.request(Method::PUT, &record_path(fence, key));
        let request = fenced(conditional(request, condition), token)
            .header(header::CONTENT_TYPE, value.content_type)
            .body(value.bytes);
        let written: WrittenBody = json(answer(request).await?).await?;
        let version = written.version.parse();
        Ok(Version(version.map_err(|_| {
            ClientError::Unexpected("a version that is no number".into())
        })?))
    }

    /// Deletes a record under a token. Without a condition it does not matter whether it is there.
    ///
    /// # Errors
    /// As [`Client::put`].
    ///
    /// # Cancel safety
    /// The write may or may not happen.
    pub async fn delete(
        &self,
        fence: &FenceName,
        token: &Token,
        key: &RecordKey,
        condition: Condition,
    ) -> Result<(), ClientError> {
        let request = self.request(Method::DELETE, &record_path(fence, key));
        answer(fenced(conditional(request, condition), token)).await?;
        Ok(())
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.base))
            .timeout(LIMIT)
    }
}

fn lease_path(fence: &FenceName) -> String {
    format!(
        "/v1/fences/{}/lease",
        utf8_percent_encode(fence.as_str(), SEGMENT)
    )
}

fn record_path(fence: &FenceName, key: &RecordKey) -> String {
    let fence = utf8_percent_encode(fence.as_str(), SEGMENT);
    format!(
        "/v1/fences/{fence}/records/{}",
        utf8_percent_encode(key.as_str(), KEY)
    )
}

fn fenced(request: RequestBuilder, token: &Token) -> RequestBuilder {
    let mut value = header::HeaderValue::from_str(&token.expose()).expect("digits and hyphens are a header");
    value.set_sensitive(true);
    request.header("Fencing-Token", value)
}

fn conditional(request: RequestBuilder, condition: Condition) -> RequestBuilder {
    match condition {
        Condition::Always => request,
        Condition::Absent => request.header(header::IF_NONE_MATCH, "*"),
        Condition::Present => request.header(header::IF_MATCH, "*"),
        Condition::Version(version) => request.header(header::IF_MATCH, format!("\"{version}\"")),
    }
}

async fn answer(request: RequestBuilder) -> Result<Response, ClientError> {
    let response = request
        .send()
        .await
        .map_err(|error| ClientError::NoAnswer(chain(&error)))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let text = response.text().await.unwrap_or_default();
    match serde_json::from_str::<Problem>(&text) {
        Ok(problem) => Err(ClientError::Problem(Box::new(problem))),
        Err(_) => Err(ClientError::Unexpected(unexpected_status(status))),
    }
}

fn unexpected_status(status: StatusCode) -> String {
    format!("status {status} without a problem in its body")
}

async fn json<T: serde::de::DeserializeOwned>(response: Response) -> Result<T, ClientError> {
    response
        .json()
        .await
        .map_err(|error| ClientError::Unexpected(chain(&error)))
}

async fn lease(response: Response) -> Result<GrantedLease, ClientError> {
    let body: LeaseBody = json(response).await?;
    let wrong = |what: &str| ClientError::Unexpected(format!("a lease with a {what} that cannot be read"));
    Ok(GrantedLease {
        token: body.token.parse().map_err(|_| wrong("token"))?,
        ttl: humantime::parse_duration(&body.ttl).map_err(|_| wrong("ttl"))?,
        expires_in: Duration::from_millis(body.expires_in_ms),
    })
}

/// An error with what caused it, which is where the address and the reason are.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
