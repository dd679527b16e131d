//! A batch of writes: what is sent to `fencegate.write_records`, and what each write is told of its answer.

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::{
    Postgres, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
};

use super::{group::Item, seen::Seen};
use crate::{
    guard::{Refusal, read_mark},
    name::{FenceName, RecordKey},
    rule::Reason,
    store::{Change, Condition, StoreError, Value, Version, Write, Written},
    token::Mark,
};

/// Writes of one batch, by record, in the order of fences and keys: that is the order in which rows are locked.
pub(super) struct Batch {
    chains: Vec<Chain>,
    tokens: Vec<(FenceName, Mark)>,
}

/// The writes of one record, in the order in which they came. Only the last one reaches the table; those before
/// it were overtaken, and get a version each that no one ever sees.
struct Chain {
    token: usize,
    items: Vec<Item>,
}

impl Batch {
    /// Makes a batch of what fits into one; the others are given back in their order.
    ///
    /// A record takes part with one write, or with several of one token that have no conditions.
    pub(super) fn new(items: Vec<Item>) -> (Self, Vec<Item>) {
        let mut later = Vec::new();
        let mut records: BTreeMap<(FenceName, RecordKey), Vec<Item>> = BTreeMap::new();
        let mut closed = HashSet::new();
        for item in items {
            let record = (item.write.fence.clone(), item.write.key.clone());
            let chain = records.get(&record);
            if closed.contains(&record) || chain.is_some_and(|chain| !joins(chain, &item)) {
                // Whatever comes after it must not overtake it.
                closed.insert(record);
                later.push(item);
            } else {
                records.entry(record).or_default().push(item);
            }
        }
        let mut tokens: Vec<(FenceName, Mark)> = Vec::new();
        let mut places = HashMap::new();
        let chains = records.into_iter().map(|((fence, _), items)| {
            let token = items[0].write.token;
            let place = *places.entry((fence.clone(), token)).or_insert_with(|| {
                tokens.push((fence, token));
                tokens.len() - 1
            });
            Chain { token: place, items }
        });
        let chains = chains.collect();
        (Self { chains, tokens }, later)
    }

