//! Records: reads, fenced reads, fenced writes.

use reqwest::{Method, RequestBuilder, header};
use serde::{Deserialize, Serialize};

use super::{
    Client, ClientError, Listing, WriteOptions, path,
    request::{Answer, Repeat, fenced, with_options},
};
use crate::{
    name::{FenceName, RecordKey},
    store::{Value, Version},
    token::Token,
};

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRecord {
    /// What it holds.
    pub value: Value,
    /// Which state this is.
    pub version: Version,
}

/// A record in a listing, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ListedRecord {
    /// Its key.
    pub key: String,
    /// Which state this is.
    pub version: Version,
    /// The value's media type.
    pub content_type: String,
    /// The value's bytes.
    pub length: u64,
    /// When it was written, as RFC 3339 has it.
    pub updated_at: Option<String>,
}

#[derive(Deserialize)]
struct WrittenBody {
    version: Version,
}

impl Client {
    /// Reads a record; `None` if there is none.
    ///
    /// # Errors
    /// When the gateway could not be asked, or could not reach the store.
    ///
    /// # Cancel safety
    /// Yes.
    pub async fn read(&self, fence: &FenceName, key: &RecordKey) -> Result<Option<ReadRecord>, ClientError> {
        self.read_by(self.request(Method::GET, &path::record(fence, key)))
            .await
    }

    /// Reads a record, if the token is still the fence's mark: nobody newer has written then.
    ///
    /// # Errors
    /// [`ClientError::is_fenced`] when it is not.
    ///
    /// # Cancel safety
    /// Yes.
    pub async fn read_under(
        &self,
        fence: &FenceName,
        token: &Token,
        key: &RecordKey,
    ) -> Result<Option<ReadRecord>, ClientError> {
        let request = self.request(Method::GET, &path::record(fence, key));
        self.read_by(fenced(request, token)).await
    }

    async fn read_by(&self, request: RequestBuilder) -> Result<Option<ReadRecord>, ClientError> {
        let answer = match self.ask(request, Repeat::Safe).await {
            Err(ClientError::Problem(problem)) if problem.name() == "record-not-found" => return Ok(None),
            answer => answer?,
        };
        let version = answer.header(header::ETAG)?.trim_matches('"').parse();
        let version = version.map_err(|_| ClientError::Unexpected("an ETag that is no version".into()))?;
        let content_type = answer.header(header::CONTENT_TYPE)?.to_owned();
        Ok(Some(ReadRecord {
            value: Value {
                bytes: answer.body,
                content_type,
            },
            version: Version(version),
        }))
    }

    /// The records of a fence whose keys begin with `prefix`, in byte order.
    pub fn records(&self, fence: &FenceName, prefix: &str) -> Listing<ListedRecord> {
        Listing::new(self.clone(), path::records(fence), "records", ("prefix", prefix))
    }

    /// Stores a record under a token.
    ///
    /// # Errors
    /// [`ClientError::is_fenced`] when the guard refuses the token, [`ClientError::Problem`] of kind
    /// `version-mismatch` when the condition does not hold, [`ClientError::is_outcome_unknown`] when it cannot be
    /// told whether it has happened.
    ///
    /// # Cancel safety
    /// The write may or may not happen.
    pub async fn put(
        &self,
        fence: &FenceName,
        token: &Token,
        key: &RecordKey,
        value: Value,
        options: impl Into<WriteOptions>,
    ) -> Result<Version, ClientError> {
        let request = self
            .request(Method::PUT, &path::record(fence, key))
            .header(header::CONTENT_TYPE, value.content_type)
            .body(value.bytes);
        stored(&self.write(request, token, &options.into()).await?)
    }

    /// Applies a JSON merge patch (RFC 7396) to a record under a token.
    ///
    /// # Errors
    /// As [`Client::put`]; also [`ClientError::Problem`] of kind `record-not-found` and `record-not-json`.
    ///
    /// # Cancel safety
    /// The write may or may not happen.
    pub async fn patch(
        &self,
        fence: &FenceName,
        token: &Token,
        key: &RecordKey,
        patch: &serde_json::Value,
        options: impl Into<WriteOptions>,
    ) -> Result<Version, ClientError> {
        let request = self
            .request(Method::PATCH, &path::record(fence, key))
            .header(header::CONTENT_TYPE, "application/merge-patch+json")
            .body(patch.to_string());
        stored(&self.write(request, token, &options.into()).await?)
    }

    /// Deletes a record under a token. Without a condition it does not matter whether it is there.
    ///
    /// # Errors
    /// As [`Client::put`].
    ///
    /// # Cancel safety
    /// The write may or may not happen.
    pub async fn delete(
        &self,
        fence: &FenceName,
        token: &Token,
        key: &RecordKey,
        options: impl Into<WriteOptions>,
    ) -> Result<(), ClientError> {
        let request = self.request(Method::DELETE, &path::record(fence, key));
        self.write(request, token, &options.into()).await.map(drop)
    }

    async fn write(
        &self,
        request: RequestBuilder,
        token: &Token,
        options: &WriteOptions,
    ) -> Result<Answer, ClientError> {
        let request = with_options(fenced(request, token), options);
        self.ask(request, options.into()).await
    }
}

fn stored(answer: &Answer) -> Result<Version, ClientError> {
    Ok(answer.json::<WrittenBody>()?.version)
}
