//! The program as a shell meets it: completions, versions, pipes that close.

use std::process::{Command, Stdio};

use super::Terminal;
use crate::gateway::program::Program;

#[tokio::test]
async fn there_are_completions_for_the_usual_shells() {
    let program = Program::new();
    for shell in ["bash", "zsh", "fish"] {
        let run = program
            .run(&mut program.command(&["completions", shell]))
            .ends_with(0);
        for word in ["rejections", "acquire", "gateway", "unprotect"] {
            assert!(run.out.contains(word), "{shell}: no {word}");
        }
    }
    let script = program.folder.path().join("completions");
    std::fs::write(
        &script,
        program.run(&mut program.command(&["completions", "bash"])).out,
    )
    .unwrap();
    let complete = r#". ./completions; COMP_WORDS=(fencegate lease ac); COMP_CWORD=2
        _fencegate fencegate ac lease; echo "${COMPREPLY[@]}""#;
    let output = Command::new("bash")
        .args(["-c", complete])
        .current_dir(program.folder.path())
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "acquire",
        "{output:?}"
    );
}

#[tokio::test]
async fn the_version_names_what_is_built_in() {
    let program = Program::new();
    let short = program.run(&mut program.command(&["-V"])).ends_with(0).out;
    assert_eq!(short, format!("fencegate {}\n", env!("CARGO_PKG_VERSION")));
    let long = program.run(&mut program.command(&["--version"])).ends_with(0).out;
    assert!(
        long.starts_with(short.trim()) && long.contains("etcd") && long.contains("sqlite"),
        "{long}"
    );
}

#[tokio::test]
async fn whoever_stops_reading_has_read_enough() {
    let terminal = Terminal::open().await;
    let token = terminal.acquire("a");
    let mut write = terminal.command(&["write", "a", "k"]);
    write.env("FENCEGATE_TOKEN", &token);
    // More than a pipe holds.
    terminal.run_with(write, &"x".repeat(500_000)).ends_with(0);
    let mut read = terminal
        .command(&["read", "a", "k"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(read.stdout.take());
    let output = read.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// What prints without a gateway, and the demo, which has processes of its own to end.
const PRINTS: [&[&str]; 6] = [
    &["migrate", "--print"],
    &["migrate", "--store", "sqlite:other.db"],
    &["completions", "bash"],
    &["key", "new", "me"],
    &["demo", "--scenario", "clock"],
    &["demo", "--scenario", "clock", "--output", "json"],
];

/// Runs it with its temporary files in a folder of its own, which is empty in the end.
fn run_to(program: &Program, arguments: &[&str], out: impl Into<Stdio>) -> (Option<i32>, String) {
    let temporary = program.folder.path().join("temporary");
    std::fs::create_dir_all(&temporary).unwrap();
    let output = program
        .command(arguments)
        .env("TMPDIR", &temporary)
        .stdout(out)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(
        std::fs::read_dir(&temporary).unwrap().next().is_none(),
        "{arguments:?} leaves something behind"
    );
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_pipe_that_nobody_reads_is_no_error() {
    let program = Program::new();
    for arguments in PRINTS {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(
            run_to(&program, arguments, writer),
            (Some(0), String::new()),
            "{arguments:?}"
        );
    }
}

#[test]
fn a_full_device_is_an_error_of_one_line() {
    let program = Program::new();
    for arguments in PRINTS {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let (code, errors) = run_to(&program, arguments, full);
        assert_eq!(code, Some(1), "{arguments:?}: {errors}");
        assert!(
            errors.starts_with("fencegate: the standard output cannot be written: No space left")
                && errors.lines().count() == 1,
            "{arguments:?}: {errors}"
        );
    }
}
