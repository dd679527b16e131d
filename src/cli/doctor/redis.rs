//! Redis, alone or as an instance of a redlock: what the server says.

use fencegate::lock::{Facts, Kind};

use super::{
    clock,
    finding::{Findings, Severity},
};

pub(super) fn judge(findings: &mut Findings, kind: Kind, facts: &Facts) {
    findings.ok(format!(
        "Redis {}",
        facts.version.as_deref().unwrap_or("of an unknown version")
    ));
    if facts.setting("role") == Some("slave") {
        findings.add(
            Severity::Unsafe,
            "it is a replica",
            "it refuses writes, so it grants no lease",
            "name the master, or the sentinels with redis+sentinel://",
        );
    }
    persistence(findings, kind, facts);
    eviction(findings, facts);
    if kind == Kind::Redlock
        && facts
            .setting("connected_slaves")
            .is_some_and(|count| count != "0")
    {
        findings.add(
            Severity::Warning,
            "it has replicas",
            "an instance of a redlock is independent: one that fails over to a replica has forgotten its last locks and \
             ballots without losing its name",
            "run the instances of a redlock without replicas",
        );
    }
    if let Some((shown, span)) = facts.clock {
        clock::judge(findings, shown, span);
    }
}

fn persistence(findings: &mut Findings, kind: Kind, facts: &Facts) {
    let lost = match kind {
        Kind::Redlock => "it then counts as down until an operator takes it back",
        _ => "no lease is granted then until the epoch is raised",
    };
    match (facts.setting("aof_enabled"), facts.setting("appendfsync")) {
        (Some("0"), _) => findings.add(
            Severity::Unsafe,
            "appendonly is off",
            format!("a restart loses locks and counters, perhaps all of them: {lost}"),
            "set appendonly yes and appendfsync always in redis.conf",
        ),
        (_, Some("always")) => findings.ok("every write is on disk before it is answered"),
        (_, Some(other)) => findings.add(
            Severity::Warning,
            format!("appendfsync is {other}"),
            "a crash loses the locks and counts of the last moments: two holders may then have one lock, of whom the store \
             accepts one",
            "set appendfsync always in redis.conf",
        ),
        (_, None) => findings.add(
            Severity::Note,
            "appendfsync cannot be read",
            "unless it is `always`, a crash loses the locks and counts of the last moments",
            "ask whoever runs the server",
        ),
    }
}

fn eviction(findings: &mut Findings, facts: &Facts) {
    let policy = facts.setting("maxmemory_policy").unwrap_or("noeviction");
    let is_limited = facts.setting("maxmemory").is_some_and(|limit| limit != "0");
    if policy.starts_with("allkeys") {
        let severity = if is_limited {
            Severity::Unsafe
        } else {
            Severity::Warning
        };
        findings.add(
            severity,
            format!("maxmemory-policy is {policy}"),
            "when its memory is full it drops counters, and its own name: tokens then start over",
            "set maxmemory-policy noeviction, and keep locks apart from caches",
        );
    } else if policy.starts_with("volatile") && is_limited {
        findings.add(
            Severity::Warning,
            format!("maxmemory-policy is {policy}"),
            "when its memory is full it drops locks that are held",
            "set maxmemory-policy noeviction, and keep locks apart from caches",
        );
    }
}
