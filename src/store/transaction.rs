//! Transactions: several changes under several tokens, all or none.
//!
//! What they come to is computed here, for all stores, from the records as they were found under lock: a store
//! then writes down how each record ends.

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, Condition, Done, MergeError, StoreError, Value, Version, Write, Written};
use crate::{
    name::{FenceName, RecordKey},
    token::Mark,
};

/// Several writes, each under the token of its fence, all or none.
#[derive(Debug, Clone, Default)]
pub struct Transaction {
    /// The token that the writer shows for each fence. All are checked, also those without an operation.
    pub tokens: BTreeMap<FenceName, Mark>,
    /// What is to be done, in this order. One record may occur several times.
    pub operations: Vec<Operation>,
}

/// One of the writes of a transaction.
#[derive(Debug, Clone)]
pub struct Operation {
    /// The fence that guards the record.
    pub fence: FenceName,
    /// The record.
    pub key: RecordKey,
    /// What is to be done to it.
    pub change: Change,
    /// Under which condition, looked at after the operations before this one.
    pub condition: Condition,
}

impl From<Write> for Transaction {
    fn from(write: Write) -> Self {
        Self {
            tokens: [(write.fence.clone(), write.token)].into(),
            operations: vec![Operation {
                fence: write.fence,
                key: write.key,
                change: write.change,
                condition: write.condition,
            }],
        }
    }
}

/// The record of an operation.
pub(crate) type Place = (FenceName, RecordKey);

/// A record as a transaction finds it, or leaves it.
#[derive(Debug, Default, Clone)]
pub(crate) struct State {
    /// `None` for a record that is not there.
    pub(crate) version: Option<Version>,
    /// The value. Of a record that is found, only where [`Transaction::reads`] says so.
    pub(crate) value: Option<Value>,
}

impl Transaction {
    /// The records, in byte order of fence and key, and each with whether its value is needed.
    pub(crate) fn reads(&self) -> BTreeMap<Place, bool> {
        let mut records = BTreeMap::new();
        for operation in &self.operations {
            let reads = records.entry(operation.place()).or_insert(false);
            *reads |= matches!(operation.change, Change::Merge(_));
        }
        records
    }

    /// How many versions it needs at most.
    pub(crate) fn versions(&self) -> usize {
        let deletes = |operation: &&Operation| operation.change == Change::Delete;
        self.operations.len() - self.operations.iter().filter(deletes).count()
    }

    /// Does all operations to `records`, which are those of [`Transaction::reads`], and answers for each.
    ///
    /// # Errors
    /// [`StoreError::Operation`] for the first one that cannot be done.
    pub(crate) fn apply(
        &self,
        records: &mut BTreeMap<Place, State>,
        mut versions: impl Iterator<Item = Version>,
    ) -> Result<Vec<Written>, StoreError> {
        let mut all = Vec::with_capacity(self.operations.len());
        for (place, operation) in self.operations.iter().enumerate() {
            let state = records.entry(operation.place()).or_default();
            let written = operation.apply(state, &mut versions);
            all.push(written.map_err(|error| StoreError::Operation {
                place,
                fence: operation.fence.clone(),
                key: operation.key.clone(),
                error: Box::new(error),
            })?);
        }
        Ok(all)
    }

    /// The fences of operations that no token is shown for.
    pub fn without_token(&self) -> BTreeSet<&FenceName> {
        let fences = self.operations.iter().map(|operation| &operation.fence);
        fences.filter(|fence| !self.tokens.contains_key(*fence)).collect()
    }
}

impl Operation {
    fn place(&self) -> Place {
        (self.fence.clone(), self.key.clone())
    }

    fn apply(
        &self,
        state: &mut State,
        versions: &mut impl Iterator<Item = Version>,
    ) -> Result<Written, StoreError> {
        let current = state.version;
        if !self.condition.holds(current) {
            return Err(StoreError::Condition { current });
        }
        let value = match &self.change {
            Change::Put(value) => Some(value.clone()),
            Change::Merge(patch) => match (current, &state.value) {
                (Some(_), Some(value)) => Some(Value {
                    bytes: patch.apply(&value.bytes)?,
                    content_type: value.content_type.clone(),
                }),
                _ => return Err(MergeError::Absent.into()),
            },
            Change::Delete => None,
        };
        let version = match value {
            Some(_) => Some(
                versions
                    .next()
                    .ok_or_else(|| StoreError::Corrupt("too few versions".into()))?,
            ),
            None => None,
        };
        *state = State { version, value };
        Ok(Written {
            version,
            existed: current.is_some(),
        })
    }
}

/// The answer to a transaction of one operation.
pub(crate) fn the_only_one(done: Result<Done, StoreError>) -> Result<Written, StoreError> {
    match done {
        Ok(done) => match done.written[..] {
            [written] => Ok(written),
            _ => Err(StoreError::Corrupt(
                "one write, and another number of answers".into(),
            )),
        },
        Err(StoreError::Operation { error, .. }) => Err(*error),
        Err(error) => Err(error),
    }
}

/// A key that comes after all that begin with `prefix`, since no key is longer than this.
pub(crate) fn after_all(prefix: &str) -> String {
    let mut bound = prefix.to_owned();
    bound.extend(std::iter::repeat_n(
        char::MAX,
        RecordKey::LONGEST / char::MAX.len_utf8() + 1,
    ));
    bound
}
