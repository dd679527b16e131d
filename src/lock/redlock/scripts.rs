//! The scripts that run on each instance.

use std::sync::LazyLock;

use redis::{FromRedisValue, ParsingError, Script, ScriptInvocation, Value, from_redis_value};
use uuid::Uuid;

use crate::{
    lock::{
        Claim, Request,
        redis::scripts::{Attempt, IDENTITY, INSPECT, Keys, RELEASE, ms},
    },
    name::FenceName,
};

macro_rules! script {
    ($file:literal) => {
        LazyLock::new(|| {
            Script::new(concat!(
                include_str!("../redis/value.lua"),
                include_str!("instance.lua"),
                include_str!($file)
            ))
        })
    };
}

static TAKE: LazyLock<Script> = script!("take.lua");
static NUMBER: LazyLock<Script> = script!("number.lua");
static RENEW: LazyLock<Script> = script!("renew.lua");
static LOOK: LazyLock<Script> = script!("look.lua");
static AGREE: LazyLock<Script> = script!("agree.lua");

/// All of them, to be loaded when a connection is made.
pub(super) static ALL: [&LazyLock<Script>; 8] = [
    &TAKE, &NUMBER, &RENEW, &LOOK, &AGREE, &RELEASE, &INSPECT, &IDENTITY,
];

/// What an instance says to the first round.
pub(super) enum Taken {
    Mine {
        instance: String,
        counter: i64,
        sequence: i64,
    },
    Busy {
        left: i64,
    },
    NoMember,
}

/// What an instance says to the second round, or to a renewal.
pub(super) enum Answer {
    Yes { instance: String, ttl_ms: u64 },
    No,
    NoMember,
}

/// The first round.
pub(super) fn take(
    keys: &Keys,
    members: &str,
    request: &Request,
    attempt: Attempt,
) -> ScriptInvocation<'static> {
    let mut script = on_instance(&TAKE, keys, &request.name);
    script
        .arg(members)
        .arg(hex::encode(request.holder.hash().as_bytes()))
        .arg(attempt.text())
        .arg(ms(request.ttl))
        .arg(&request.label);
    script
}

/// The second round, for a ballot.
pub(super) fn number(keys: &Keys, members: &str, claim: &Claim) -> ScriptInvocation<'static> {
    about(&NUMBER, keys, members, claim)
}

/// A renewal.
pub(super) fn renew(keys: &Keys, members: &str, claim: &Claim) -> ScriptInvocation<'static> {
    about(&RENEW, keys, members, claim)
}

/// Asks an instance who it is, and whom it knows.
pub(super) fn look(keys: &Keys) -> ScriptInvocation<'static> {
    let mut script = LOOK.prepare_invoke();
    script.key(keys.own("instance")).key(keys.own("members"));
    script
}

/// Gives an instance a UUID, if it has none.
pub(super) fn name_instance(keys: &Keys) -> ScriptInvocation<'static> {
    let mut script = IDENTITY.prepare_invoke();
    script.key(keys.own("instance")).arg(Uuid::new_v4().to_string());
    script
}

/// Writes down who is in the set.
pub(super) fn agree(keys: &Keys, members: &str) -> ScriptInvocation<'static> {
    let mut script = AGREE.prepare_invoke();
    script
        .key(keys.own("instance"))
        .key(keys.own("members"))
        .arg(members);
    script
}

fn about(script: &'static Script, keys: &Keys, members: &str, claim: &Claim) -> ScriptInvocation<'static> {
    let mut script = on_instance(script, keys, &claim.name);
    script
        .arg(members)
        .arg(hex::encode(claim.holder.as_bytes()))
        .arg(claim.sequence.get());
    script
}

fn on_instance(script: &'static Script, keys: &Keys, name: &FenceName) -> ScriptInvocation<'static> {
    let mut script = script.prepare_invoke();
    script
        .key(keys.lock(name))
        .key(keys.counter(name))
        .key(keys.own("instance"));
    script
}

impl FromRedisValue for Taken {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        match parts(&value)? {
            1 => Ok(Self::NoMember),
            3 => {
                let (_, _, left): (i64, String, i64) = from_redis_value(value)?;
                Ok(Self::Busy { left })
            }
            _ => {
                let (_, instance, counter, sequence): (i64, String, i64, i64) = from_redis_value(value)?;
                Ok(Self::Mine {
                    instance,
                    counter,
                    sequence,
                })
            }
        }
    }
}

impl FromRedisValue for Answer {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let (yes, instance, ttl_ms) = match parts(&value)? {
            1 => return Ok(Self::NoMember),
            2 => {
                let (yes, instance): (i64, String) = from_redis_value(value)?;
                (yes, instance, 0)
            }
            _ => from_redis_value(value)?,
        };
        Ok(if yes == 1 {
            Self::Yes { instance, ttl_ms }
        } else {
            Self::No
        })
    }
}

fn parts(value: &Value) -> Result<usize, ParsingError> {
    match value {
        Value::Array(parts) => Ok(parts.len()),
        _ => Err("an instance answers with a list".into()),
    }
}
