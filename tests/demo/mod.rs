//! `fencegate demo`, run as a person would.

mod output;
mod pause;
mod scenarios;

use std::{process::Output, time::Duration};

use tokio::process::Command;

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fencegate"));
    command
        .arg("demo")
        .args(arguments)
        // Meant for production, where the run without the guard has no business.
        .env("FENCEGATE_STORE", "postgres://127.0.0.1:1/production")
        .env("DATABASE_URL", "postgres://127.0.0.1:1/production")
        .env("FENCEGATE_LOCKS", "etcd://127.0.0.1:1")
        .kill_on_drop(true);
    command
}

async fn run(arguments: &[&str]) -> Output {
    tokio::time::timeout(Duration::from_secs(120), demo(arguments).output())
        .await
        .expect("the demo comes to its end")
        .unwrap()
}

/// Runs it to its good end; what it said.
async fn told(arguments: &[&str]) -> String {
    let output = run(arguments).await;
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}\n{text}\n{errors}");
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "a line is too wide:\n{text}"
    );
    text
}

/// The parts are in the text, one after the other.
#[track_caller]
fn assert_story(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        let at = rest
            .find(part)
            .unwrap_or_else(|| panic!("no {part:?} in its place:\n{text}"));
        rest = &rest[at + part.len()..];
    }
}
