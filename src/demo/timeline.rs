//! The time line in the terminal: a line for each event, with four lanes to its left. What the lanes show:
//!
//! ```text
//!            A  L  B  S    A and B, the lock service between them, the store
//!   0.051 s  ●──►  │  │    somebody asks somebody
//!   0.060 s  ▒  A  │  │    A is stopped; who has the lock
//!   2.285 s  ●──────────×  refused
//! ```
//!
//! It is at most 80 columns wide for the demo's own names, and says everything without colour.

use std::sync::Mutex;

use super::event::{Event, Happening, Who, list};

/// Its first line.
pub const HEAD: &str = "   time     A  L  B  S   A, B: the writers  L: the lock service  S: the store";

/// The columns of the lanes.
const WIDTH: usize = 10;

/// A time line as it grows.
#[derive(Debug)]
pub struct Timeline {
    colour: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    started: [bool; 2],
    asleep: bool,
    dead: bool,
    holder: Option<Who>,
}

impl Timeline {
    /// One in colours, or in black and white.
    pub fn new(colour: bool) -> Self {
        Self {
            colour,
            state: Mutex::default(),
        }
    }

    /// The line of an event, or nothing for one that another event tells as well.
    pub fn line(&self, event: &Event) -> Option<String> {
        let mut state = self.state.lock().expect("nothing panics while it draws");
        state.change(event);
        let (lanes, text) = (state.lanes(event), text(event)?);
        let line = format!("{:>8.3} s  {lanes}   {text}", event.at.as_secs_f64());
        Some(match (self.colour, colour(&event.happening)) {
            (true, Some(colour)) => format!("\x1b[{colour}m{line}\x1b[0m"),
            _ => line,
        })
    }
}

/// Red for what goes wrong, green for what goes well, yellow for what is done to A.
fn colour(happening: &Happening) -> Option<&'static str> {
    use Happening as H;
    Some(match happening {
        H::Refused { .. } | H::NotGranted { .. } | H::NotSealed { .. } => "1;31",
        H::SessionOver { committed: false } => "1;31",
        H::Wrote { .. } => "32",
        H::Over { .. } | H::NotRenewed { .. } | H::SessionGoesOn | H::SessionOver { .. } => "33",
        H::Stopped | H::Woken | H::Cut | H::Mended | H::Killed | H::HeldUp => "33",
        H::ClockJumped { .. } | H::LostWrites { .. } => "33",
        _ => return None,
    })
}

impl State {
    fn lanes(&self, event: &Event) -> String {
        let mut lanes = [' '; WIDTH];
        for (writer, who) in [Who::A, Who::B].into_iter().enumerate() {
            lanes[column(who)] = match (self.started[writer], who) {
                (false, _) => ' ',
                (true, Who::A) if self.dead => ' ',
                (true, Who::A) if self.asleep => '▒',
                (true, _) => '│',
            };
        }
        lanes[column(Who::Lock)] = match self.holder {
            Some(Who::A) => 'A',
            Some(Who::B) => 'B',
            _ => '·',
        };
        lanes[column(Who::Store)] = '│';
        self.arrow(event, &mut lanes);
        lanes.iter().collect()
    }

    fn change(&mut self, event: &Event) {
        use Happening as H;
        match (event.who, &event.happening) {
            (Who::A, _) => self.started[0] = true,
            (Who::B, _) => self.started[1] = true,
            (_, H::Stopped) => self.asleep = true,
            (_, H::Woken) => self.asleep = false,
            (_, H::Killed) => self.dead = true,
            (_, H::Locked { to, .. }) => self.holder = Some(*to),
            (_, H::Over { of } | H::Freed { of }) if self.holder == Some(*of) => self.holder = None,
            _ => {}
        }
    }