    pub(super) fn len(&self) -> usize {
        self.chains.iter().map(|chain| chain.items.len()).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    pub(super) fn into_items(self) -> Vec<Item> {
        self.chains.into_iter().flat_map(|chain| chain.items).collect()
    }

    pub(super) fn tell_all(self, error: impl Fn() -> StoreError) {
        for item in self.into_items() {
            item.tell(Err(error()));
        }
    }

    /// Two batches of half the records each, or of half the writes of the only one, to be applied in this order.
    pub(super) fn split(mut self) -> (Self, Self) {
        let rest = match &mut self.chains[..] {
            [only] => {
                let items = only.items.split_off(only.items.len() / 2);
                vec![Chain {
                    token: only.token,
                    items,
                }]
            }
            chains => {
                let half = chains.len() / 2;
                self.chains.split_off(half)
            }
        };
        let tokens = self.tokens.clone();
        (self, Self { chains: rest, tokens })
    }

    /// The statement, with everything bound.
    pub(super) fn query(&self) -> Query<'_, Postgres, PgArguments> {
        if let [chain] = &self.chains[..]
            && let [item] = &chain.items[..]
            && let (Change::Put(value), Condition::Always) = (&item.write.change, item.write.condition)
        {
            return query_alone(&item.write, value);
        }
        let writes = || self.chains.iter().map(Chain::last);
        let is_put = |write: &Write| matches!(write.change, Change::Put(_));
        let plain = writes().all(|write| is_put(write) && write.condition == Condition::Always);
        let (contents, content_types): (Vec<_>, Vec<_>) = writes().map(value_of).unzip();
        let (conditions, versions): (Vec<_>, Vec<_>) =
            writes().map(|write| condition(write.condition)).unzip();
        let overtaken: usize = self.chains.iter().map(Chain::overtaken_puts).sum();
        sqlx::query(
            "select outcome, item, version, existed, mark_epoch, mark_sequence, mark_holder, fence, key
               from fencegate.write_records($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        )
        .bind(
            self.tokens
                .iter()
                .map(|(fence, _)| fence.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(
            self.tokens
                .iter()
                .map(|(_, mark)| mark.epoch.get())
                .collect::<Vec<_>>(),
        )
        .bind(
            self.tokens
                .iter()
                .map(|(_, mark)| mark.sequence.get())
                .collect::<Vec<_>>(),
        )
        .bind(
            self.tokens
                .iter()
                .map(|(_, mark)| &mark.holder.as_bytes()[..])
                .collect::<Vec<_>>(),
        )
        .bind(
            self.chains
                .iter()
                .map(|chain| number(chain.token + 1))
                .collect::<Vec<_>>(),
        )
        .bind(writes().map(|write| write.key.as_str()).collect::<Vec<_>>())
        .bind(writes().map(is_put).collect::<Vec<_>>())
        .bind(contents)
        .bind(content_types)
        .bind(conditions)
        .bind(versions)
        .bind(plain)
        .bind(number(overtaken))
    }
}

/// The statement for a put that stands alone and has no condition. It answers as that of a batch.
fn query_alone<'q>(write: &'q Write, value: &'q Value) -> Query<'q, Postgres, PgArguments> {
    sqlx::query(
        "select outcome, item, version, existed, mark_epoch, mark_sequence, mark_holder, fence, key
           from fencegate.write_record($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(write.fence.as_str())
    .bind(write.token.epoch.get())
    .bind(write.token.sequence.get())
    .bind(&write.token.holder.as_bytes()[..])
    .bind(write.key.as_str())
    .bind(&value.bytes[..])
    .bind(&value.content_type)
}

impl Chain {
    /// The write that reaches the table.
    fn last(&self) -> &Write {
        &self.items[self.items.len() - 1].write
    }

    fn overtaken_puts(&self) -> usize {
        let overtaken = &self.items[..self.items.len() - 1];
        overtaken
            .iter()
            .filter(|item| matches!(item.write.change, Change::Put(_)))
            .count()
    }
}

/// The answer of `fencegate.write_records`.
#[derive(Default)]
pub(super) struct Verdicts {
    /// By token.
    refused: HashMap<usize, (Reason, Option<Mark>)>,
    busy: Vec<usize>,
    /// By place in the batch.
    failed: HashMap<usize, Option<Version>>,
    again: Vec<usize>,
    deleted: HashMap<usize, bool>,
    made: HashMap<usize, Version>,
    /// By record.
    put: HashMap<(String, String), (Version, bool)>,
    drawn: Vec<Version>,
}

impl Verdicts {
    pub(super) fn read(rows: &[PgRow]) -> Result<Self, StoreError> {
        let mut verdicts = Self::default();
        for row in rows {
            let outcome: &str = row.try_get("outcome")?;
            let item = row
                .try_get::<Option<i32>, _>("item")?
                .map(|item| item.unsigned_abs() as usize - 1);
            let version = row.try_get::<Option<i64>, _>("version")?.map(Version);
            let odd = || StoreError::Corrupt(format!("an answer to a batch: {outcome}"));
            match (outcome, item, version) {
                ("written", None, Some(version)) => {
                    let record: (String, String) = (row.try_get("fence")?, row.try_get("key")?);
                    verdicts.put.insert(record, (version, row.try_get("existed")?));
                }
                ("written", Some(item), Some(version)) => drop(verdicts.made.insert(item, version)),
                ("written", Some(item), None) => drop(verdicts.deleted.insert(item, row.try_get("existed")?)),
                ("condition", Some(item), version) => drop(verdicts.failed.insert(item, version)),
                ("again", Some(item), _) => verdicts.again.push(item),
                ("drawn", _, Some(version)) => verdicts.drawn.push(version),
                ("busy", Some(token), _) => verdicts.busy.push(token),
                (refused, Some(token), _) => {
                    let reason = Reason::from_name(refused).ok_or_else(odd)?;
                    verdicts.refused.insert(token, (reason, mark_of(row)?));
                }
                _ => return Err(odd()),
            }
        }
        verdicts.drawn.sort_unstable_by(|a, b| b.cmp(a));
        Ok(verdicts)
    }

    /// Tells each write its part; answers with those that are to be tried again: their fence is being sealed, or
    /// their record has just been made by somebody else.
    pub(super) fn tell(mut self, batch: Batch, seen: &Seen) -> Vec<Item> {
        let mut again = Vec::new();
        for (token, (_, mark)) in &self.refused {
            if let (Some((fence, _)), Some(mark)) = (batch.tokens.get(*token), mark) {
                seen.learn(fence, mark);
            }
        }
        for (place, chain) in batch.chains.into_iter().enumerate() {
            if self.busy.contains(&chain.token) || self.again.contains(&place) {
                again.extend(chain.items);
            } else if let Some(&(reason, mark)) = self.refused.get(&chain.token) {
                for item in chain.items {
                    let (fence, presented) = (item.write.fence.clone(), item.write.token);
                    let refusal = Refusal {
                        reason,
                        fence,
                        presented,
                        mark,
                    };
                    item.tell(Err(StoreError::Refused(Box::new(refusal))));
                }
            } else {
                self.tell_chain(place, chain);
            }
        }
        again
    }

    /// Each write of a chain finds what the one before it left.
    fn tell_chain(&mut self, place: usize, chain: Chain) {
        let write = chain.last();
        let record = (write.fence.as_str().to_owned(), write.key.as_str().to_owned());
        let (last, mut existed) = if let Some(&(version, existed)) = self.put.get(&record) {
            (Some(version), existed)
        } else if let Some(&version) = self.made.get(&place) {
            (Some(version), false)
        } else if let Some(&existed) = self.deleted.get(&place) {
            (None, existed)
        } else {
            // Only a write that stands alone has a condition.
            let failed = self.failed.get(&place);
            for item in chain.items {
                item.tell(Err(match failed {
                    Some(&current) => StoreError::Condition { current },
                    None => StoreError::Corrupt("a batch that says nothing of one of its writes".into()),
                }));
            }
            return;
        };
        let end = chain.items.len() - 1;
        for (i, item) in chain.items.into_iter().enumerate() {
            let version = match &item.write.change {
                _ if i == end => last,
                Change::Put(_) => self.drawn.pop(),
                Change::Delete | Change::Merge(_) => None,
            };
            item.tell(Ok(Written { version, existed }));
            existed = version.is_some();
        }
    }
}

/// Whether a write can be applied together with those of the same record that came before it.
fn joins(chain: &[Item], item: &Item) -> bool {
    let (first, next) = (&chain[0].write, &item.write);
    let free = |write: &Write| write.condition == Condition::Always;
    free(first) && free(next) && first.token == next.token
}

/// The bytes and their type; nothing for a delete.
fn value_of(write: &Write) -> (&[u8], &str) {
    match &write.change {
        Change::Put(value) => (&value.bytes, &value.content_type),
        // Patches do not come here: what they make depends on what is stored.
        Change::Delete | Change::Merge(_) => (&[], ""),
    }
}

/// A condition as the function has it.
fn condition(condition: Condition) -> (i16, Option<i64>) {
    match condition {
        Condition::Always => (0, None),
        Condition::Absent => (1, None),
        Condition::Present => (2, None),
        Condition::Version(version) => (3, Some(version.0)),
    }
}

fn mark_of(row: &PgRow) -> Result<Option<Mark>, StoreError> {
    let Some(epoch) = row.try_get("mark_epoch")? else {
        return Ok(None);
    };
    Ok(Some(read_mark(
        epoch,
        row.try_get("mark_sequence")?,
        row.try_get("mark_holder")?,
    )?))
}

/// SQL's arrays begin at 1; a number of items is far below the limit.
fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
