//! Which instances are a redlock: the set that they once agreed on.
//!
//! Each instance has a UUID of its own, and a copy of the list of all. The list is written once, when all
//! instances are up; its hash is the identity of the redlock, and stays the same whichever of them are down later.
//! An instance that has lost its data has lost its UUID. It may have forgotten locks and ballots that a majority
//! relies on, so it counts as down, and nothing but an operator takes it back.

use std::collections::{BTreeSet, HashSet};

use redis::RedisResult;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    instances::{Instances, LONGEST},
    scripts,
};
use crate::lock::{Identity, Kind, LockError, redis::scripts::Keys};

/// The agreed set.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Members {
    /// The UUIDs in order, with commas between.
    pub(super) list: String,
}

/// What an instance says of itself.
struct Seen {
    instance: String,
    list: String,
}

impl Members {
    /// Whose history the ballots belong to.
    pub(super) fn identity(&self) -> Identity {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&Sha256::digest(&self.list)[..16]);
        Identity {
            kind: Kind::Redlock,
            cluster: String::new(),
            instance: uuid::Builder::from_custom_bytes(bytes).into_uuid(),
        }
    }

    /// Reads the set from a majority of its members, or has all instances agree on one.
    ///
    /// # Errors
    /// [`LockError::Unavailable`] when too few members can be asked, [`LockError::Unexpected`] when the
    /// instances cannot be a redlock.
    pub(super) async fn find(instances: &Instances, keys: &Keys) -> Result<Self, LockError> {
        let round = instances.ask::<(String, String)>(LONGEST, || scripts::look(keys));
        let seen: Vec<_> = round
            .all(instances.count())
            .await
            .into_iter()
            .map(Seen::of)
            .collect();
        let lists: BTreeSet<&str> = seen.iter().filter_map(Seen::list).collect();
        if lists.is_empty() {
            return Self::agree(instances, keys, &seen).await;
        }
        let Some(list) = lists
            .into_iter()
            .find(|list| members(list, &seen) >= instances.majority())
        else {
            return Err(too_few(instances, &seen));
        };
        let named = list.split(',').count();
        if named != instances.count() {
            let detail = format!(
                "they belong to {named} instances, and {} are named",
                instances.count()
            );
            return Err(unexpected(instances, &detail));
        }
        // A member that was down when all others wrote the list gets it now.
        if seen
            .iter()
            .flatten()
            .any(|seen| seen.list.is_empty() && list.contains(&seen.instance))
        {
            let round = instances.ask::<String>(LONGEST, || scripts::agree(keys, list));
            round.all(instances.count()).await;
        }
        Ok(Self {
            list: list.to_owned(),
        })
    }

    /// The first use: every instance gets a UUID, and then the list of all.
    async fn agree(instances: &Instances, keys: &Keys, seen: &[Option<Seen>]) -> Result<Self, LockError> {
        if let Some(missing) = seen.iter().position(Option::is_none) {
            let detail = format!(
                "no instance knows the others yet, and {} does not answer: all must be up when they are used for \
                 the first time",
                instances.address(missing)
            );
            return Err(unavailable(instances, &detail));
        }
        let round = instances.ask::<String>(LONGEST, || scripts::name_instance(keys));
        let mut names = BTreeSet::new();
        for (index, answer) in round.all(instances.count()).await.into_iter().enumerate() {
            let name = answered(instances, index, answer)?;
            Uuid::try_parse(&name)
                .map_err(|_| unexpected(instances, "the name of an instance is not a UUID"))?;
            if !names.insert(name) {
                let detail = format!(
                    "{} is another name of an instance before it",
                    instances.address(index)
                );
                return Err(unexpected(instances, &detail));
            }
        }
        let list = names.into_iter().collect::<Vec<_>>().join(",");
        let round = instances.ask::<String>(LONGEST, || scripts::agree(keys, &list));
        for (index, answer) in round.all(instances.count()).await.into_iter().enumerate() {
            if answered(instances, index, answer)? != list {
                return Err(unavailable(
                    instances,
                    "another process is having them agree at the same time",
                ));
            }
        }
        Ok(Self { list })
    }
}

impl Seen {
    fn of(answer: Option<RedisResult<(String, String)>>) -> Option<Self> {
        let (instance, list) = answer?.ok()?;
        Some(Self { instance, list })
    }

    fn list(seen: &Option<Self>) -> Option<&str> {
        seen.as_ref()
            .map(|seen| seen.list.as_str())
            .filter(|list| !list.is_empty())
    }
}

/// How many of the instances are in this list.
fn members(list: &str, seen: &[Option<Seen>]) -> usize {
    let list: HashSet<&str> = list.split(',').collect();
    let present = seen.iter().flatten().map(|seen| seen.instance.as_str());
    present
        .filter(|instance| list.contains(instance))
        .collect::<HashSet<_>>()
        .len()
}

fn answered(
    instances: &Instances,
    index: usize,
    answer: Option<RedisResult<String>>,
) -> Result<String, LockError> {
    let detail = match answer {
        Some(Ok(text)) => return Ok(text),
        Some(Err(error)) => error.to_string(),
        None => "timed out".into(),
    };
    Err(unavailable(
        instances,
        &format!("{}: {detail}", instances.address(index)),
    ))
}

/// Says of each instance why it does not count.
fn too_few(instances: &Instances, seen: &[Option<Seen>]) -> LockError {
    let of = |index: usize, seen: &Option<Seen>| {
        let state = match seen {
            None => "does not answer",
            Some(seen) if seen.instance.is_empty() => "has lost its data, so it does not count",
            Some(_) => "answers",
        };
        format!("{} {state}", instances.address(index))
    };
    let states: Vec<_> = seen
        .iter()
        .enumerate()
        .map(|(index, seen)| of(index, seen))
        .collect();
    unavailable(
        instances,
        &format!("too few of its members can be asked: {}", states.join("; ")),
    )
}

pub(super) fn unavailable(instances: &Instances, detail: &str) -> LockError {
    LockError::Unavailable {
        service: instances.service(),
        detail: detail.into(),
    }
}

pub(super) fn unexpected(instances: &Instances, detail: &str) -> LockError {
    LockError::Unexpected {
        service: instances.service(),
        detail: detail.into(),
    }
}