    fn arrow(&self, event: &Event, lanes: &mut [char; WIDTH]) {
        use Happening as H;
        let who = event.who;
        let (from, to, head) = match &event.happening {
            H::Asks | H::Released => (who, Who::Lock, None),
            H::Holds { .. } => (Who::Lock, who, None),
            H::NotGranted { .. } => (who, Who::Lock, Some('×')),
            H::NotRenewed { .. } => {
                lanes[column(who)] = '●';
                lanes[column(who) + 1] = '─';
                lanes[column(who) + 2] = '×';
                return;
            }
            H::Read { .. } => (Who::Store, who, None),
            H::Wrote { .. } | H::Sends { .. } => (who, Who::Store, None),
            H::Refused { .. } => (who, Who::Store, Some('×')),
            H::Sealed { .. } => (Who::Lock, Who::Store, None),
            H::NotSealed { .. } => (Who::Lock, Who::Store, Some('×')),
            H::Killed => {
                lanes[column(Who::A)] = '×';
                return;
            }
            H::Cut => {
                lanes[column(Who::A) + 1] = '×';
                return;
            }
            H::SessionGoesOn | H::SessionOver { .. } => {
                lanes[column(Who::Store)] = '●';
                return;
            }
            _ => return,
        };
        let (from, to) = (column(from), column(to));
        for lane in &mut lanes[from.min(to)..=from.max(to)] {
            *lane = '─';
        }
        lanes[from] = '●';
        lanes[to] = head.unwrap_or(if from < to { '►' } else { '◄' });
    }
}

/// Where a lane is.
fn column(who: Who) -> usize {
    match who {
        Who::A | Who::Demo => 0,
        Who::Lock => 3,
        Who::B => 6,
        Who::Store => 9,
    }
}

/// What happened, in words.
fn text(event: &Event) -> Option<String> {
    use Happening as H;
    let who = event.who;
    Some(match &event.happening {
        H::Asks => format!("{who} asks for the fence"),
        H::Holds { token, ttl_ms } => {
            format!("{who} holds token {token}, for {} s", *ttl_ms as f64 / 1000.0)
        }
        H::NotGranted { status, problem } => format!("{who}'s grant is REFUSED: {status} {problem}"),
        H::Read { ledger } => format!("{who} reads {}", list(ledger)),
        H::NotRenewed { status, problem } => format!("{who} cannot renew: {status} {problem}"),
        H::Sends { token, ledger } => {
            format!("{who} sends a transaction, {} with {token}", list(ledger))
        }
        H::Wrote { token, ledger, .. } => format!("{who} writes {} with {token}: accepted", list(ledger)),
        H::Refused {
            token,
            ledger,
            status,
            problem,
            ..
        } => format!(
            "{who} writes {} with {token}: REFUSED {status} {problem}",
            list(ledger)
        ),
        H::Released => format!("{who} releases the fence"),
        H::Locked { to, sequence } => format!("the lock is {to}'s, as number {sequence}"),
        H::Over { of } => format!("{of}'s lock is over"),
        // Told by who released it.
        H::Freed { .. } => return None,
        H::Sealed { token } => format!("the mark is {token}"),
        H::NotSealed { token } => format!("{token} is not sealed: another holder has it"),
        H::Stopped => "A is stopped with SIGSTOP".into(),
        H::Woken => "A is woken with SIGCONT: it believes in its lock".into(),
        H::Cut => "A is cut off from the lock service".into(),
        H::Mended => "A reaches the lock service again".into(),
        H::ClockJumped { how } => format!("L lets A's lock go: {how}"),
        H::LostWrites { how } => format!("Redis forgets: {how}"),
        H::HeldUp => "A's grant is held up, between lock and seal".into(),
        H::Killed => "A is killed with SIGKILL".into(),
        H::SessionGoesOn => "A's transaction goes on in the database".into(),
        H::SessionOver { committed: true } => "A's transaction commits".into(),
        H::SessionOver { committed: false } => "A's session was ENDED: its work is undone".into(),
    })
}
