//! Leases as the gateway grants them: acquire, renew, release.

use std::time::Duration;

use reqwest::Method;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    Client, ClientError, path,
    request::{Answer, LIMIT, Repeat, fenced},
};
use crate::{
    clock::Moment,
    keep::Keeper,
    lock::{Term, give_back},
    name::FenceName,
    token::{Holder, Token},
};

/// The longest wait that one request asks for: what gateways allow unless configured otherwise. Whoever waits
/// longer asks again.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// What an acquisition may be asked for. Unset fields are left to the gateway.
#[derive(Debug, Clone, Default)]
pub struct AcquireOptions {
    /// How long the lease outlives its last renewal.
    pub ttl: Option<Duration>,
    /// How long to wait while others hold the fence. Beyond five minutes, the place in the queue is lost
    /// every five minutes.
    pub wait: Option<Duration>,
    /// A text for people who ask who holds the fence.
    pub label: Option<String>,
    /// Who is to hold it, if the caller chooses: with the same one, another process finds the same lease.
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
    /// Until when it surely lasts: counted from before the gateway was asked, which after a long wait may be past.
    pub deadline: Moment,
}

#[derive(Serialize)]
struct AcquireBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
    wait: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    holder: String,
}

#[derive(Deserialize)]
struct LeaseBody {
    token: String,
    ttl: String,
    expires_in_ms: u64,
}

impl Client {
    /// Acquires a lease that nobody renews. [`Client::acquire`] gives one that renews itself.
    ///
    /// # Errors
    /// [`ClientError::is_busy`] when the wait ran out.
    ///
    /// # Cancel safety
    /// The place in the queue is given back, and a lease that was granted meanwhile is released in the background;
    /// not with a chosen [`AcquireOptions::holder`], who may come back for it.
    pub async fn grant(
        &self,
        fence: &FenceName,
        options: &AcquireOptions,
    ) -> Result<GrantedLease, ClientError> {
        let mut asking = Asking::new(self, fence, options);
        let granted = asking.ask(options).await;
        if asking.is_settled(&granted) {
            asking.armed = false;
        }
        granted
    }

    /// Renews a lease: it lasts its TTL again.
    ///
    /// # Errors
    /// [`ClientError::is_lost`] when it is too late.
    ///
    /// # Cancel safety
    /// The renewal may or may not happen.
    pub async fn renew(&self, fence: &FenceName, token: &Token) -> Result<GrantedLease, ClientError> {
        let mut patience = self.patience();
        loop {
            match self.renew_once(fence, token, LIMIT).await {
                Err(error) if patience.again(&error).await => {}
                renewed => return renewed,
            }
        }
    }

    async fn renew_once(
        &self,
        fence: &FenceName,
        token: &Token,
        limit: Duration,
    ) -> Result<GrantedLease, ClientError> {
        let sent = Moment::now();
        let request = self.request(Method::PUT, &path::lease(fence)).timeout(limit);
        lease(sent, &self.ask_once(fenced(request, token)).await?)
    }

    /// Releases a lease; it does not matter whether it is over already.
    ///
    /// # Errors
    /// When the gateway could not be asked, or could not reach the store or the lock service.
    ///
    /// # Cancel safety
    /// The release may or may not happen.
    pub async fn release(&self, fence: &FenceName, token: &Token) -> Result<(), ClientError> {
        let request = fenced(self.request(Method::DELETE, &path::lease(fence)), token);
        self.ask(request, Repeat::Safe).await.map(drop)
    }

    /// Ends whoever's lease, if this client may: its token is dead from then on. Sent once: asked again, it
    /// would end the next holder's.
    ///
    /// # Errors
    /// [`ClientError::Problem`] of kind `not-allowed`; [`ClientError::is_outcome_unknown`] when there was no answer.
    ///
    /// # Cancel safety
    /// The release may or may not happen.
    pub async fn force_release(&self, fence: &FenceName) -> Result<(), ClientError> {
        let path = path::query(&path::lease(fence), &[("force", Some("true"))]);
        self.ask(self.request(Method::DELETE, &path), Repeat::Never)
            .await
            .map(drop)
    }
}

