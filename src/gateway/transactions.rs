//! Transactions: several writes over several fences, all or none.

use std::{collections::BTreeMap, fmt, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Gateway, Problem,
    auth::{Client, Right},
    body::{self, Object},
    conditions,
    idempotency::{self, IdempotencyKey},
    media_type,
    openapi::{parameters, problems},
    query::NoQuery,
    records,
    token_header::{self, ShownToken},
};
use crate::{
    name::{FenceName, RecordKey},
    store::{Change, Operation, Transaction, Value, Written},
};

/// The most operations, and the most tokens.
const MOST: usize = 128;
const JSON: &str = "application/json";

pub(super) fn routes() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::new().routes(routes!(transact))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TransactionRequest)]
struct Asked {
    /// By fence. All are checked, also those that nothing is written to.
    #[serde(deserialize_with = "one_each")]
    tokens: BTreeMap<String, String>,
    /// Done in this order.
    #[schema(value_type = Vec<AskedOperation>, min_items = 1, max_items = 128)]
    operations: Vec<Object<AskedOperation>>,
}

#[derive(Deserialize, ToSchema, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Verb {
    Put,
    Delete,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Operation)]
struct AskedOperation {
    op: Verb,
    fence: String,
    key: String,
    /// Of a put: any JSON.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<serde_json::Value>)]
    value: Option<Box<RawValue>>,
    /// Of a put, instead of `value`: any bytes.
    value_base64: Option<String>,
    /// Of a put. Defaults to `application/json` for a `value`, and to `application/octet-stream`.
    content_type: Option<String>,
    /// A version, or `*`.
    if_match: Option<String>,
    /// `*`.
    if_none_match: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = TransactionDone)]
struct Done<'a> {
    results: Vec<DoneOperation<'a>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = OperationDone)]
struct DoneOperation<'a> {
    fence: &'a str,
    key: &'a str,
    /// None where nothing is left.
    version: Option<String>,
    existed: bool,
}

/// A fence that is named twice has two tokens, and it would be left to chance which of them counts.
fn one_each<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    deserializer.deserialize_map(OneEach)
}

struct OneEach;

impl<'de> Visitor<'de> for OneEach {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object of fences and their tokens")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut tokens = BTreeMap::new();
        while let Some((fence, token)) = map.next_entry::<String, String>()? {
            if tokens.insert(fence, token).is_some() {
                return Err(A::Error::custom("tokens has a fence twice"));
            }
        }
        Ok(tokens)
    }
}

/// `null` is a value, too.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

#[utoipa::path(
    post, path = "/v1/transactions", operation_id = "transact", tag = "records",
    summary = "Do several writes over several fences, all or none",
    params(parameters::IdempotencyKey),
    request_body = Asked,
    responses((status = 200, description = "All is done", body = Done<'static>), problems::Transact),
)]
async fn transact(
    State(gateway): State<Arc<Gateway>>,
    client: Client,
    NoQuery: NoQuery,
    idempotency: IdempotencyKey,
    body: Body,
) -> Result<Response, Problem> {
    let config = &gateway.config;
    let (bytes, room) = body::read(&gateway, body, config.max_transaction).await?;
    let (mut transaction, shown) = read(&bytes, config.max_value, &client)?;
    let mut refused = None;
    for (fence, shown) in &shown {
        let token = gateway.admissible(&client, fence, shown).await;
        transaction.tokens.insert(fence.clone(), token.mark);
        refused = refused.or(token.refused);
    }
    let transaction = Arc::new(transaction);
    let once = idempotency.once(&gateway, "POST", &["transactions"]);
    let answer = gateway
        .transact(&client, transaction.clone(), once, refused, room)
        .await?;
    Ok(idempotency::mark(
        done(&transaction.operations, &answer.written),
        answer.replayed,
    ))
}

fn done(operations: &[Operation], written: &[Written]) -> Response {
    let results = operations
        .iter()
        .zip(written)
        .map(|(operation, written)| DoneOperation {
            fence: operation.fence.as_str(),
            key: operation.key.as_str(),
            version: written.version.map(|version| version.to_string()),
            existed: written.existed,
        });
    let done = Done {
        results: results.collect(),
    };
    ([(header::CACHE_CONTROL, "no-store")], Json(done)).into_response()
}

/// The transaction without its tokens, and these.
fn read(
    bytes: &[u8],
    longest: usize,
    client: &Client,
) -> Result<(Transaction, BTreeMap<FenceName, ShownToken>), Problem> {
    let asked: Asked = body::json(bytes)?;
    if !(1..=MOST).contains(&asked.operations.len()) || asked.tokens.len() > MOST {
        return Err(Problem::body_malformed(format!(
            "a transaction has 1 to {MOST} operations, and at most {MOST} tokens"
        )));
    }
    let (mut transaction, mut shown) = (Transaction::default(), BTreeMap::new());
    for (fence, token) in &asked.tokens {
        let fence: FenceName = fence.parse().map_err(|error| Problem::name_malformed(&error))?;
        client.may(Right::Write, &fence)?;
        let token = token_header::parse(token).map_err(|problem| problem.on(&fence))?;
        shown.insert(fence, token);
    }
    for (place, Object(operation)) in asked.operations.into_iter().enumerate() {
        let fence = operation
            .fence
            .parse()
            .map_err(|error| Problem::name_malformed(&error))?;
        client.may(Right::Write, &fence)?;
        let key = operation
            .key
            .parse()
            .map_err(|error| Problem::name_malformed(&error))?;
        let read = operation.read(fence, key, longest);
        transaction
            .operations
            .push(read.map_err(|problem| problem.in_operation(place))?);
    }
    let fences = transaction.operations.iter().map(|operation| &operation.fence);
    match fences.filter(|fence| !shown.contains_key(fence)).min() {
        Some(fence) => Err(Problem::token_missing(fence)),
        None => Ok((transaction, shown)),
    }
}

impl AskedOperation {
    fn read(self, fence: FenceName, key: RecordKey, longest: usize) -> Result<Operation, Problem> {
        let condition = conditions::of_operation(self.if_match.as_deref(), self.if_none_match.as_deref())?;
        let change = match (self.op, self.value, self.value_base64, self.content_type) {
            (Verb::Delete, None, None, None) => Change::Delete,
            (Verb::Put, Some(json), None, content_type) => Change::Put(Value {
                bytes: json.get().as_bytes().to_vec(),
                content_type: content_type.unwrap_or_else(|| JSON.into()),
            }),
            (Verb::Put, None, Some(text), content_type) => Change::Put(Value {
                bytes: BASE64_STANDARD
                    .decode(text)
                    .map_err(|error| Problem::body_malformed(format!("value_base64: {error}")))?,
                content_type: content_type.unwrap_or_else(|| records::UNNAMED.into()),
            }),
            (Verb::Put, ..) => {
                return Err(Problem::body_malformed(
                    "a put has a value or a value_base64, and one of them",
                ));
            }
            (Verb::Delete, ..) => {
                return Err(Problem::body_malformed(
                    "a delete has no value and no content_type",
                ));
            }
        };
        if let Change::Put(value) = &change {
            if value.bytes.len() > longest {
                return Err(Problem::value_too_large(longest));
            }
            if !media_type::is_media_type(&value.content_type) {
                return Err(Problem::body_malformed(format!(
                    "content_type is one media type of at most {} bytes, as text/plain; charset=utf-8",
                    media_type::LONGEST
                )));
            }
        }
        Ok(Operation {
            fence,
            key,
            change,
            condition,
        })
    }
}
