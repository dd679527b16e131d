//! What can be set from outside: `ROUNDS=9 SECONDS=10 make bench`.

use std::time::Duration;

/// How often and how long.
pub struct Settings {
    /// How often everything that is compared is measured. The median of the ratios counts.
    pub rounds: usize,
    /// How long each measurement lasts.
    pub time: Duration,
    /// `gateway`, `guard`, `beside`: what is measured. All of it unless something is named in `ONLY`.
    only: Option<String>,
    /// Whether this is to try the program, and not to be quoted.
    pub short: bool,
}

impl Settings {
    pub fn read() -> Self {
        let rounds = number("ROUNDS", 5);
        let seconds = number("SECONDS", 5);
        Self {
            rounds: usize::try_from(rounds.max(1)).expect("ROUNDS"),
            time: Duration::from_secs(seconds.max(1)),
            only: std::env::var("ONLY").ok().filter(|only| !only.is_empty()),
            short: rounds < 5 || seconds < 5,
        }
    }

    pub fn wants(&self, part: &str) -> bool {
        self.only
            .as_ref()
            .is_none_or(|only| only.split([',', ' ']).any(|wanted| wanted == part))
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not {text:?}"))
    })
}
