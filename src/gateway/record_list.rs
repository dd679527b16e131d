//! Which records a fence has.
//!
//! Pages go on from the last key that was shown, not from a count, so a record that stays is listed exactly once
//! whatever is made or deleted meanwhile.

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
    auth::{Client, ToRead},
    fences,
    openapi::{parameters, problems},
    paging,
    query::Asking,
    token_header::ShownToken,
};
use crate::name::RecordKey;

pub(super) fn routes() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::new().routes(routes!(list))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Asked {
    /// What their keys begin with.
    #[serde(default)]
    #[param(max_length = 1024, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    prefix: String,
    /// The `next` of the page before.
    #[serde(default)]
    #[param(max_length = 1024, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    after: String,
    /// How many, at most. Defaults to 100.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = RecordInList)]
struct Shown {
    key: String,
    version: String,
    content_type: String,
    length: u64,
    updated_at: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Records)]
struct Page<'a> {
    fence: &'a str,
    records: Vec<Shown>,
    /// The `after` of the next page; none on the last one.
    next: Option<String>,
}

/// With a token, the listing is fenced, as a read is.
#[utoipa::path(
    get, path = "/v1/fences/{fence}/records", operation_id = "listRecords", tag = "records",
    summary = "List a fence's records",
    description = "In byte order. A record that stays is listed exactly once, whatever is made or deleted meanwhile.",
    params(parameters::Fence, parameters::AnyToken, Asked),
    responses((status = 200, description = "A page", body = Page<'static>), problems::List),
)]
async fn list(
    State(gateway): State<Arc<Gateway>>,
    client: Client,
    ToRead(fence): ToRead,
    shown: Option<ShownToken>,
    asked: Result<Asking<Asked>, Problem>,
) -> Result<Response, Problem> {
    let Asking(asked) = asked?;
    let limit = paging::limit(asked.limit.as_deref())?;
    for text in [&asked.prefix, &asked.after] {
        if text.len() > RecordKey::LONGEST || text.chars().any(char::is_control) {
            return Err(Problem::query_malformed(
                "no record key is like prefix, or like after",
            ));
        }
    }
    let store = gateway.locks.store();
    // One more than is shown, to know whether there is a next page.
    let mut records = gateway
        .read(store.records(&fence, &asked.prefix, &asked.after, limit + 1))
        .await?;
    if let Some(shown) = shown {
        fences::admit(&gateway, &client, &fence, &shown).await?;
    }
    let more = paging::cut(&mut records, limit);
    let page = Page {
        fence: fence.as_str(),
        next: records.last().filter(|_| more).map(|last| last.key.to_string()),
        records: records
            .into_iter()
            .map(|record| Shown {
                key: record.key.to_string(),
                version: record.version.to_string(),
                content_type: record.content_type,
                length: record.length,
                updated_at: record.updated_at.format(&Rfc3339).ok(),
            })
            .collect(),
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(page)).into_response())
}
