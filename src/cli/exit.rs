//! How the program ends: one exit status for each kind of outcome, the same in every verb.

use std::process::ExitCode;

use fencegate::{GrantError, LockError, StoreError, client::ClientError, database::DatabaseError};

/// Exit statuses, apart from 0, from that of a command under `run`, and from those of a command line that cannot be read
/// (2). Some are those of `sysexits.h`. Documented in docs/cli.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Exit {
    /// Something else went wrong.
    Failed = 1,
    /// The doctor has warnings.
    Warnings = 3,
    /// The doctor found something unsafe, or that does not answer.
    Unsafe = 4,
    /// There is no such fence or record.
    NotFound = 66,
    /// A server did not answer, or cannot serve now.
    Unreachable = 69,
    /// The record is in another version.
    Condition = 73,
    /// A write may have happened or not.
    OutcomeUnknown = 74,
    /// Another held the fence for all of the wait.
    NotAcquired = 75,
    /// The lease is over, or never was.
    Lost = 76,
    /// The guard refused the token.
    Fenced = 77,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
    /// What an error comes to.
    pub(super) fn of(error: &anyhow::Error) -> Self {
        error.chain().find_map(of_cause).unwrap_or(Self::Failed)
    }
}

fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if let Some(error) = cause.downcast_ref() {
        return Some(of_client(error));
    }
    if let Some(error) = cause.downcast_ref() {
        return Some(of_grant(error));
    }
    if let Some(error) = cause.downcast_ref() {
        return Some(of_store(error));
    }
    cause.downcast_ref().map(of_lock)
}

fn of_client(error: &ClientError) -> Exit {
    if error.is_fenced() {
        return Exit::Fenced;
    }
    if error.is_lost() {
        return Exit::Lost;
    }
    match error {
        ClientError::Unreachable { .. } | ClientError::NoAnswer { .. } => Exit::Unreachable,
        ClientError::Problem(problem) => match problem.name() {
            "lock-held" => Exit::NotAcquired,
            "version-mismatch" => Exit::Condition,
            "record-not-found" | "fence-not-found" => Exit::NotFound,
            "outcome-unknown" => Exit::OutcomeUnknown,
            _ if problem.status == 503 || problem.retryable => Exit::Unreachable,
            _ => Exit::Failed,
        },
        _ => Exit::Failed,
    }
}

fn of_grant(error: &GrantError) -> Exit {
    match error {
        GrantError::Lock(error) => of_lock(error),
        GrantError::Store(error) => of_store(error),
        _ => Exit::Failed,
    }
}

fn of_store(error: &StoreError) -> Exit {
    match error {
        StoreError::Refused(_) => Exit::Fenced,
        StoreError::Condition { .. } => Exit::Condition,
        StoreError::Database(DatabaseError::OutcomeUnknown(_)) => Exit::OutcomeUnknown,
        StoreError::Database(DatabaseError::Unavailable(_) | DatabaseError::Quarantined(_)) => {
            Exit::Unreachable
        }
        _ => Exit::Failed,
    }
}

fn of_lock(error: &LockError) -> Exit {
    match error {
        LockError::Busy { .. } => Exit::NotAcquired,
        LockError::Lost => Exit::Lost,
        LockError::Unavailable { .. } => Exit::Unreachable,
        _ => Exit::Failed,
    }
}

/// An error with what caused it, each said once: some messages have their cause in them already.
pub(super) fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// How to look closer at a server that does not answer.
pub(super) fn advice(error: &anyhow::Error) -> Option<String> {
    if let Some(error) = error.chain().find_map(|cause| cause.downcast_ref()) {
        return closer(error);
    }
    match Exit::of(error) {
        Exit::Unreachable => Some("look closer with: fencegate doctor".into()),
        _ => None,
    }
}

/// What to do about a gateway that does not answer.
pub(super) fn closer(error: &ClientError) -> Option<String> {
    let (ClientError::Unreachable { gateway, detail } | ClientError::NoAnswer { gateway, detail }) = error
    else {
        return None;
    };
    let has = |words: &[&str]| words.iter().any(|word| detail.contains(word));
    Some(if has(&["UnknownIssuer", "CaUsedAsEndEntity"]) {
        "nobody whom this machine trusts vouches for its certificate: name its authority's with --ca FILE, or \
         FENCEGATE_CA"
            .into()
    } else if has(&["NotValidForName", "not valid for name"]) {
        "its certificate is another's: name the gateway as its certificate does".into()
    } else if has(&["invalid HTTP version"]) && gateway.starts_with("http://") {
        format!(
            "it may speak TLS: name it as {}",
            gateway.replacen("http", "https", 1)
        )
    } else if has(&["InvalidContentType"]) {
        format!(
            "it may speak no TLS: name it as {}",
            gateway.replacen("https", "http", 1)
        )
    } else {
        format!("look whether it runs: curl {gateway}/readyz")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn every_status_is_documented() {
        use Exit::*;
        for exit in [
            Failed,
            Warnings,
            Unsafe,
            NotFound,
            Unreachable,
            Condition,
            OutcomeUnknown,
            NotAcquired,
            Lost,
            Fenced,
        ] {
            let row = format!("\n| {} | ", exit as u8);
            assert!(include_str!("../../docs/cli.md").contains(&row), "{exit:?}");
        }
    }

    #[test]
    fn what_may_be_asked_again_is_told_from_what_may_not() {
        let problem = |kind: &str, status: u16, retryable: bool| {
            let text =
                serde_json::json!({"type": kind, "status": status, "retryable": retryable}).to_string();
            let problem = serde_json::from_str(&text).unwrap();
            Exit::of(&ClientError::Problem(Box::new(problem)).into())
        };
        for (kind, status, retryable, exit) in [
            ("lease-elsewhere", 421, true, Exit::Unreachable),
            ("epoch-changed", 409, true, Exit::Unreachable),
            ("store-quarantined", 503, false, Exit::Unreachable),
            ("lock-held", 409, true, Exit::NotAcquired),
            ("outcome-unknown", 503, false, Exit::OutcomeUnknown),
            ("lock-service-regressed", 409, false, Exit::Failed),
        ] {
            assert_eq!(problem(kind, status, retryable), exit, "{kind}");
        }
    }

    #[test]
    fn outcomes_are_told_apart_through_what_is_said_around_them() {
        let unavailable = || DatabaseError::Unavailable("x".into());
        let cases: [(anyhow::Error, Exit); 7] = [
            (ClientError::Lost.into(), Exit::Lost),
            (
                GrantError::from(LockError::Busy { expires_in: None }).into(),
                Exit::NotAcquired,
            ),
            (GrantError::from(unavailable()).into(), Exit::Unreachable),
            (StoreError::from(unavailable()).into(), Exit::Unreachable),
            (LockError::Lost.into(), Exit::Lost),
            (
                ClientError::NoAnswer {
                    gateway: "http://a".into(),
                    detail: "x".into(),
                }
                .into(),
                Exit::Unreachable,
            ),
            (anyhow::anyhow!("x"), Exit::Failed),
        ];
        for (error, exit) in cases {
            let error = Err::<(), _>(error).context("around it").unwrap_err();
            assert_eq!(Exit::of(&error), exit, "{error:#}");
            assert_eq!(advice(&error).is_some(), exit == Exit::Unreachable, "{error:#}");
        }
    }
}
