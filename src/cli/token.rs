//! The token to show: from a file, from the command line, or from the environment, where `run` puts it.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Args;
use fencegate::Token;

/// No token file has more bytes.
const LONGEST: u64 = 1024;

#[derive(Args)]
#[command(next_help_heading = "Token")]
pub(super) struct ShownToken {
    /// The lease's token. Whoever lists this machine's processes sees it there: better FENCEGATE_TOKEN, which is
    /// looked at when neither flag is given, or a file
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    token: Option<String>,
    /// A file with the token in it; - for the standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl ShownToken {
    /// The token.
    pub(super) fn get(&self) -> anyhow::Result<Token> {
        let (text, place) = match (&self.token_file, &self.token) {
            (Some(file), _) => (read(file)?, "--token-file"),
            (None, Some(token)) => (token.clone(), "--token"),
            (None, None) => match std::env::var("FENCEGATE_TOKEN") {
                Ok(token) if !token.is_empty() => (token, "FENCEGATE_TOKEN"),
                _ => super::usage(
                    "no token: set FENCEGATE_TOKEN, or give --token-file FILE (- for the standard input)",
                ),
            },
        };
        // Not with the text: it is a credential.
        text.trim_end_matches(['\n', '\r'])
            .parse()
            .with_context(|| format!("what {place} gives is no token"))
    }

    /// Whether the standard input has the token, and nothing else then.
    pub(super) fn takes_stdin(&self) -> bool {
        self.token_file.as_deref() == Some(Path::new("-"))
    }
}

fn read(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(LONGEST).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|open| open.take(LONGEST).read_to_string(&mut text))
    };
    read.with_context(|| format!("reading the token from {}", file.display()))?;
    Ok(text)
}
