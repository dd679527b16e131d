//! Several writes over several fences, all or none.

use std::{collections::BTreeMap, fmt};

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::{
    Client, ClientError, IdempotencyKey,
    request::{Repeat, with_key},
};
use crate::{
    name::{FenceName, RecordKey},
    store::{Condition, Value, Version},
    token::Token,
};

/// Up to 128 writes, each under the token of its fence.
///
/// ```
/// # use fencegate::{client::Transaction, store::{Condition, Value}};
/// # fn example(a: fencegate::Token, b: fencegate::Token) -> Result<(), Box<dyn std::error::Error>> {
/// let (stock, orders) = ("stock".parse()?, "orders".parse()?);
/// let order = Value { bytes: b"{\"chairs\":1}".to_vec(), content_type: "application/json".into() };
/// let transaction = Transaction::new()
///     .under(&stock, &a)
///     .under(&orders, &b)
///     .put(&orders, &"17".parse()?, order, Condition::Absent)
///     .delete(&stock, &"chair/4".parse()?, Condition::Present);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Transaction {
    tokens: BTreeMap<String, Token>,
    operations: Vec<Operation>,
}

#[derive(Clone, Serialize)]
struct Operation {
    op: &'static str,
    fence: String,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    if_match: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    if_none_match: Option<&'static str>,
}

#[derive(Serialize)]
struct Body<'a> {
    tokens: BTreeMap<&'a str, String>,
    operations: &'a [Operation],
}

#[derive(Deserialize)]
struct Results {
    results: Vec<Done>,
}

/// What came of one operation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Done {
    /// Its fence.
    pub fence: String,
    /// Its record.
    pub key: String,
    /// The record's version after it; `None` where nothing is left.
    pub version: Option<Version>,
    /// Whether there was a record before.
    pub existed: bool,
}

/// Without tokens and values.
impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Transaction({} tokens, {} operations)",
            self.tokens.len(),
            self.operations.len()
        )
    }
}

impl Transaction {
    /// One without operations.
    pub fn new() -> Self {
        Self::default()
    }

    /// Shows the token of a fence that operations write to.
    pub fn under(mut self, fence: &FenceName, token: &Token) -> Self {
        self.tokens.insert(fence.to_string(), token.clone());
        self
    }

    /// Stores a record.
    pub fn put(self, fence: &FenceName, key: &RecordKey, value: Value, condition: Condition) -> Self {
        self.operation("put", fence, key, Some(value), condition)
    }

    /// Deletes a record.
    pub fn delete(self, fence: &FenceName, key: &RecordKey, condition: Condition) -> Self {
        self.operation("delete", fence, key, None, condition)
    }

    fn operation(
        mut self,
        op: &'static str,
        fence: &FenceName,
        key: &RecordKey,
        value: Option<Value>,
        condition: Condition,
    ) -> Self {
        let (if_match, if_none_match) = match condition {
            Condition::Always => (None, None),
            Condition::Absent => (None, Some("*")),
            Condition::Present => (Some("*".to_owned()), None),
            Condition::Version(version) => (Some(version.to_string()), None),
        };
        let (value_base64, content_type) = match value {
            Some(value) => (
                Some(BASE64_STANDARD.encode(value.bytes)),
                Some(value.content_type),
            ),
            None => (None, None),
        };
        self.operations.push(Operation {
            op,
            fence: fence.to_string(),
            key: key.to_string(),
            value_base64,
            content_type,
            if_match,
            if_none_match,
        });
        self
    }
}

impl Client {
    /// Does all of it, or nothing. With a key it happens once, however often it is asked for.
    ///
    /// # Errors
    /// As [`Client::put`]; the problem names the fence, and its detail the operation.
    ///
    /// # Cancel safety
    /// The transaction may or may not happen.
    pub async fn transact(
        &self,
        transaction: &Transaction,
        once: Option<&IdempotencyKey>,
    ) -> Result<Vec<Done>, ClientError> {
        let tokens = &transaction.tokens;
        let body = Body {
            tokens: tokens
                .iter()
                .map(|(fence, token)| (fence.as_str(), token.expose()))
                .collect(),
            operations: &transaction.operations,
        };
        let request = self.request(Method::POST, "/v1/transactions").json(&body);
        let repeat = match once {
            Some(_) => Repeat::Safe,
            None => Repeat::Never,
        };
        let results: Results = self.ask(with_key(request, once), repeat).await?.json()?;
        Ok(results.results)
    }
}
