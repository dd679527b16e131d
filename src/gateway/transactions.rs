//! Transactions: several writes over several fences, all or none.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
    routing::post,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::{
    Gateway, Problem,
    auth::{Client, Right},
    body, conditions,
    idempotency::{self, IdempotencyKey},
    records, token_header,
};
use crate::{
    name::{FenceName, RecordKey},
    store::{Change, Operation, Transaction, Value, Written},
};

/// The most operations, and the most tokens.
const MOST: usize = 128;
const JSON: &str = "application/json";

pub(super) fn routes() -> Router<Arc<Gateway>> {
    Router::new().route("/v1/transactions", post(transact))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    tokens: BTreeMap<String, String>,
    operations: Vec<AskedOperation>,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Verb {
    Put,
    Delete,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedOperation {
    op: Verb,
    fence: String,
    key: String,
    #[serde(default, deserialize_with = "present")]
    value: Option<Box<RawValue>>,
    value_base64: Option<String>,
    content_type: Option<String>,
    if_match: Option<String>,
    if_none_match: Option<String>,
}

#[derive(Serialize)]
struct Done<'a> {
    results: Vec<DoneOperation<'a>>,
}

#[derive(Serialize)]
struct DoneOperation<'a> {
    fence: &'a str,
    key: &'a str,
    /// None where nothing is left.
    version: Option<String>,
    existed: bool,
}

/// `null` is a value, too.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

async fn transact(
    State(gateway): State<Arc<Gateway>>,
    client: Client,
    idempotency: IdempotencyKey,
    body: Body,
) -> Result<Response, Problem> {
    let config = &gateway.config;
    let bytes = body::read(body, config.max_transaction, config.body_timeout).await?;
    let transaction = Arc::new(read(&bytes, config.max_value, &client)?);
    let once = idempotency.once(&gateway, "POST", &["transactions"]);
    let answer = gateway.transact(&client, transaction.clone(), once).await?;
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

fn read(bytes: &[u8], longest: usize, client: &Client) -> Result<Transaction, Problem> {
    let asked: Asked =
        serde_json::from_slice(bytes).map_err(|error| Problem::body_malformed(error.to_string()))?;
    if !(1..=MOST).contains(&asked.operations.len()) || asked.tokens.len() > MOST {
        return Err(Problem::body_malformed(format!(
            "a transaction has 1 to {MOST} operations, and at most {MOST} tokens"
        )));
    }
    let mut transaction = Transaction::default();
    for (fence, token) in &asked.tokens {
        let fence: FenceName = fence.parse().map_err(|error| Problem::name_malformed(&error))?;
        client.may(Right::Write, &fence)?;
        let token = token_header::parse(token).map_err(|problem| problem.on(&fence))?;
        transaction.tokens.insert(fence, token.mark());
    }
    for (place, operation) in asked.operations.into_iter().enumerate() {
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
    match transaction.without_token().first() {
        Some(fence) => Err(Problem::token_required().on(fence)),
        None => Ok(transaction),
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
            if !records::is_content_type(&value.content_type) {
                return Err(Problem::body_malformed(
                    "content_type is a media type of visible ASCII",
                ));
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
