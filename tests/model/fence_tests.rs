//! What the model of a fence comes to, as it is and with each defect.

use super::{
    explore,
    fence::{Defect, Fence, Left},
};

fn holds(what: &str, left: Left, floor: bool, at_least: usize) {
    let model = Fence {
        left,
        floor,
        defect: None,
    };
    explore::holds(what, model, at_least);
}

#[test]
fn promises_hold_while_histories_go_on() {
    let left = Left {
        acquisitions: if explore::large() { 4 } else { 3 },
        forced: 1,
        ..Left::default()
    };
    holds("histories that go on", left, false, 50_000);
}

#[test]
fn promises_hold_when_the_lock_service_goes_back() {
    let left = Left {
        acquisitions: 3,
        regressions: 1,
        replacements: 1,
        rebases: 2,
        forced: u8::from(explore::large()),
        ..Left::default()
    };
    holds("a lock service that goes back", left, false, 1_000_000);
    holds("and counts on from the mark", left, true, 1_000_000);
}

#[test]
fn promises_hold_when_a_standby_takes_over() {
    let left = Left {
        acquisitions: if explore::large() { 3 } else { 2 },
        regressions: 1,
        rebases: 2,
        replications: 1,
        failovers: 1,
        ..Left::default()
    };
    holds("a standby that takes over", left, false, 100_000);
}

fn breaks(defect: Defect, left: Left, promise: &'static str) {
    let model = Fence {
        left,
        floor: false,
        defect: Some(defect),
    };
    explore::breaks(defect, model, promise);
}

#[test]
fn each_defect_is_found() {
    let plain = Left {
        acquisitions: 2,
        ..Left::default()
    };
    let back = Left {
        acquisitions: 3,
        regressions: 1,
        replacements: 1,
        rebases: 1,
        ..Left::default()
    };
    let over = Left {
        acquisitions: 3,
        rebases: 1,
        replications: 1,
        failovers: 1,
        ..Left::default()
    };
    let forced = Left { forced: 1, ..plain };
    breaks(Defect::SealAfterHandingOut, plain, "sealed on grant");
    breaks(Defect::SealByFirstWrite, plain, "sealed on grant");
    breaks(Defect::HigherIsBelieved, plain, "no forged advance");
    breaks(Defect::HolderIgnored, plain, "no forged advance");
    breaks(Defect::HolderIgnored, plain, "released is dead");
    breaks(Defect::SealDownwards, back, "monotone");
    breaks(Defect::NoLockWhileWriting, plain, "sealed on grant");
    breaks(Defect::NoLockWhileWriting, plain, "monotone");
    breaks(Defect::ReleaseWithoutRetire, plain, "released is dead");
    breaks(Defect::ForceLeavesMark, forced, "released is dead");
    breaks(Defect::ForceLeavesUnsealed, forced, "released is dead");
    breaks(Defect::RenewalTakesBack, plain, "no resurrection");
    let promise = "nobody from a history that was left";
    breaks(Defect::TimelineIgnored, over, promise);
    let twice = Left {
        acquisitions: 2,
        rebases: 2,
        ..over
    };
    breaks(Defect::EpochsRepeat, twice, "sealed on grant");
    breaks(Defect::SealIgnoresEpoch, back, promise);
    breaks(Defect::EpochReadLate, back, promise);
    breaks(Defect::RebaseLeavesMarks, back, promise);
}
