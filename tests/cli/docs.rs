//! docs/cli.md: its examples are run as they stand there, and it leaves no verb and no variable out.

use std::process::Command;

use super::Terminal;
use crate::{gateway::program::Program, pages::examples};

const PAGE: &str = include_str!("../../docs/cli.md");

/// The verbs that `--help` lists.
fn verbs(program: &Program, arguments: &[&str]) -> Vec<String> {
    let help = program
        .run(program.command(arguments).arg("--help"))
        .ends_with(0)
        .out;
    let listed = help.split("Commands:\n").nth(1).unwrap_or_default();
    let names = listed.lines().take_while(|line| !line.is_empty());
    let names = names.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[tokio::test]
async fn every_verb_and_every_variable_is_there() {
    let program = Program::new();
    let mut helps = Vec::new();
    for verb in verbs(&program, &[]) {
        let is_documented = PAGE.contains(&format!("\n## `fencegate {verb}`\n"));
        // These have pages of their own.
        assert!(
            is_documented || ["config", "rebase", "declare"].contains(&verb.as_str()),
            "{verb}"
        );
        let below = verbs(&program, &[&verb]);
        helps.extend(below.iter().map(|below| vec![verb.clone(), below.clone()]));
        helps.push(vec![verb]);
    }
    assert!(helps.len() > 12, "{helps:?}");
    for mut arguments in helps {
        // Its page names those of its own.
        if ["serve", "config", "key", "rebase", "declare"].contains(&arguments[0].as_str()) {
            continue;
        }
        arguments.push("--help".into());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let help = program.run(&mut program.command(&arguments)).ends_with(0).out;
        let is_part = |c: char| c.is_ascii_uppercase() || c == '_';
        for variable in help
            .split(|c| !is_part(c))
            .filter(|word| word.starts_with("FENCEGATE_"))
        {
            assert!(
                PAGE.contains(&format!("`{variable}`")),
                "{variable} of {arguments:?}"
            );
        }
    }
}

#[tokio::test]
async fn the_examples_print_what_they_show() {
    let terminal = Terminal::open().await;
    let examples = examples(PAGE);
    assert!(examples.len() > 20);
    // One shell for all, since they set variables for each other.
    let end = "-- end of an example --";
    let commands = examples
        .iter()
        .map(|example| format!("{}\necho '{end}'\n", example.command));
    let script = format!("exec 2>&1\n{}", commands.collect::<String>());
    let folder = std::path::Path::new(env!("CARGO_BIN_EXE_fencegate"))
        .parent()
        .unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FENCEGATE_")) {
        shell.env_remove(name);
    }
    let output = shell
        .args(["-c", &script])
        .current_dir(terminal.program.folder.path())
        .env_remove("DATABASE_URL")
        .env("FENCEGATE_GATEWAY", &terminal.url)
        .env("PATH", path)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout)
        .unwrap()
        .replace(&terminal.url, "http://127.0.0.1:7411");
    let printed: Vec<&str> = text.split(&format!("{end}\n")).collect();
    assert_eq!(printed.len(), examples.len() + 1, "{text}");
    for (example, printed) in examples.iter().zip(printed) {
        let words = |text: &str| {
            let mut words: Vec<_> = text.split_whitespace().map(shape).collect();
            // A duration has one part or several.
            words.dedup_by(|a, b| *a == "<duration>" && a == b);
            words
        };
        assert_eq!(
            words(printed),
            words(&example.printed),
            "$ {}\n{printed}",
            example.command
        );
    }
}

/// A word as it is, unless it differs from run to run.
fn shape(word: &str) -> String {
    if word.len() > 20 && word.starts_with("20") && word.ends_with('Z') {
        "<time>".into()
    } else if uuid::Uuid::try_parse(word).is_ok() {
        "<uuid>".into()
    } else if word.ends_with(char::is_alphabetic) && humantime::parse_duration(word).is_ok() {
        "<duration>".into()
    } else {
        word.into()
    }
}
