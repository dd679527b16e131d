//! Fences: what is remembered of each, who holds it, and whether a token may act.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use time::format_description::well_known::Rfc3339;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Gateway, Problem,
    auth::{Client, Fences, Right, ToRead},
    openapi::{parameters, problems},
    paging,
    path::Fence,
    query::{Asking, NoQuery},
    token_header::ShownToken,
};
use crate::{
    guard::{self, GuardError},
    lock::LockState,
    name::FenceName,
    store::{FenceState, StoreError},
    token::Mark,
};

pub(super) fn routes() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(check))
}

#[derive(Serialize, ToSchema)]
#[schema(as = FenceInList)]
struct Listed {
    fence: String,
    mark: String,
    epoch: i64,
    sequence: String,
    sealed_at: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Fences)]
struct Page {
    fences: Vec<Listed>,
    /// The `after` of the next page; none on the last one.
    next: Option<String>,
}

/// What the store remembers, and what the lock service sees. The mark is null for a fence that was never sealed.
#[derive(Serialize, ToSchema)]
#[schema(as = Fence)]
struct Shown<'a> {
    fence: &'a str,
    mark: Option<String>,
    epoch: Option<i64>,
    sequence: Option<String>,
    sealed_at: Option<String>,
    lock_service: &'static str,
    /// Whether the lock service could be asked for the rest.
    lock_service_answers: bool,
    holder: Option<ShownHolder>,
    waiting: Option<u64>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Holder)]
struct ShownHolder {
    sequence: String,
    label: String,
    expires_in_ms: u64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Checked)]
struct Checked<'a> {
    fence: &'a str,
    mark: String,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Asked {
    /// What their names begin with.
    #[serde(default)]
    #[param(max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    prefix: String,
    /// The `next` of the page before.
    #[serde(default)]
    #[param(max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    after: String,
    /// How many, at most. Defaults to 100.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
}

#[utoipa::path(
    get, path = "/v1/fences", operation_id = "listFences", tag = "fences",
    summary = "List fences", description = "Those that were ever granted, in byte order.",
    params(Asked),
    responses((status = 200, description = "A page", body = Page), problems::ListFences),
)]
async fn list(
    State(gateway): State<Arc<Gateway>>,
    client: Client,
    asked: Result<Asking<Asked>, Problem>,
) -> Result<Response, Problem> {
    let Asking(asked) = asked?;
    let limit = paging::limit(asked.limit.as_deref())?;
    for text in [&asked.prefix, &asked.after] {
        if text.len() > FenceName::LONGEST || text.chars().any(char::is_control) {
            return Err(Problem::query_malformed(
                "no fence name is like prefix, or like after",
            ));
        }
    }
    // One more than is shown, to know whether there is a next page.
    let mut fences = gateway
        .read(readable(&gateway, &client, &asked, limit + 1))
        .await?;
    let more = paging::cut(&mut fences, limit);
    let page = Page {
        next: fences.last().filter(|_| more).map(|last| last.name.to_string()),
        fences: fences.iter().map(Listed::from).collect(),
    };
    Ok(uncached(page))
}

/// Up to so many of the fences that are asked for, of those that the client may read. Others are not looked at, so a
/// page takes no longer for their number.
async fn readable(
    gateway: &Gateway,
    client: &Client,
    asked: &Asked,
    most: u32,
) -> Result<Vec<FenceState>, StoreError> {
    let store = gateway.locks.store();
    let mut found = Vec::new();
    for part in client.fences(Right::Read, &asked.prefix) {
        let missing = most.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
        match part {
            _ if missing == 0 => break,
            Fences::Beginning(prefix) => found.extend(store.fences(&prefix, &asked.after, missing).await?),
            Fences::Named(name) if name.as_str() > asked.after.as_str() => {
                found.extend(store.fence(&name).await?)
            }
            Fences::Named(_) => {}
        }
    }
    Ok(found)
}

impl From<&FenceState> for Listed {
    fn from(state: &FenceState) -> Self {
        Self {
            fence: state.name.to_string(),
            mark: state.mark.to_string(),
            epoch: state.mark.epoch.get(),
            sequence: state.mark.sequence.to_string(),
            sealed_at: sealed_at(state),
        }
    }
}

