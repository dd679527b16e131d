//! Why a request that is in order is not done: how things stand.

use std::{fmt, time::Duration};

use super::{Problem, SOON, kinds::*};
use crate::{guard::Refusal, rule::Reason, store::Version};

impl Problem {
    /// The guard's refusal.
    pub(in crate::gateway) fn refused(refusal: &Refusal) -> Self {
        let kind = match refusal.reason {
            Reason::Stale => TOKEN_STALE,
            Reason::HolderMismatch => HOLDER_MISMATCH,
            Reason::Unsealed => TOKEN_UNSEALED,
        };
        let mut problem = Self::new(kind, refusal.to_string());
        problem.0.fence = Some(refusal.fence.to_string());
        problem.0.presented = Some(refusal.presented.to_string());
        problem.0.mark = refusal.mark.map(|mark| mark.to_string());
        problem
    }

    pub(in crate::gateway) fn force_not_allowed() -> Self {
        Self::new(
            NOT_ALLOWED,
            "releasing by force is for operators: start the gateway with --allow-force-release, and keep others away \
             from its address",
        )
    }

    pub(in crate::gateway) fn version_mismatch(current: Option<Version>) -> Self {
        let found = match current {
            Some(version) => format!("in version {version}"),
            None => "absent".into(),
        };
        Self::new(
            VERSION_MISMATCH,
            format!("the record is {found}, which the condition does not allow: read it, and decide again"),
        )
    }

    pub(in crate::gateway) fn lease_lost() -> Self {
        Self::new(
            LEASE_LOST,
            "the lease expired, was released, or belongs to another: it is never taken back, so acquire again, which \
             gives a new token",
        )
    }

    /// Asked again, it may come to the right one.
    pub(in crate::gateway) fn lease_elsewhere() -> Self {
        Self::new(
            LEASE_ELSEWHERE,
            "another gateway granted the lease, only that one can renew it, and it has no address to redirect to: start \
             every gateway with --advertise, the URL at which clients reach that very one, or let the load balancer send \
             what shows this token to where it was granted. If that gateway has ended, the lease ends with its ttl",
        )
        .retry_after(SOON)
    }

    /// `expires_in`: how long until the present lease ends, if it is not renewed.
    pub(in crate::gateway) fn lock_held(expires_in: Option<Duration>) -> Self {
        let pause = expires_in.unwrap_or(SOON).clamp(SOON, Duration::from_secs(10));
        Self::new(
            LOCK_HELD,
            "another holder had the lock for all of the wait: ask for a longer wait, or come back later",
        )
        .retry_after(pause)
    }

    pub(in crate::gateway) fn lock_service_unavailable(detail: impl Into<String>) -> Self {
        Self::new(LOCK_SERVICE_UNAVAILABLE, detail).retry_after(SOON)
    }

    pub(in crate::gateway) fn store_slow(limit: Duration) -> Self {
        let limit = humantime::format_duration(limit);
        Self::new(
            STORE_UNAVAILABLE,
            format!("the store has not answered in {limit}"),
        )
        .retry_after(SOON)
    }

    /// A write that is not over when its time is; it goes on.
    pub(in crate::gateway) fn write_slow(limit: Duration) -> Self {
        let limit = humantime::format_duration(limit);
        Self::new(
            OUTCOME_UNKNOWN,
            format!(
                "the store has not answered in {limit}, and the write goes on: look whether it has happened, or \
                 repeat it with the same Idempotency-Key, if it had one"
            ),
        )
    }

    pub(in crate::gateway) fn too_many_waiting(limit: usize) -> Self {
        Self::new(
            TOO_MANY_WAITING,
            format!("{limit} lease requests are waiting already: come back later"),
        )
        .retry_after(SOON)
    }

    pub(in crate::gateway) fn too_many_bodies() -> Self {
        Self::new(
            TOO_MANY_BODIES,
            "the requests that are under way have as many bytes as there may be: come back later, or ask another gateway",
        )
        .retry_after(SOON)
    }

    pub(in crate::gateway) fn too_many_connections() -> Self {
        Self::new(
            TOO_MANY_CONNECTIONS,
            "there are as many connections as there may be: come back later, or ask another gateway",
        )
        .retry_after(SOON)
    }

    pub(in crate::gateway) fn too_many_listening(limit: usize) -> Self {
        Self::new(
            TOO_MANY_LISTENING,
            format!("{limit} clients listen to events already: come back later, or ask another gateway"),
        )
        .retry_after(SOON)
    }

    pub(in crate::gateway) fn draining() -> Self {
        Self::new(
            DRAINING,
            "this gateway is stopping, and gives no more leases and no more events: ask another one, or come back",
        )
        .retry_after(SOON)
    }

    pub(in crate::gateway) fn record_not_found() -> Self {
        Self::new(RECORD_NOT_FOUND, "there is no record under this key")
    }

    pub(in crate::gateway) fn fence_not_found() -> Self {
        Self::new(
            FENCE_NOT_FOUND,
            "no lease was ever granted on this fence, and nobody holds its lock",
        )
    }

    pub(in crate::gateway) fn internal(inside: impl fmt::Display) -> Self {
        Self::new(INTERNAL, "the gateway's log says more, under the request's id").inside(inside)
    }
}
