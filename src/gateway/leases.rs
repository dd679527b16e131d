//! Leases: acquire, renew, release.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Gateway, Problem, advertised,
    auth::{Client, Right, ToLease},
    body,
    openapi::{parameters, problems},
    path::Fence,
    query::{Asking, NoQuery},
    token_header::{FENCING_TOKEN, Presented},
};
use crate::{
    grant::{Grant, GrantError, Options},
    lock::{Kind, LockError},
    token::Holder,
};

pub(super) fn routes() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::new().routes(routes!(acquire, renew, release))
}

/// What an acquisition may ask for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LeaseRequest)]
struct Asked {
    /// How long the lease outlives its last renewal: 100ms to 24h. Defaults to 10s.
    #[serde(default, deserialize_with = "body::duration")]
    #[schema(value_type = Option<String>, example = "10s")]
    ttl: Option<Duration>,
    /// How long to wait while others hold the fence. Defaults to 0s: try once.
    #[serde(default, deserialize_with = "body::duration")]
    #[schema(value_type = Option<String>, example = "30s")]
    wait: Option<Duration>,
    /// For people who ask who holds the fence.
    #[schema(max_length = 200, example = "worker-7")]
    label: Option<String>,
    /// Random, chosen by a client that wants to ask again when the answer is lost: it then gets the same lease.
    #[serde(default, deserialize_with = "holder")]
    #[schema(value_type = Option<String>, pattern = "^[0-9a-f]{32}$")]
    holder: Option<Holder>,
}

/// A renewal asks for nothing: the lease keeps its ttl.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RenewalRequest)]
struct AskedAgain {}

/// By force: whoever holds it, without its token.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AskedToEnd {
    /// End whoever's lease, for operators.
    #[serde(default)]
    force: bool,
}

/// A lease, as its holder sees it.
#[derive(Serialize, ToSchema)]
#[schema(as = Lease)]
struct Leased<'a> {
    fence: &'a str,
    /// What to show with every write, renewal and release. Whoever has it may write.
    #[schema(example = "1-1042-9f86d081884c7d659a2feaa0c55ad015")]
    token: String,
    epoch: i64,
    sequence: String,
    /// What the lock service granted, which may be longer than what was asked for.
    #[schema(example = "10s")]
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
#[utoipa::path(
    post, path = "/v1/fences/{fence}/lease", operation_id = "acquireLease", tag = "leases",
    summary = "Acquire a lease", description = "Waits for its turn, for as long as it is asked to.",
    params(parameters::Fence),
    request_body(content = Option<Asked>, description = "No body stands for an empty one."),
    responses(
        (status = 201, description = "The lease is granted, and its token sealed", body = Leased<'static>,
         headers(("Fencing-Token" = String, description = "The token")),
         links(
            ("renew" = (operation_id = "renewLease",
                parameters(("path.fence" = "$request.path.fence"), ("header.Fencing-Token" = "$response.body#/token")))),
            ("release" = (operation_id = "releaseLease",
                parameters(("path.fence" = "$request.path.fence"), ("header.Fencing-Token" = "$response.body#/token")))),
            ("check" = (operation_id = "checkToken",
                parameters(("path.fence" = "$request.path.fence"), ("header.Fencing-Token" = "$response.body#/token")))),
            ("put" = (operation_id = "putRecord",
                parameters(("path.fence" = "$request.path.fence"), ("header.Fencing-Token" = "$response.body#/token")))),
            ("patch" = (operation_id = "patchRecord",
                parameters(("path.fence" = "$request.path.fence"), ("header.Fencing-Token" = "$response.body#/token")))),
            ("delete" = (operation_id = "deleteRecord",
                parameters(("path.fence" = "$request.path.fence"), ("header.Fencing-Token" = "$response.body#/token"))))
         )),
        (status = 307, description = "The holder has it already, from another gateway: send the same there",
         headers(("Location" = String, description = "The same call, at that gateway"))),
        problems::Acquire
    ),
)]
async fn acquire(
    State(gateway): State<Arc<Gateway>>,
    client: Client,
    ToLease(name): ToLease,
    NoQuery: NoQuery,
    body: Body,
) -> Result<Response, Problem> {
    let config = &gateway.config;
    let (bytes, room) = body::read(&gateway, body, config.max_json).await?;
    let asked: Asked = body::json(&bytes)?;
    drop((bytes, room));
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
        Ok(Err(GrantError::Lock(LockError::Elsewhere {
            gateway: Some(keeper),
        }))) => advertised::redirect(&keeper, &name),
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

#[utoipa::path(
    put, path = "/v1/fences/{fence}/lease", operation_id = "renewLease", tag = "leases",
    summary = "Renew a lease",
    description = "It lasts another ttl from now on. One that is over is never taken back: acquire again.",
    params(parameters::Fence, parameters::Token),
    request_body(content = Option<AskedAgain>, description = "Nothing, or an empty object."),
    responses((status = 200, description = "It lasts on", body = Leased<'static>,
               headers(("Fencing-Token" = String, description = "The token"))),
              (status = 307, description = "Another gateway granted it, and only that one renews it: send the same there",
               headers(("Location" = String, description = "The same call, at that gateway"))),
              problems::Renew),
)]
async fn renew(
    State(gateway): State<Arc<Gateway>>,
    client: Client,
    ToLease(name): ToLease,
    NoQuery: NoQuery,
    Presented(token): Presented,
    body: Body,
) -> Result<Response, Problem> {
    let config = &gateway.config;
    let (bytes, room) = body::read(&gateway, body, config.max_json).await?;
    let AskedAgain {} = body::json(&bytes)?;
    drop((bytes, room));
    match tokio::time::timeout(config.lease_timeout, gateway.locks.renew(&name, &token)).await {
        Ok(Err(GrantError::Lock(LockError::Elsewhere {
            gateway: Some(keeper),
        }))) => advertised::redirect(&keeper, &name),
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
#[utoipa::path(
    delete, path = "/v1/fences/{fence}/lease", operation_id = "releaseLease", tag = "leases",
    summary = "Release a lease", description = "Its token is dead from here on. Nothing happens where it is already.",
    params(parameters::Fence, parameters::TokenUnlessForced, AskedToEnd),
    responses((status = 204, description = "It is over"), problems::Release),
)]
async fn release(
    State(gateway): State<Arc<Gateway>>,
    client: Client,
    Fence(name): Fence,
    asked: Result<Asking<AskedToEnd>, Problem>,
    token: Result<Option<Presented>, Problem>,
) -> Result<StatusCode, Problem> {
    let Asking(asked) = asked?;
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
    match gateway.to_its_end(release).await? {
        Ok(_) => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err(Problem::not_released(error)),
    }
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