#[utoipa::path(
    get, path = "/v1/fences/{fence}", operation_id = "showFence", tag = "fences",
    summary = "Show a fence", description = "Its mark, and who holds its lock for how long.",
    params(parameters::Fence),
    responses((status = 200, description = "The fence", body = Shown<'static>), problems::ShowFence),
)]
async fn show(
    State(gateway): State<Arc<Gateway>>,
    ToRead(name): ToRead,
    NoQuery: NoQuery,
) -> Result<Response, Problem> {
    let service = gateway.locks.service();
    let inspected = tokio::time::timeout(gateway.config.probe_timeout, service.inspect(&name));
    let (state, inspected) = tokio::join!(gateway.read(gateway.locks.store().fence(&name)), inspected);
    let (state, inspected) = (state?, inspected.ok().and_then(Result::ok));
    let lock_service_answers = inspected.is_some();
    let LockState { holder, waiting } = inspected.unwrap_or_default();
    if state.is_none() && holder.is_none() && lock_service_answers {
        return Err(Problem::fence_not_found());
    }
    Ok(uncached(Shown {
        fence: name.as_str(),
        mark: state.as_ref().map(|state| state.mark.to_string()),
        epoch: state.as_ref().map(|state| state.mark.epoch.get()),
        sequence: state.as_ref().map(|state| state.mark.sequence.to_string()),
        sealed_at: state.as_ref().and_then(sealed_at),
        lock_service: service.kind().as_str(),
        lock_service_answers,
        holder: holder.map(|holder| ShownHolder {
            sequence: holder.sequence.to_string(),
            label: holder.label,
            expires_in_ms: u64::try_from(holder.expires_in.as_millis()).unwrap_or(u64::MAX),
        }),
        waiting,
    }))
}

/// May this token act now? For resources that live elsewhere. The answer is already old when it arrives: a newer
/// holder may have been granted the fence meanwhile. Whoever may read may ask, and whoever may write, who learns as
/// much from a write; with a bare sequence only who may write.
#[utoipa::path(
    post, path = "/v1/fences/{fence}/check", operation_id = "checkToken", tag = "fences",
    summary = "May this token act now?",
    description = "For resources that live elsewhere. The answer is already old when it arrives: a newer holder may have \
                   been granted the fence meanwhile.",
    params(parameters::Fence, parameters::Token),
    responses((status = 200, description = "It is the mark", body = Checked<'static>), problems::Check),
)]
async fn check(
    State(gateway): State<Arc<Gateway>>,
    client: Client,
    Fence(name): Fence,
    query: Result<NoQuery, Problem>,
    shown: Result<ShownToken, Problem>,
) -> Result<Response, Problem> {
    client.may_any(&[Right::Read, Right::Write], &name)?;
    query?;
    let mark = admit(&gateway, &client, &name, &shown?).await?;
    Ok(uncached(Checked {
        fence: name.as_str(),
        mark: mark.to_string(),
    }))
}

/// Refuses a token that is not the fence's mark.
pub(super) async fn admit(
    gateway: &Gateway,
    client: &Client,
    name: &FenceName,
    shown: &ShownToken,
) -> Result<Mark, Problem> {
    // The first time, a bare sequence raises the mark: no right to read is one to do that.
    if matches!(shown, ShownToken::Foreign(_)) {
        client.may(Right::Write, name)?;
    }
    let token = gateway.admissible(client, name, shown).await;
    if let Some(refused) = token.refused {
        return Err(gateway.told(client, refused));
    }
    let store = gateway.locks.store();
    // A store that is quarantined names no epoch: its mark says nothing of who may act.
    let reading = async { tokio::try_join!(store.fence(name), store.epoch()) };
    let (state, _) = gateway.read(reading).await?;
    match guard::check(name, state.map(|state| state.mark), &token.mark) {
        Ok(()) => Ok(token.mark),
        Err(GuardError::Refused(refusal)) => {
            gateway.witness.refused(client, &refusal);
            Err(Problem::refused(&refusal))
        }
        Err(error) => Err(Problem::internal(error)),
    }
}

fn sealed_at(state: &FenceState) -> Option<String> {
    state.sealed_at.format(&Rfc3339).ok()
}

fn uncached(body: impl Serialize) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}
