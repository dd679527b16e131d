//! A run as rows, from the top down: first where each is, and what lasts from one to another; then all is drawn, bars
//! below arrows below text.

use std::{collections::HashMap, time::Duration};

use super::{
    TIMES,
    canvas::{Anchor, Canvas},
    lane,
};
use crate::demo::{
    Run,
    event::{Event, Happening, Who, list},
};

/// The height of a row.
const ROW: f64 = 25.0;
/// The most that a wait adds to it.
const LONGEST_WAIT: f64 = 56.0;
/// Between a lane and the text beside it.
const BESIDE: f64 = 15.0;

/// What lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Lasting {
    /// A writer waits for the lock.
    Waits(Who),
    /// A writer believes that it has a lease.
    Believes(Who),
    /// A writer has the lock.
    Has(Who),
    /// A is stopped.
    Stopped,
    /// A is cut off.
    Cut,
    /// A's transaction goes on.
    Session,
}

/// What is drawn of a run.
pub(super) struct Rows<'a> {
    top: f64,
    end: f64,
    rows: Vec<(f64, &'a Event)>,
    bars: Vec<(Lasting, f64, f64)>,
    /// Where A's life ends, if it does.
    death: Option<f64>,
}

impl<'a> Rows<'a> {
    pub(super) fn of(run: &'a Run, top: f64) -> Self {
        let (mut y, mut before) = (top, Duration::ZERO);
        let (mut rows, mut bars, mut open) = (Vec::new(), Vec::new(), HashMap::new());
        let mut death = None;
        for event in &run.events {
            let wait = event.at.saturating_sub(before).as_secs_f64();
            before = event.at;
            if has_row(&event.happening) {
                y += ROW + (wait * 28.0).min(LONGEST_WAIT);
                rows.push((y, event));
            } else {
                y += 5.0;
            }
            if event.happening == Happening::Killed {
                death = Some(y);
            }
            let (begins, ends) = changes(event);
            for ended in ends {
                bars.extend(open.remove(&ended).map(|from| (ended, from, y)));
            }
            for begun in begins {
                open.entry(begun).or_insert(y);
            }
        }
        let end = y + 16.0;
        bars.extend(open.into_iter().map(|(lasting, from)| (lasting, from, end)));
        Self {
            top,
            end,
            rows,
            bars,
            death,
        }
    }

    pub(super) fn end(&self) -> f64 {
        self.end
    }

    pub(super) fn draw(&self, canvas: &mut Canvas) {
        for who in [Who::A, Who::Lock, Who::B, Who::Store] {
            let end = self.death.filter(|_| who == Who::A).unwrap_or(self.end);
            canvas.line("lane", (lane(who), self.top), (lane(who), end));
        }
        for (lasting, from, to) in &self.bars {
            bar(canvas, *lasting, *from, *to);
        }
        for (y, event) in &self.rows {
            let time = format!("{:.3}", event.at.as_secs_f64());
            canvas.text("time f-dim", TIMES, y + 4.0, Anchor::End, &time);
            row(canvas, *y, event);
        }
    }
}

/// Whether it is drawn, or seen by what begins and ends with it.
fn has_row(happening: &Happening) -> bool {
    !matches!(happening, Happening::Locked { .. } | Happening::Freed { .. })
}

/// What begins with it, and what ends.
fn changes(event: &Event) -> (Vec<Lasting>, Vec<Lasting>) {
    use Happening as H;
    use Lasting as L;
    let who = event.who;
    match &event.happening {
        H::Asks => (vec![L::Waits(who)], vec![]),
        H::Holds { .. } => (vec![L::Believes(who)], vec![L::Waits(who)]),
        H::NotGranted { .. } => (vec![], vec![L::Waits(who)]),
        H::Refused { .. } | H::Released => (vec![], vec![L::Believes(who)]),
        H::Killed => (vec![], vec![L::Believes(Who::A)]),
        H::Locked { to, .. } => (vec![L::Has(*to)], vec![]),
        H::Over { of } | H::Freed { of } => (vec![], vec![L::Has(*of)]),
        H::Stopped => (vec![L::Stopped], vec![]),
        H::Woken => (vec![], vec![L::Stopped]),
        H::Cut => (vec![L::Cut], vec![]),
        H::Mended => (vec![], vec![L::Cut]),
        H::SessionGoesOn => (vec![L::Session], vec![]),
        H::SessionOver { .. } => (vec![], vec![L::Session]),
        _ => (vec![], vec![]),
    }
}

/// Where A is cut off: beside the labels of its arrows.
fn cut() -> f64 {
    lane(Who::Lock) - 24.0
}

fn colour(who: Who) -> &'static str {
    match who {
        Who::A => "a",
        Who::B => "b",
        _ => "ink",
    }
}

fn bar(canvas: &mut Canvas, lasting: Lasting, from: f64, to: f64) {
    match lasting {
        Lasting::Waits(who) => canvas.line(
            &format!("waits s-{}", colour(who)),
            (lane(who), from),
            (lane(who), to),
        ),
        Lasting::Believes(who) => {
            canvas.bar(&format!("belief f-{}", colour(who)), lane(who), (from, to), 14.0);
        }
        Lasting::Has(who) => {
            canvas.bar(&format!("f-{}", colour(who)), lane(Who::Lock), (from, to), 14.0);
            if to - from > 20.0 {
                // Clear of the arrows, which are at the ends and at other rows' middles.
                canvas.text(
                    "small strong letter",
                    lane(Who::Lock),
                    from + 13.5,
                    Anchor::Middle,
                    &who.to_string(),
                );
            }
        }
        Lasting::Stopped => canvas.bar("hatched s-odd", lane(Who::A), (from, to), 14.0),
        Lasting::Cut => canvas.bar("hatched s-odd", cut(), (from, to), 10.0),
        Lasting::Session => canvas.bar("hatched s-odd", lane(Who::Store), (from, to), 14.0),
    }
}