impl Keeper for Client {
    type Error = ClientError;

    /// Renews with a limit in time that leaves room for another try.
    async fn keep(&self, name: &FenceName, token: &Token, ttl: Duration) -> Result<Term, ClientError> {
        let limit = (ttl / 4).clamp(Duration::from_millis(50), LIMIT);
        Ok(self.renew_once(name, token, limit).await?.term())
    }

    fn is_lost(error: &ClientError) -> bool {
        error.is_lost()
    }

    fn lost() -> ClientError {
        ClientError::Lost
    }
}

impl GrantedLease {
    pub(super) fn term(&self) -> Term {
        Term {
            ttl: self.ttl,
            deadline: self.deadline,
        }
    }
}

/// An acquisition that is being asked for. Dropped before it is known what came of it, it gives back what may
/// have been granted.
pub(super) struct Asking {
    client: Client,
    fence: FenceName,
    holder: Holder,
    pub(super) armed: bool,
}

impl Asking {
    pub(super) fn new(client: &Client, fence: &FenceName, options: &AcquireOptions) -> Self {
        Self {
            client: client.clone(),
            fence: fence.clone(),
            holder: options.holder.clone().unwrap_or_else(Holder::random),
            armed: options.holder.is_none(),
        }
    }

    /// Asks until the wait is over, always for the same holder: an answer that was lost is found again.
    pub(super) async fn ask(&self, options: &AcquireOptions) -> Result<GrantedLease, ClientError> {
        let begun = Instant::now();
        let wait = options.wait.unwrap_or_default();
        let mut patience = self.client.patience();
        loop {
            let left = wait.saturating_sub(begun.elapsed());
            let now = left.min(LONGEST_WAIT);
            match self.ask_once(options, now).await {
                Err(error) if error.is_busy() && left > now => patience = self.client.patience(),
                Err(error) if patience.again(&error).await => {}
                granted => return granted,
            }
        }
    }

    async fn ask_once(&self, options: &AcquireOptions, wait: Duration) -> Result<GrantedLease, ClientError> {
        let text = |duration: Duration| humantime::format_duration(duration).to_string().replace(' ', "");
        let body = AcquireBody {
            ttl: options.ttl.map(text),
            // Finer than any clock that matters, and shorter to read.
            wait: text(Duration::from_millis(
                u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            )),
            label: options.label.as_deref(),
            holder: self.holder.expose(),
        };
        let request = self.client.request(Method::POST, &path::lease(&self.fence));
        let sent = Moment::now();
        let answer = self.client.ask_once(request.json(&body).timeout(wait + LIMIT));
        lease(sent, &answer.await?)
    }

    /// Whether it is known what came of it.
    pub(super) fn is_settled(&self, granted: &Result<GrantedLease, ClientError>) -> bool {
        match granted {
            Ok(_) => true,
            Err(ClientError::Problem(problem)) => problem.status < 500,
            Err(_) => false,
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let asking = Self {
            client: self.client.clone(),
            fence: self.fence.clone(),
            holder: self.holder.clone(),
            armed: false,
        };
        give_back(async move {
            // The same holder finds its own lease, if there is one; the fence may also be free, and is again then.
            let found = asking.ask_once(&AcquireOptions::default(), Duration::ZERO).await;
            if let Ok(granted) = found
                && let Err(error) = asking.client.release(&asking.fence, &granted.token).await
            {
                tracing::warn!(fence = %asking.fence, %error, "a lease that nobody waits for stays until it expires");
            }
        });
    }
}

fn lease(sent: Moment, answer: &Answer) -> Result<GrantedLease, ClientError> {
    let body: LeaseBody = answer.json()?;
    let wrong = |what: &str| ClientError::Unexpected(format!("a lease with a {what} that cannot be read"));
    let expires_in = Duration::from_millis(body.expires_in_ms);
    Ok(GrantedLease {
        token: body.token.parse().map_err(|_| wrong("token"))?,
        ttl: humantime::parse_duration(&body.ttl).map_err(|_| wrong("ttl"))?,
        expires_in,
        deadline: sent + expires_in,
    })
}
