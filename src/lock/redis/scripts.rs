//! The scripts, and the keys they work on.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use redis::{FromRedisValue, ParsingError, Script, ScriptInvocation, Value};
use uuid::Uuid;

use crate::{
    lock::{Claim, Request},
    name::FenceName,
    token::HolderHash,
};

macro_rules! script {
    ($file:literal) => {
        LazyLock::new(|| Script::new(concat!(include_str!("value.lua"), include_str!($file))))
    };
}

static ACQUIRE: LazyLock<Script> = script!("acquire.lua");
static RENEW: LazyLock<Script> = script!("renew.lua");
pub(in crate::lock) static RELEASE: LazyLock<Script> = script!("release.lua");
pub(in crate::lock) static INSPECT: LazyLock<Script> = script!("inspect.lua");
pub(in crate::lock) static IDENTITY: LazyLock<Script> = script!("identity.lua");

/// All of them, to be loaded when a connection is made.
pub(super) static ALL: [&LazyLock<Script>; 5] = [&ACQUIRE, &RENEW, &RELEASE, &INSPECT, &IDENTITY];

/// Where our keys are.
pub(in crate::lock) struct Keys {
    prefix: String,
}

/// Numbers the attempts of a holder: a later one is greater.
#[derive(Clone, Copy)]
pub(in crate::lock) struct Attempt(u64);

impl Attempt {
    /// Later than all of this process, and than those of others as far as clocks tell.
    pub(in crate::lock) fn new() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let since_1970 = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let now = u64::try_from(since_1970.as_nanos()).unwrap_or_default();
        let last = LAST.fetch_max(now, Ordering::Relaxed);
        Self(if now > last {
            now
        } else {
            LAST.fetch_add(1, Ordering::Relaxed) + 1
        })
    }

    /// Always as long, so that texts compare as the numbers do.
    pub(in crate::lock) fn text(self) -> String {
        format!("{:020}", self.0)
    }
}

/// What is to be seen of a lock.
pub(in crate::lock) enum Seen {
    Free,
    /// fencegate took it.
    Held {
        holder: HolderHash,
        sequence: i64,
        label: String,
        expires_in: Duration,
    },
    /// Another program took it.
    Foreign {
        expires_in: Duration,
    },
}

impl Keys {
    /// Under a prefix that has no two slashes together.
    pub(in crate::lock) fn new(prefix: String) -> Self {
        Self { prefix }
    }

    /// The channel on which releases of the lock are told.
    pub(in crate::lock) fn channel(&self, name: &FenceName) -> String {
        format!("{}//released/{name}", self.prefix)
    }

    /// The key of the lock.
    pub(in crate::lock) fn lock(&self, name: &FenceName) -> String {
        format!("{}/{name}", self.prefix)
    }

    /// The key of the last sequence.
    pub(in crate::lock) fn counter(&self, name: &FenceName) -> String {
        format!("{}//sequence/{name}", self.prefix)
    }

    /// A key that belongs to no fence.
    pub(in crate::lock) fn own(&self, what: &str) -> String {
        format!("{}//{what}", self.prefix)
    }

    pub(super) fn acquire(&self, request: &Request, attempt: Attempt) -> ScriptInvocation<'static> {
        let mut script = ACQUIRE.prepare_invoke();
        script
            .key(self.lock(&request.name))
            .key(self.counter(&request.name))
            .key(self.own("identity"))
            .arg(hex::encode(request.holder.hash().as_bytes()))
            .arg(attempt.text())
            .arg(ms(request.ttl))
            .arg(&request.label)
            .arg(request.floor)
            .arg(Uuid::new_v4().to_string());
        script
    }

    pub(super) fn renew(&self, claim: &Claim) -> ScriptInvocation<'static> {
        let mut script = RENEW.prepare_invoke();
        script
            .key(self.lock(&claim.name))
            .arg(hex::encode(claim.holder.as_bytes()))
            .arg(claim.sequence.get());
        script
    }

    /// Frees the lock of an acquisition.
    pub(in crate::lock) fn release(&self, claim: &Claim) -> ScriptInvocation<'static> {
        self.free(&claim.name, &claim.holder, &claim.sequence.to_string(), "")
    }

    /// Frees the lock if this attempt is the last one of its holder that had to do with it.
    pub(in crate::lock) fn undo(
        &self,
        name: &FenceName,
        holder: &HolderHash,
        attempt: Attempt,
    ) -> ScriptInvocation<'static> {
        self.free(name, holder, "", &attempt.text())
    }

    fn free(
        &self,
        name: &FenceName,
        holder: &HolderHash,
        sequence: &str,
        attempt: &str,
    ) -> ScriptInvocation<'static> {
        let mut script = RELEASE.prepare_invoke();
        script
            .key(self.lock(name))
            .arg(hex::encode(holder.as_bytes()))
            .arg(sequence)
            .arg(attempt)
            .arg(self.channel(name));
        script
    }

    pub(in crate::lock) fn inspect(&self, name: &FenceName) -> ScriptInvocation<'static> {
        let mut script = INSPECT.prepare_invoke();
        script.key(self.lock(name));
        script
    }

    pub(super) fn identity(&self) -> ScriptInvocation<'static> {
        let mut script = IDENTITY.prepare_invoke();
        script.key(self.own("identity")).arg(Uuid::new_v4().to_string());
        script
    }
}

impl FromRedisValue for Seen {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let Value::Array(parts) = &value else {
            return Err("an inspection answers with a list".into());
        };
        // A lock without an end has a negative one.
        let duration = |ms: i64| u64::try_from(ms).map_or(Duration::MAX, Duration::from_millis);
        match parts.len() {
            1 => Ok(Self::Free),
            2 => {
                let (_, left): (i64, i64) = redis::from_redis_value(value)?;
                Ok(Self::Foreign {
                    expires_in: duration(left),
                })
            }
            _ => {
                let (_, holder, sequence, label, left): (i64, String, i64, String, i64) =
                    redis::from_redis_value(value)?;
                let mut hash = [0; 32];
                hex::decode_to_slice(&holder, &mut hash).map_err(|_| "a holder that is not a hash")?;
                Ok(Self::Held {
                    holder: hash.into(),
                    sequence,
                    label,
                    expires_in: duration(left),
                })
            }
        }
    }
}

/// The whole milliseconds of a time to live, rounded up: what the server is asked for.
pub(in crate::lock) fn whole_ms(ttl: Duration) -> Duration {
    Duration::from_millis(ms(ttl).unsigned_abs())
}

/// The same as a number.
pub(in crate::lock) fn ms(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_nanos().div_ceil(1_000_000))
        .unwrap_or(i64::MAX)
        .max(1)
}
