//! ZooKeeper: what the servers of the ensemble say.

use fencegate::lock::Facts;

use super::{
    finding::{Findings, Severity},
    version::{self, Flaw, Version},
};

const FLAWS: &[Flaw] = &[Flaw {
    severity: Severity::Note,
    mended: &[Version(3, 8, 2)],
    why: "what it answers to a creation inside a transaction lacks the zxid (ZOOKEEPER-4026). fencegate asks for it \
          afterwards; a program of your own that takes its token from such an answer gets a wrong one",
}];

pub(super) fn judge(findings: &mut Findings, facts: &Facts) {
    let Some(version) = &facts.version else {
        return findings.add(
            Severity::Note,
            "it answers, and does not tell its version",
            "whether it has known flaws cannot be told",
            "allow the question with 4lw.commands.whitelist=srvr in zoo.cfg",
        );
    };
    version::judge(findings, "ZooKeeper", version, FLAWS);
    match facts.setting("mode") {
        Some("standalone") => findings.add(
            Severity::Warning,
            "it stands alone",
            "while it is away there are no leases, and if its disk is lost so is the history that tokens count on: then \
             the epoch must be raised",
            "run an ensemble of three servers on three machines",
        ),
        Some(mode) => findings.ok(format!("a {mode} of an ensemble")),
        None => {}
    }
}
