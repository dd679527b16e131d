//! Leases: acquire, renew, release.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde::{Deserialize, Deserializer, Serialize};

use super::{
    Gateway, Problem,
    auth::{Client, Right, ToLease},
    body,
    path::Fence,
    token_header::{FENCING_TOKEN, Presented},
};
use crate::{
    grant::{Grant, Options},
    lock::Kind,
    token::Holder,
};

pub(super) fn routes() -> Router<Arc<Gateway>> {
    Router::new().route(
        "/v1/fences/{fence}/lease",
        post(acquire).put(renew).delete(release),
    )
}

/// What an acquisition may ask for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default, deserialize_with = "body::duration")]
    ttl: Option<Duration>,
    #[serde(default, deserialize_with = "body::duration")]
    wait: Option<Duration>,
    label: Option<String>,
    #[serde(default, deserialize_with = "holder")]
    holder: Option<Holder>,
}

/// A renewal asks for nothing: the lease keeps its ttl.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedAgain {}

/// By force: whoever holds it, without its token.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedToEnd {
    #[serde(default)]
    force: bool,
}

/// A lease, as its holder sees it.
#[derive(Serialize)]
struct Leased<'a> {
    fence: &'a str,
    token: String,
    epoch: i64,
    sequence: String,
    ttl: String,
    expires_in_ms: u64,
    lock_service: &'static str,
}

fn holder<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Holder>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(serde::de::Error::custom))
        .transpose()
}

/// Dropped when the client goes away, and with it the place in the queue.
async fn acquire(
    State(gateway): State<Arc<Gateway>>,
    client: Client,
    ToLease(name): ToLease,
    body: Body,
) -> Result<Response, Problem> {
    let config = &gateway.config;
    let bytes = body::read(body, config.max_json, config.body_timeout).await?;
    let asked: Asked = body::json(&bytes)?;
    let defaults = Options::default();
    let options = Options {
        ttl: asked.ttl.unwrap_or(defaults.ttl),
        wait: asked.wait.unwrap_or(defaults.wait),
        label: asked.label.unwrap_or(defaults.label),
        holder: asked.holder,
    };
    if options.wait > config.max_wait {
        let longest = humantime::format_duration(config.max_wait);
        return Err(Problem::body_malformed(format!("the wait is at most {longest}")));
    }
    let _place = match options.wait {
        Duration::ZERO => None,
        _ => match gateway.waiting.try_acquire() {
            Ok(place) => Some(place),
            Err(_) => return Err(Problem::too_many_waiting(config.max_waiting)),
        },
    };
    let limit = options.wait + config.lease_timeout;
    let (begun, label) = (Instant::now(), options.label.clone());
    let witness = &gateway.witness;
    let granted = tokio::select! {
        biased;
        () = gateway.draining.cancelled() => return Err(Problem::draining()),
        granted = tokio::time::timeout(limit, gateway.locks.grant(&name, options)) => granted,
    };
    match granted {
        Ok(Ok(grant)) => {
            witness.granted(&client, &grant, label, begun.elapsed());
            let service = gateway.locks.service().kind();
            Ok(leased(&grant, service, StatusCode::CREATED))
        }
        Ok(Err(error)) => {
            witness.not_granted(Some(&error));
            Err(Problem::not_granted(error))
        }
        Err(_) => {
            witness.not_granted(None);
            Err(Problem::lock_service_unavailable(
                "the lock service, or the store that seals its grants, did not answer in time: no lease was given",
            ))
        }
    }
}

async fn renew(
    State(gateway): State<Arc<Gateway>>,
    client: Client,
    ToLease(name): ToLease,
    Presented(token): Presented,
    body: Body,
) -> Result<Response, Problem> {
    let config = &gateway.config;
    let bytes = body::read(body, config.max_json, config.body_timeout).await?;
    let AskedAgain {} = body::json(&bytes)?;
    match tokio::time::timeout(config.lease_timeout, gateway.locks.renew(&name, &token)).await {
        Ok(term) => {
            gateway.witness.renewed(&client, &name, &token, &term);
            let grant = Grant {
                term: term?,
                name,
                token,
            };
            Ok(leased(&grant, gateway.locks.service().kind(), StatusCode::OK))
        }
        Err(_) => Err(Problem::lock_service_unavailable(
            "the lock service did not answer in time: the lease may or may not have been renewed",
        )),
    }
}

/// Runs to its end whether or not the client waits for it: half a release would keep the lock for a TTL.
async fn release(
    State(gateway): State<Arc<Gateway>>,
    client: Client,
    Fence(name): Fence,
    asked: Result<Query<AskedToEnd>, QueryRejection>,
    token: Result<Option<Presented>, Problem>,
) -> Result<StatusCode, Problem> {
    let Query(asked) = asked.map_err(|error| Problem::query_malformed(error.body_text()))?;
    client.may(if asked.force { Right::Admin } else { Right::Lease }, &name)?;
    let token = token?;
    let (locks, witness) = (gateway.locks.clone(), gateway.witness.clone());
    if asked.force {
        if client.is_anonymous() && !gateway.config.allow_force_release {
            return Err(Problem::force_not_allowed());
        }
        tracing::warn!(fence = %name, client = client.name(), "a lease is released by force");
        let release = async move {
            let released = locks.force_release(&name).await;
            if released.is_ok() {
                witness.force_released(&client, &name);
            }
            released
        };
        gateway.to_its_end(release).await??;
        return Ok(StatusCode::NO_CONTENT);
    }
    let Presented(token) = token.ok_or_else(Problem::token_required)?;
    let release = async move {
        let released = locks.release(&name, &token).await;
        if let Ok(live) = released {
            witness.released(&client, &name, &token, live);
        }
        released
    };
    gateway.to_its_end(release).await??;
    Ok(StatusCode::NO_CONTENT)
}

fn leased(grant: &Grant, service: Kind, status: StatusCode) -> Response {
    let token = grant.token.expose();
    let header = HeaderValue::from_str(&token).map(|mut value| {
        value.set_sensitive(true);
        value
    });
    let body = Leased {
        fence: grant.name.as_str(),
        token,
        epoch: grant.token.epoch.get(),
        sequence: grant.token.sequence.to_string(),
        ttl: humantime::format_duration(grant.term.ttl).to_string(),
        expires_in_ms: u64::try_from(grant.term.deadline.remaining().as_millis()).unwrap_or(u64::MAX),
        lock_service: service.as_str(),
    };
    let mut answer = (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response();
    if let Ok(header) = header {
        answer.headers_mut().insert(FENCING_TOKEN, header);
    }
    answer
}
