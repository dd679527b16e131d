//! Listings, a page at a time.

use std::{collections::VecDeque, marker::PhantomData};

use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Client, ClientError, path, request::Repeat};

/// How many entries a page has.
const PAGE: &str = "1000";

/// Goes through a listing. What stays there meanwhile is listed exactly once.
#[derive(Debug)]
pub struct Listing<T> {
    client: Client,
    path: String,
    /// What the entries are called in the answers.
    entries: &'static str,
    /// A parameter that says which.
    which: (&'static str, String),
    page: VecDeque<Value>,
    /// Where the next page begins; `None` behind the last one.
    next: Option<String>,
    of: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Listing<T> {
    pub(super) fn new(
        client: Client,
        path: String,
        entries: &'static str,
        which: (&'static str, &str),
    ) -> Self {
        Self {
            client,
            path,
            entries,
            which: (which.0, which.1.to_owned()),
            page: VecDeque::new(),
            next: Some(String::new()),
            of: PhantomData,
        }
    }

    /// Begins after this name, key or id, where an earlier listing ended.
    pub fn after(mut self, last: &str) -> Self {
        self.next = Some(last.to_owned());
        self
    }

    /// The next entry; `None` behind the last one.
    ///
    /// # Errors
    /// When the gateway could not be asked, or could not reach the store. Asking again goes on there.
    ///
    /// # Cancel safety
    /// Yes.
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        while self.page.is_empty() {
            let Some(after) = &self.next else { return Ok(None) };
            let parameters = [
                (self.which.0, Some(self.which.1.as_str())),
                ("after", Some(after.as_str())),
                ("limit", Some(PAGE)),
            ];
            let request = self
                .client
                .request(Method::GET, &path::query(&self.path, &parameters));
            let mut answer: Value = self.client.ask(request, Repeat::Safe).await?.json()?;
            let Value::Array(entries) = answer[self.entries].take() else {
                return Err(ClientError::Unexpected(format!(
                    "no {} in a listing",
                    self.entries
                )));
            };
            self.next = answer["next"].as_str().map(str::to_owned);
            self.page = entries.into();
        }
        let entry = self.page.pop_front().unwrap_or_default();
        serde_json::from_value(entry)
            .map(Some)
            .map_err(|error| ClientError::Unexpected(error.to_string()))
    }

    /// All that are left, in memory.
    ///
    /// # Errors
    /// As [`Listing::next`].
    ///
    /// # Cancel safety
    /// Yes.
    pub async fn all(mut self) -> Result<Vec<T>, ClientError> {
        let mut all = Vec::new();
        while let Some(entry) = self.next().await? {
            all.push(entry);
        }
        Ok(all)
    }
}
