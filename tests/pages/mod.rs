//! Pages of docs/ whose commands are run as they stand there, and print what the page shows.

mod adopting;
mod http;
mod links;

use std::{path::Path, process::Command};

use regex::Regex;

use crate::gateway::program::Program;

/// A command of a page, and what it prints.
pub struct Example {
    pub command: String,
    pub printed: String,
}

/// What stands in a page's `console` blocks.
pub fn examples(page: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let blocks = page.split("```console\n").skip(1);
    for line in blocks.flat_map(|block| block.split("```").next().unwrap().lines()) {
        match examples.last_mut() {
            Some(last) if last.printed.is_empty() && goes_on(&last.command) => {
                last.command.push('\n');
                last.command.push_str(line);
            }
            Some(last) if !line.starts_with("$ ") => {
                last.printed.push_str(line);
                last.printed.push('\n');
            }
            _ => examples.push(Example {
                command: line.strip_prefix("$ ").unwrap().into(),
                printed: String::new(),
            }),
        }
    }
    examples
}

/// Whether the next line belongs to this command, too.
fn goes_on(command: &str) -> bool {
    let (first, last) = (
        command.lines().next().unwrap(),
        command.lines().next_back().unwrap(),
    );
    match first.split_once("<<'") {
        Some((_, end)) => last != end.trim_end_matches('\''),
        None => last.ends_with('\\') || command.matches('\'').count() % 2 == 1,
    }
}

/// Runs all of a page's commands in one shell, since they set variables for each other, and holds what they print
/// against the page.
pub fn run(page: &str, program: &Program, environment: &[(&str, &str)], replace: (&str, &str)) {
    let examples = examples(page);
    let end = "-- end of an example --";
    let commands = examples
        .iter()
        .map(|example| format!("{}\necho '{end}'\n", example.command));
    let script = format!("exec 2>&1\n{}", commands.collect::<String>()).replace(replace.0, replace.1);
    let mut shell = Command::new("sh");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FENCEGATE_")) {
        shell.env_remove(name);
    }
    let ours = Path::new(env!("CARGO_BIN_EXE_fencegate")).parent().unwrap();
    let psql = crate::support::postgres::command("psql");
    let psql = Path::new(psql.get_program()).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{}:{path}", ours.display(), psql.display());
    let output = shell
        .args(["-c", &script])
        .current_dir(program.folder.path())
        .env_remove("DATABASE_URL")
        .envs(environment.iter().copied())
        .env("PATH", path)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout)
        .unwrap()
        .replace(replace.1, replace.0);
    let printed: Vec<&str> = text.split(&format!("{end}\n")).collect();
    assert_eq!(printed.len(), examples.len() + 1, "{text}");
    for (example, printed) in examples.iter().zip(printed) {
        assert_eq!(
            shape(printed),
            shape(&example.printed),
            "$ {}\n{printed}",
            example.command
        );
    }
}

/// A text without what differs from run to run, and without spaces and line breaks, so that a page may wrap lines.
fn shape(text: &str) -> String {
    let varying = [
        (r"\d{4}-\d\d-\d\d[T ][0-9:.]+(Z|\+00)", "<time>"),
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<uuid>"),
        (r"[0-9a-f]{32}", "<holder>"),
        (r"\b(\d+(ms|us|s|m)\b ?)+", "<duration>"),
        (r"postgres \w+ at [\w.:]+", "<store>"),
        (r#""(id|count|next)":"?\d+"?"#, "\"$1\":<number>"),
        (r#""(expires_in_ms|late_ms|waited_ms)":\d+"#, "\"$1\":<number>"),
        (r"id: [0-9a-f]{8}-", "id: <listener>-"),
        (r"\s+", ""),
    ];
    varying.iter().fold(text.to_owned(), |text, (pattern, with)| {
        Regex::new(pattern)
            .unwrap()
            .replace_all(&text, *with)
            .into_owned()
    })
}
