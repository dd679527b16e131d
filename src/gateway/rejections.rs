//! Who was refused, when, with which token, and how late.

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
    auth::{Client, Right},
    openapi::problems,
    paging,
    query::Asking,
};
use crate::{name::FenceName, rejections::Rejection};

pub(super) fn routes() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::new().routes(routes!(list))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Asked {
    /// Only those of this fence.
    #[param(min_length = 1, max_length = 200)]
    fence: Option<String>,
    /// The `next` of the page before.
    #[param(pattern = "^[1-9][0-9]{0,17}$")]
    after: Option<String>,
    /// How many, at most. Defaults to 100.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
}

/// One row: refusals of one token on one fence within about a second.
#[derive(Serialize, ToSchema)]
#[schema(as = Rejection)]
struct Shown {
    id: String,
    /// When the last of them was.
    at: Option<String>,
    fence: String,
    reason: String,
    presented: Option<String>,
    mark: Option<String>,
    /// How long after the mark was sealed.
    late_ms: Option<u64>,
    /// `gateway`, `guard` or `report`.
    source: String,
    who: String,
    /// The protected table, in report mode.
    table: Option<String>,
    /// How many refusals this row stands for.
    count: i64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Rejections)]
struct Page {
    rejections: Vec<Shown>,
    /// The `after` of the next page; none on the last one.
    next: Option<String>,
}

/// Newest first. Whoever may read a fence may see who was refused on it.
#[utoipa::path(
    get, path = "/v1/rejections", operation_id = "listRejections", tag = "watching",
    summary = "Who was refused, when, with which token, and how late",
    description = "Newest first. One row stands for the refusals of one token on one fence within about a second. \
                   Without `fence` it is for those who have the right `admin` on all.",
    params(Asked),
    responses((status = 200, description = "A page", body = Page), problems::Rejections),
)]
async fn list(
    State(gateway): State<Arc<Gateway>>,
    client: Client,
    asked: Result<Asking<Asked>, Problem>,
) -> Result<Response, Problem> {
    let Asking(asked) = asked?;
    let limit = paging::limit(asked.limit.as_deref())?;
    let fence: Option<FenceName> = asked
        .fence
        .map(|fence| fence.parse())
        .transpose()
        .map_err(|error| Problem::name_malformed(&error))?;
    match &fence {
        Some(fence) => client.may(Right::Read, fence)?,
        None => client.may_everywhere(Right::Admin)?,
    }
    let before = asked.after.as_deref().map(id).transpose()?;
    // One more than is shown, to know whether there is a next page.
    let reading = gateway
        .locks
        .store()
        .rejections(fence.as_ref(), before, limit + 1);
    let mut rows = gateway.read(reading).await?;
    let more = paging::cut(&mut rows, limit);
    let page = Page {
        next: rows.last().filter(|_| more).map(|last| last.id.to_string()),
        rejections: rows.into_iter().map(Shown::from).collect(),
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(page)).into_response())
}

/// The `id` of the last row that was shown.
fn id(text: &str) -> Result<i64, Problem> {
    let id = text.parse().ok().filter(|id| *id > 0);
    id.filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
        .ok_or_else(|| Problem::query_malformed("after is the next of the page before"))
}

impl From<Rejection> for Shown {
    fn from(row: Rejection) -> Self {
        Self {
            id: row.id.to_string(),
            at: row.at.format(&Rfc3339).ok(),
            fence: row.fence,
            reason: row.reason,
            presented: row.presented,
            mark: row.mark,
            late_ms: row
                .late
                .map(|late| u64::try_from(late.as_millis()).unwrap_or(u64::MAX)),
            source: row.source,
            who: row.who,
            table: row.relation,
            count: row.count,
        }
    }
}
