//! Fences that a `run` around this process holds.
//!
//! A run within a run of the same fence would wait for itself. So each tells what runs under it which fences are held,
//! with their tokens, in one variable: names and tokens have no slashes, and one stands between any two of them. It
//! is not believed: the same name may be another fence, elsewhere, so the token is looked at where the fence is.

use fencegate::{FenceName, Token};
use tokio::process::Command;

const VARIABLE: &str = "FENCEGATE_HELD_LEASES";

/// The fences and their tokens, the innermost last.
#[derive(Clone, Default)]
pub(super) struct HeldAround(Vec<(FenceName, Token)>);

impl HeldAround {
    pub(super) fn from_environment() -> Self {
        Self::parse(&std::env::var(VARIABLE).unwrap_or_default())
    }

    /// What cannot be read is left out: the fence is then acquired as by anybody else.
    fn parse(text: &str) -> Self {
        let parts: Vec<&str> = text.split('/').collect();
        let held = parts.chunks_exact(2);
        Self(
            held.filter_map(|held| Some((held[0].parse().ok()?, held[1].parse().ok()?)))
                .collect(),
        )
    }

    /// The token of a fence that is held.
    pub(super) fn token(&self, fence: &FenceName) -> Option<&Token> {
        let held = self.0.iter().rev().find(|held| held.0 == *fence);
        held.map(|held| &held.1)
    }

    /// With one more.
    pub(super) fn with(mut self, fence: &FenceName, token: &Token) -> Self {
        self.0.push((fence.clone(), token.clone()));
        self
    }

    /// Tells a command.
    pub(super) fn hand_on(&self, command: &mut Command) {
        command.env(VARIABLE, self.text());
    }

    fn text(&self) -> String {
        let held = self
            .0
            .iter()
            .map(|(fence, token)| format!("{fence}/{}", token.expose()));
        held.collect::<Vec<_>>().join("/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_it_was_written() {
        let token = |n: u8| format!("1-{n}-{:032x}", 7).parse::<Token>().unwrap();
        let [a, b] = ["a b:ü", "b"].map(|name| name.parse::<FenceName>().unwrap());
        let held = HeldAround::default()
            .with(&a, &token(1))
            .with(&b, &token(2))
            .with(&a, &token(3));
        let read = HeldAround::parse(&held.text());
        assert_eq!(read.token(&a), Some(&token(3)));
        assert_eq!(read.token(&b), Some(&token(2)));
        for broken in ["", "/", "a", "a/1-1", "a/1-1-x/b", "//"] {
            assert!(HeldAround::parse(broken).0.is_empty(), "{broken}");
        }
    }
}
