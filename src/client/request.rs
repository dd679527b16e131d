//! Asking, and asking again where that is safe.

use std::{str::FromStr, time::Duration};

use reqwest::{Method, Request, RequestBuilder, StatusCode, header};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Client, ClientError, Problem, error::chain, redirect};
use crate::{store::Condition, token::Token};

/// How long a call may take, apart from the time that an acquisition waits.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// The first pause before a call is asked again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Under which condition a write happens, and whether it may be asked for again.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// What must be true of the record. Defaults to nothing.
    pub condition: Condition,
    /// With a key, the write happens once however often it is asked for. Defaults to none.
    pub once: Option<IdempotencyKey>,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Condition::Always.into()
    }
}

impl WriteOptions {
    /// Once, however often it is asked for: the client asks again by itself, and so may whoever has the key.
    pub fn once(mut self, key: IdempotencyKey) -> Self {
        self.once = Some(key);
        self
    }
}

impl From<Condition> for WriteOptions {
    fn from(condition: Condition) -> Self {
        Self {
            condition,
            once: None,
        }
    }
}

impl From<IdempotencyKey> for WriteOptions {
    fn from(key: IdempotencyKey) -> Self {
        Self::default().once(key)
    }
}

/// Names a write, so that it happens once: 1 to 255 bytes of visible ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// One that nobody else has.
    pub fn random() -> Self {
        Self(Uuid::new_v4().to_string())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IdempotencyKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let readable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if readable && (1..=255).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err("an idempotency key has 1 to 255 bytes of visible ASCII".into())
        }
    }
}

/// Whether asking twice does no more than asking once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    Safe,
    Never,
}

impl From<&WriteOptions> for Repeat {
    fn from(options: &WriteOptions) -> Self {
        match options.once {
            Some(_) => Self::Safe,
            None => Self::Never,
        }
    }
}

/// A whole answer that is no refusal.
pub(super) struct Answer {
    pub(super) headers: header::HeaderMap,
    pub(super) body: Vec<u8>,
}

/// For how long to go on after the first failure, and how fast.
pub(super) struct Patience {
    whole: Duration,
    until: Option<Instant>,
    pause: Duration,
}

impl Patience {
    /// Pauses before the same is asked again; `false` when it is not to be.
    pub(super) async fn again(&mut self, error: &ClientError) -> bool {
        let until = *self.until.get_or_insert(Instant::now() + self.whole);
        let asked = error.problem().and_then(|problem| problem.retry_after);
        let pause = crate::retry::part_of(self.pause).max(asked.unwrap_or_default());
        self.pause = (self.pause * 2).min(PAUSES.1);
        if !error.passes() || Instant::now() + pause >= until {
            return false;
        }
        tokio::time::sleep(pause).await;
        true
    }
}

impl Client {
    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.0
            .http
            .request(method, format!("{}{path}", self.0.base))
            .timeout(LIMIT)
    }

    pub(super) fn patience(&self) -> Patience {
        Patience {
            whole: self.0.patience,
            until: None,
            pause: PAUSES.0,
        }
    }

    /// Asks, again while that is safe and may help.
    pub(super) async fn ask(
        &self,
        mut request: RequestBuilder,
        repeat: Repeat,
    ) -> Result<Answer, ClientError> {
        let mut patience = self.patience();
        loop {
            let same = match repeat {
                Repeat::Safe => request.try_clone(),
                Repeat::Never => None,
            };
            match (self.ask_once(request).await, same) {
                (Err(error), Some(same)) if patience.again(&error).await => request = same,
                (answer, _) => return answer,
            }
        }
    }

    /// Asks, elsewhere if the gateway says so, and reads the answer to its end. All of it within the request's limit.
    pub(super) async fn ask_once(&self, request: RequestBuilder) -> Result<Answer, ClientError> {
        let (http, request) = request.build_split();
        let mut request = request.map_err(|error| ClientError::Request(chain(&error.without_url())))?;
        let (begun, limit) = (Instant::now(), request.timeout().copied().unwrap_or(LIMIT));
        let mut hops = 0..redirect::HOPS;
        loop {
            let (url, same) = (request.url().clone(), request.try_clone());
            let (status, headers, body) = execute(&http, request, self.gateway(&url)).await?;
            if status.is_success() {
                return Ok(Answer { headers, body });
            }
            request = match same {
                Some(same) if status == StatusCode::TEMPORARY_REDIRECT => same,
                _ => return Err(refusal(status, &headers, &body)),
            };
            *request.url_mut() = redirect::next(&url, &headers)?;
            if hops.next().is_none() {
                return Err(redirect::too_many(&url));
            }
            *request.timeout_mut() = Some(limit.saturating_sub(begun.elapsed()));
        }
    }

    /// Whom a request goes to, as errors show it.
    fn gateway(&self, url: &url::Url) -> String {
        match url.as_str().starts_with(&self.0.base) {
            true => self.0.base.clone(),
            false => redirect::gateway(url),
        }
    }
}

async fn execute(
    http: &reqwest::Client,
    request: Request,
    gateway: String,
) -> Result<(StatusCode, header::HeaderMap, Vec<u8>), ClientError> {
    let failed = |error: reqwest::Error| {
        let (gateway, is_connect) = (gateway.clone(), error.is_connect());
        let detail = chain(&error.without_url());
        match is_connect {
            true => ClientError::Unreachable { gateway, detail },
            false => ClientError::NoAnswer { gateway, detail },
        }
    };
    let response = http.execute(request).await.map_err(failed)?;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response.bytes().await.map_err(failed)?.to_vec();
    Ok((status, headers, body))
}

pub(super) fn refusal(status: StatusCode, headers: &header::HeaderMap, body: &[u8]) -> ClientError {
    let Ok(mut problem) = serde_json::from_slice::<Problem>(body) else {
        return ClientError::Unexpected(format!("status {status} without a problem in its body"));
    };
    problem.status = status.as_u16();
    let after = headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    problem.retry_after = after
        .and_then(|seconds| seconds.parse().ok())
        .map(Duration::from_secs);
    ClientError::Problem(Box::new(problem))
}

impl Answer {
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body).map_err(|error| ClientError::Unexpected(error.to_string()))
    }

    pub(super) fn header(&self, name: header::HeaderName) -> Result<&str, ClientError> {
        let value = self.headers.get(&name).and_then(|value| value.to_str().ok());
        value.ok_or_else(|| ClientError::Unexpected(format!("no {name} header")))
    }
}

pub(super) fn fenced(request: RequestBuilder, token: &Token) -> RequestBuilder {
    let mut value = header::HeaderValue::from_str(&token.expose()).expect("digits and hyphens are a header");
    value.set_sensitive(true);
    request.header("Fencing-Token", value)
}

pub(super) fn with_options(request: RequestBuilder, options: &WriteOptions) -> RequestBuilder {
    let request = match options.condition {
        Condition::Always => request,
        Condition::Absent => request.header(header::IF_NONE_MATCH, "*"),
        Condition::Present => request.header(header::IF_MATCH, "*"),
        Condition::Version(version) => request.header(header::IF_MATCH, format!("\"{version}\"")),
    };
    with_key(request, options.once.as_ref())
}

pub(super) fn with_key(request: RequestBuilder, key: Option<&IdempotencyKey>) -> RequestBuilder {
    match key {
        Some(key) => request.header("Idempotency-Key", key.as_str()),
        None => request,
    }
}