fn row(canvas: &mut Canvas, y: f64, event: &Event) {
    use Happening as H;
    let who = event.who;
    let mine = colour(who);
    match &event.happening {
        H::Asks => arrow(canvas, mine, who, Who::Lock, y, "acquire"),
        H::Holds { token, .. } => {
            let label = format!("token {token}");
            arrow(canvas, mine, Who::Lock, who, y, &label);
        }
        H::NotGranted { status, problem } => {
            arrow(canvas, "bad", Who::Lock, who, y, &format!("{status} {problem}"));
        }
        H::Sealed { token } => arrow(canvas, "ink", Who::Lock, Who::Store, y, &format!("seal {token}")),
        H::NotSealed { token } => {
            arrow(canvas, "bad", Who::Lock, Who::Store, y, &format!("seal {token}"));
            beside(canvas, "f-bad strong", Who::Store, y, "REFUSED");
        }
        H::Read { ledger } => {
            arrow(
                canvas,
                mine,
                Who::Store,
                who,
                y,
                &format!("read {}", list(ledger)),
            );
        }
        H::Sends { token, ledger } => {
            arrow(canvas, mine, who, Who::Store, y, &write(ledger, token));
        }
        H::Wrote { token, ledger, .. } => {
            arrow(canvas, mine, who, Who::Store, y, &write(ledger, token));
            beside(canvas, "f-good strong", Who::Store, y, "accepted");
        }
        H::Refused {
            token,
            ledger,
            status,
            problem,
            ..
        } => {
            arrow(canvas, "bad", who, Who::Store, y, &write(ledger, token));
            canvas.cross("bad", lane(Who::Store), y);
            beside(canvas, "f-bad strong", Who::Store, y - 5.0, "REFUSED");
            beside(
                canvas,
                "f-bad small",
                Who::Store,
                y + 8.0,
                &format!("{status} {problem}"),
            );
        }
        H::NotRenewed { .. } => {
            let end = cut();
            canvas.line("way s-bad", (lane(who), y), (end - 6.0, y));
            canvas.cross("bad", end, y);
            canvas.text(
                "f-bad",
                f64::midpoint(lane(who), end),
                y - 5.0,
                Anchor::Middle,
                "renew",
            );
        }
        H::Released => arrow(canvas, mine, who, Who::Lock, y, "release"),
        H::Over { of } => beside(canvas, "f-odd", Who::Lock, y, &format!("{of}'s lock is over")),
        H::ClockJumped { .. } => beside(canvas, "f-odd", Who::Lock, y, "the clock jumps"),
        H::LostWrites { .. } => beside(canvas, "f-odd", Who::Lock, y, "lock and count are lost"),
        H::HeldUp => beside(canvas, "f-odd", Who::A, y, "its grant is held up"),
        H::Stopped => beside(canvas, "f-odd", Who::A, y, "stopped: SIGSTOP"),
        H::Woken => beside(canvas, "f-odd", Who::A, y, "woken: SIGCONT"),
        H::Cut => beside(canvas, "f-odd", Who::A, y, "cut off"),
        H::Mended => beside(canvas, "f-odd", Who::A, y, "mended"),
        H::Killed => {
            canvas.cross("bad", lane(Who::A), y);
            beside(canvas, "f-bad", Who::A, y, "killed: SIGKILL");
        }
        H::SessionGoesOn => beside(canvas, "f-odd", Who::Store, y, "A's goes on"),
        H::SessionOver { committed: true } => beside(canvas, "f-bad strong", Who::Store, y, "A's commits"),
        H::SessionOver { committed: false } => beside(canvas, "f-good strong", Who::Store, y, "A's is ended"),
        H::Locked { .. } | H::Freed { .. } => {}
    }
}

/// What an arrow says that writes: as much as has room beside a lane, with the long numbers of ZooKeeper too.
fn write(ledger: &[String], token: &str) -> String {
    let text = format!("write {}, token {token}", list(ledger));
    match text.len() {
        0..=25 => text,
        _ => format!("write {}, {token}", list(ledger)),
    }
}

/// With its label over the part of it that is next to its writer, or to its beginning.
fn arrow(canvas: &mut Canvas, colour: &str, from: Who, to: Who, y: f64, label: &str) {
    let (start, end) = (lane(from), lane(to));
    let towards = if start < end { BESIDE } else { -BESIDE };
    canvas.arrow(colour, start + towards / 2.0, end - towards / 2.0, y);
    let next = [Who::A, Who::Lock, Who::B, Who::Store]
        .into_iter()
        .map(lane)
        .filter(|x| (*x - start) * towards > 0.0)
        .min_by(|x, y| (x - start).abs().total_cmp(&(y - start).abs()));
    let middle = f64::midpoint(start, next.unwrap_or(end));
    canvas.text(&format!("f-{colour}"), middle, y - 5.0, Anchor::Middle, label);
}

fn beside(canvas: &mut Canvas, class: &str, who: Who, y: f64, text: &str) {
    canvas.text(class, lane(who) + BESIDE, y + 4.0, Anchor::Start, text);
}
