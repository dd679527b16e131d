//! The picture of what happened: time runs down, with a lane for each writer, for the lock service and for the store.
//!
//! On the lanes of the writers, a light bar is as long as a writer believes that it has a lease, and hatching is where
//! it was stopped. On the lane of the lock service, a bar is as long as a writer really had the lock. Each event has a
//! row of its own, so that no label meets another; long waits are drawn shorter than they were.

mod canvas;
mod rows;

use self::{
    canvas::{Anchor, Canvas},
    rows::Rows,
};
use super::{Guard, Plan, Run, Who};
use fencegate::lock::Kind;

const WIDTH: f64 = 920.0;

/// Where the time stamps end.
const TIMES: f64 = 78.0;

/// Where a lane is.
fn lane(who: Who) -> f64 {
    match who {
        Who::A | Who::Demo => 130.0,
        Who::Lock => 335.0,
        Who::B => 540.0,
        Who::Store => 745.0,
    }
}

/// Draws the runs, one below the other.
pub fn picture(plan: &Plan, locks: Kind, runs: &[Run]) -> String {
    let mut canvas = Canvas::default();
    let mut y = 34.0;
    for run in runs {
        let title = match run.guard {
            Guard::Fenced => format!("With fencegate: {}", plan.scenario.headline()),
            Guard::Unfenced => "The same without the guard: whoever writes is believed".to_owned(),
        };
        canvas.text("title f-ink", 24.0, y, Anchor::Start, &title);
        y = draw(&mut canvas, run, locks, y + 34.0) + 48.0;
    }
    let foot = "Times are the recorded ones, in seconds. Long waits are drawn shorter than they were.";
    canvas.text("small f-dim", 24.0, y - 14.0, Anchor::Start, foot);
    let counts: Vec<_> = runs.iter().map(|run| run.outcome.count()).collect();
    let description = format!(
        "{}. With the guard: {}. Without: {}.",
        plan.scenario.headline(),
        counts.first().map_or("", String::as_str),
        counts.get(1).map_or("", String::as_str)
    );
    canvas.finish(WIDTH, y + 4.0, "fencegate demo", &description)
}

/// Draws one run, and answers with where it ends.
fn draw(canvas: &mut Canvas, run: &Run, locks: Kind, top: f64) -> f64 {
    for (who, name) in [
        (Who::A, "writer A".to_owned()),
        (Who::Lock, format!("lock service: {locks}")),
        (Who::B, "writer B".to_owned()),
        (Who::Store, "store".to_owned()),
    ] {
        canvas.text("head f-ink", lane(who), top, Anchor::Middle, &name);
    }
    let rows = Rows::of(run, top + 12.0);
    rows.draw(canvas);
    let y = rows.end() + 26.0;
    let class = match run.outcome.lost().is_empty() {
        true => "title f-good",
        false => "title f-bad",
    };
    canvas.text(class, WIDTH - 24.0, y, Anchor::End, &run.outcome.count());
    y
}
