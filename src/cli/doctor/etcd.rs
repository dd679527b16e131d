//! etcd: what its members say.

use fencegate::lock::Facts;

use super::{
    finding::{Findings, Severity},
    version::{self, Flaw, Version},
};

/// From etcd's change logs.
const FLAWS: &[Flaw] = &[
    Flaw {
        severity: Severity::Unsafe,
        mended: &[Version(3, 4, 32), Version(3, 5, 14), Version(3, 6, 0)],
        why: "its revision can go back when it crashes during a compaction (etcd issue 17780). Tokens are revisions: the \
              next holder's would be refused as stale",
    },
    Flaw {
        severity: Severity::Warning,
        mended: &[Version(3, 4, 38), Version(3, 5, 23), Version(3, 6, 5)],
        why: "it may report the renewal of a revoked lease as a success (etcd pull request 20590). fencegate looks at the \
              lock's key with each renewal, other programs that share the lock may not",
    },
];

pub(super) fn judge(findings: &mut Findings, facts: &Facts) {
    version::judge(
        findings,
        "etcd",
        facts.version.as_deref().unwrap_or_default(),
        FLAWS,
    );
    if facts.setting("leader") == Some("false") {
        findings.add(
            Severity::Unsafe,
            "it has no leader",
            "no lease is granted or renewed: holders lose theirs when their deadline passes",
            "bring a majority of the members up",
        );
    }
    if facts.setting("learner") == Some("true") {
        findings.add(
            Severity::Warning,
            "it is a learner",
            "it refuses writes, so a lease is acquired only through others",
            "leave it out of --locks until it is promoted",
        );
    }
    match facts.setting("members").and_then(|members| members.parse::<u32>().ok()) {
        Some(1) => findings.add(
            Severity::Warning,
            "it is the only member of its cluster",
            "while it is away there are no leases, and if its disk is lost so is the history that tokens count on: then \
             the epoch must be raised",
            "run three members on three machines",
        ),
        Some(2) => findings.add(
            Severity::Warning,
            "its cluster has two members",
            "if either is away there are no leases: two are worse than one",
            "run three members on three machines",
        ),
        Some(members) => findings.ok(format!("a cluster of {members} members")),
        None => {}
    }
    if let Some(alarms) = facts.setting("alarms").filter(|alarms| !alarms.is_empty()) {
        findings.add(
            Severity::Unsafe,
            format!("it raises an alarm: {alarms}"),
            "with one it refuses writes, so no lease is granted",
            "etcdctl alarm list; after compaction and defragmentation, etcdctl alarm disarm",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the files of this repository start must not be what `doctor` warns of.
    #[test]
    fn the_etcd_of_compose_has_no_known_flaw() {
        let file = include_str!("../../../docker-compose.yml");
        let image = file.split("coreos/etcd:v").nth(1).unwrap();
        let mut findings = Findings::of("etcd");
        version::judge(&mut findings, "etcd", image.lines().next().unwrap(), FLAWS);
        let worst = findings
            .into_list()
            .into_iter()
            .map(|finding| finding.severity)
            .max();
        assert_eq!(worst, Some(Severity::Ok));
    }
}
