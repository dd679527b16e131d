//! What the model of Redlock comes to, as it is and with each defect.

use super::{
    explore,
    redlock::{Defect, Left, Redlock},
};

const LEFT: Left = Left {
    acquisitions: 2,
    repeats: 0,
    losses: 1,
};

#[test]
fn ballots_rise_and_have_one_holder_each() {
    let left = Left {
        acquisitions: if explore::large() { 3 } else { 2 },
        repeats: 1,
        ..LEFT
    };
    explore::holds("redlock", Redlock { left, defect: None }, 100_000);
}

fn breaks(defect: Defect, promise: &'static str) {
    let model = Redlock {
        left: LEFT,
        defect: Some(defect),
    };
    explore::breaks(defect, model, promise);
}

#[test]
fn each_defect_is_found() {
    breaks(Defect::NoMajority, "a ballot has one holder");
    breaks(Defect::NoSecondRound, "a ballot has one holder");
    breaks(Defect::NumberForAnybody, "a ballot has one holder");
    breaks(Defect::BallotsFall, "ballots rise");
    breaks(Defect::LostDataVotes, "ballots rise");
}
