//! Health: whether the process lives, and whether it can do its work. A gateway that raises the epoch by itself can, also
//! where that has to be done first: the next grant does it, and none would come to a gateway that is not ready.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Gateway,
    auth::{Client, Right},
    metrics::METRICS,
    openapi::problems,
};
use crate::{grant::Locks, lock::Identity};

pub(super) const LIVEZ: &str = "/livez";
pub(super) const READYZ: &str = "/readyz";

pub(super) fn routes() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::new().routes(routes!(live)).routes(routes!(ready))
}

/// Whether a route is asked by machines, every few seconds.
pub(super) fn is_probe(route: &str) -> bool {
    [LIVEZ, READYZ, METRICS].contains(&route)
}

#[derive(Serialize, ToSchema)]
struct Live {
    status: &'static str,
}

#[derive(Serialize, ToSchema)]
struct Ready {
    /// `ready`, `not-ready` or `draining`.
    status: &'static str,
    /// For clients with the right `admin` on all fences: it names servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<Part>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lock_service: Option<Part>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ReadyPart)]
struct Part {
    name: String,
    /// `ok` or `unusable`.
    status: &'static str,
    /// What is wrong with it, and what to do: out of reach, not migrated, quarantined, or of another history than the epoch's.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl Part {
    fn new(name: String, asked: &Result<(), String>) -> Self {
        Self {
            name,
            status: if asked.is_ok() { "ok" } else { "unusable" },
            problem: asked.clone().err(),
        }
    }
}

#[utoipa::path(
    get, path = "/livez", operation_id = "live", tag = "watching", summary = "Does the process live?",
    responses((status = 200, description = "It does", body = Live), problems::Live),
)]
async fn live() -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(Live { status: "ok" })).into_response()
}

#[utoipa::path(
    get, path = "/readyz", operation_id = "ready", tag = "watching", summary = "Can it do its work?",
    responses((status = 200, description = "It can", body = Ready),
              (status = 503, description = "It cannot: a server is out of reach, the store is quarantined or the lock service \
                is another one, and the epoch is not raised by itself; or it is stopping", body = Ready), problems::Ready),
)]
async fn ready(State(gateway): State<Arc<Gateway>>, client: Client) -> Response {
    let (locks, limit) = (&gateway.locks, gateway.config.probe_timeout);
    let (store, lock_service) = tokio::join!(
        in_time(limit, store_is_usable(locks)),
        lock_service_is_usable(locks, limit)
    );
    let status = if gateway.draining.is_cancelled() {
        "draining"
    } else if store.is_ok() && lock_service.is_ok() {
        "ready"
    } else {
        "not-ready"
    };
    let shown = client.has_everywhere(Right::Admin);
    let body = Ready {
        status,
        store: shown.then(|| Part::new(locks.store().describe(), &store)),
        lock_service: shown.then(|| Part::new(locks.service().kind().to_string(), &lock_service)),
    };
    let code = match status {
        "ready" => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// Whether the store answers, has its schema, and has all marks as far as it can know.
async fn store_is_usable(locks: &Locks) -> Result<(), String> {
    let store = locks.store();
    store.check().await.map_err(|error| error.to_string())?;
    match store.quarantine().await.map_err(|error| error.to_string())? {
        Some(why) if !locks.rebases_by_itself() => Err(format!(
            "{why}: leases and writes are refused until the operator runs fencegate rebase --reason TEXT"
        )),
        _ => Ok(()),
    }
}

/// Whether the lock service answers, and with the history that the epoch is bound to.
async fn lock_service_is_usable(locks: &Locks, limit: Duration) -> Result<(), String> {
    // Each has the time to itself: a store that does not answer is no fault of the lock service's.
    let (found, bound) = tokio::join!(
        in_time(limit, async {
            locks
                .service()
                .identity()
                .await
                .map_err(|error| error.to_string())
        }),
        in_time(limit, async {
            locks.store().epoch().await.map_err(|error| error.to_string())
        })
    );
    let (found, bound) = (found?, bound.ok().and_then(|state| state.bound));
    match bound {
        Some(bound) if bound != found && !locks.rebases_by_itself() => Err(other_history(&bound, &found)),
        _ => Ok(()),
    }
}

fn other_history(bound: &Identity, found: &Identity) -> String {
    format!("the epoch belongs to {bound}, and this is {found}: it gives no leases until the epoch is raised")
}

async fn in_time<T>(limit: Duration, asked: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let late = || Err(format!("no answer in {}", humantime::format_duration(limit)));
    tokio::time::timeout(limit, asked)
        .await
        .unwrap_or_else(|_| late())
}
