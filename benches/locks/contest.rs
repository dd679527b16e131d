//! One row: ours and theirs in turn, round after round.

use crate::{
    ours::{self, Load, Sealed},
    setting::Settings,
    table::{Better, Row, count, median},
};

/// What is compared, and what it must come to.
pub struct Contest<'a> {
    /// As in "etcd".
    pub service: &'static str,
    pub load: Load,
    pub against: &'static str,
    pub must: f64,
    pub aim: f64,
    pub locks: &'a ours::Service,
    /// The same lock service under a store.
    pub sealed: &'a Sealed,
}

impl Contest<'_> {
    /// `theirs` gives the other one's cycles a second.
    pub async fn row(
        self,
        settings: &Settings,
        mut theirs: impl AsyncFnMut(Load) -> f64,
    ) -> (Row, (String, String)) {
        // Both warm: connections, sessions, compiled code.
        theirs(self.load).await;
        ours::cycles(self.locks, self.load, settings.time).await;
        let (mut ratios, mut mine, mut other, mut sealed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for round in 0..settings.rounds {
            // Neither always comes first.
            let (ours, theirs) = if round % 2 == 0 {
                let ours = ours::cycles(self.locks, self.load, settings.time).await;
                (ours, theirs(self.load).await)
            } else {
                let theirs = theirs(self.load).await;
                (ours::cycles(self.locks, self.load, settings.time).await, theirs)
            };
            ratios.push(ours / theirs);
            mine.push(ours);
            other.push(theirs);
            sealed.push(self.sealed.cycles(self.load, settings.time).await);
        }
        let what = format!("acquire and release, {}, {}", self.service, self.load);
        let row = Row {
            what: what.clone(),
            against: self.against.into(),
            must: self.must,
            aim: self.aim,
            better: Better::Higher,
            unit: "x",
            figures: format!("{}/s, {}/s", count(median(&mine)), count(median(&other))),
            ratios,
        };
        let beside = (
            format!("{what}: sealed in Postgres"),
            format!("{}/s", count(median(&sealed))),
        );
        (row, beside)
    }
}
