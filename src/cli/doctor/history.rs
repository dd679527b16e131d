//! Whether the store's epoch and marks belong to the lock service that is named.

use fencegate::{
    Locks,
    lock::{Kind, Server},
    store::EpochState,
    token::Mark,
};

use super::finding::{Findings, Severity};

/// How many fences are asked for at a time.
const PAGE: u32 = 1000;

pub(super) async fn look(locks: &Locks, servers: &[Server]) -> anyhow::Result<Findings> {
    let mut findings = Findings::of("history");
    let epoch = locks.store().epoch_as_stored().await?;
    if let Some(why) = locks.store().quarantine().await? {
        findings.add(
            Severity::Unsafe,
            why,
            "old holders could pass, so nothing is written and no lease is granted",
            "raise the epoch: fencegate rebase --reason TEXT",
        );
    }
    let found = match locks.service().identity().await {
        Ok(found) => found,
        Err(error) => {
            findings.add(
                Severity::Unsafe,
                format!("the lock service cannot be asked: {error}"),
                "no lease is granted",
                "see what is said of its servers",
            );
            return Ok(findings);
        }
    };
    match &epoch.bound {
        None => findings.add(
            Severity::Note,
            format!("epoch {} is not bound to a lock service yet", epoch.epoch),
            "the first lease binds it to whichever it is granted by",
            "",
        ),
        Some(bound) if *bound == found => {
            findings.ok(format!(
                "epoch {} belongs to this lock service: {found}",
                epoch.epoch
            ));
            marks(&mut findings, locks, &epoch, servers).await?;
        }
        Some(bound) => findings.add(
            Severity::Unsafe,
            format!("epoch {} belongs to {bound}, and this is {found}", epoch.epoch),
            "numbers of two histories cannot be compared, so no lease is granted",
            "point --locks at the former, or raise the epoch: fencegate rebase --reason TEXT",
        ),
    }
    Ok(findings)
}

/// A lock service with one counter for all must have counted beyond every mark of the epoch.
async fn marks(
    findings: &mut Findings,
    locks: &Locks,
    epoch: &EpochState,
    servers: &[Server],
) -> anyhow::Result<()> {
    let kind = locks.service().kind();
    if !matches!(kind, Kind::Etcd | Kind::Zookeeper) {
        findings.ok(format!("{kind} counts on from each fence's mark"));
        return Ok(());
    }
    let counted = servers
        .iter()
        .filter_map(|server| server.facts.as_ref().ok()?.counter)
        .max();
    let Some(counted) = counted else {
        findings.add(
            Severity::Note,
            format!("how far {kind} has counted cannot be told"),
            "whether its history went back shows with the next lease",
            "",
        );
        return Ok(());
    };
    match highest(locks, epoch).await? {
        Some(mark) if mark.sequence.get() > counted => findings.add(
            Severity::Unsafe,
            format!("{kind} has counted to {counted}, and there is a mark {mark} above it"),
            "its history went back: it was restored from a backup, or what answers is not the cluster that it was. New \
             holders would be refused as stale",
            "bring the cluster's newest data back, or raise the epoch: fencegate rebase --reason TEXT",
        ),
        Some(mark) => findings.ok(format!("{kind} has counted to {counted}, beyond the highest mark {mark}")),
        None => findings.ok("there are no marks in this epoch yet"),
    }
    Ok(())
}

async fn highest(locks: &Locks, epoch: &EpochState) -> anyhow::Result<Option<Mark>> {
    let mut highest: Option<Mark> = None;
    let mut after = String::new();
    loop {
        let fences = locks.store().fences("", &after, PAGE).await?;
        let Some(last) = fences.last() else {
            return Ok(highest);
        };
        after = last.name.to_string();
        let marks = fences
            .iter()
            .map(|fence| fence.mark)
            .filter(|mark| mark.epoch == epoch.epoch);
        highest = marks.chain(highest).max_by_key(Mark::number);
    }
}
