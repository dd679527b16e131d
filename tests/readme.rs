//! The README's commands, run as they stand there.

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use crate::support;

/// The block of shell commands that has this text in it.
fn block(part: &str) -> &'static str {
    let blocks = include_str!("../README.md").split("```sh\n").skip(1);
    let mut blocks = blocks.filter_map(|rest| rest.split("```").next());
    blocks
        .find(|block| block.contains(part))
        .expect("the README has it")
}

#[tokio::test]
async fn the_curl_session_ends_in_a_refusal() {
    let folder = support::folder("readme");
    let mut gateway = Command::new(env!("CARGO_BIN_EXE_fencegate"))
        .args(["serve", "--listen", "127.0.0.1:0"])
        .current_dir(folder.path())
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(gateway.stdout.take().unwrap()).lines();
    let line = lines
        .next_line()
        .await
        .unwrap()
        .expect("the gateway says where it listens");
    let url = line.strip_prefix("listening on ").unwrap();

    let commands = block("Fencing-Token: $old").replace("http://127.0.0.1:7411", url);
    let output = Command::new("sh")
        .args(["-euc", &commands])
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    let (accepted, refused) = text.split_once('}').expect("two answers");
    assert!(accepted.contains(r#""version":"#), "{text}");
    for part in [
        "urn:fencegate:problem:token-stale",
        r#""presented":"1-1","mark":"1-2""#,
        r#""status":412"#,
    ] {
        assert!(refused.contains(part), "{text}");
    }
    assert!(folder.path().join("fencegate.db").exists());
}

/// The demo really prints what the README shows of it, in this order, but for the times.
#[tokio::test]
async fn the_demo_ends_as_it_is_shown() {
    let shown = include_str!("../README.md").split("```text\n");
    let shown = shown
        .filter_map(|rest| rest.split("```").next())
        .find(|block| block.contains("THE SAME WITHOUT THE GUARD"))
        .expect("the README shows it");
    let folder = support::folder("demo");
    let output = Command::new(env!("CARGO_BIN_EXE_fencegate"))
        .arg("demo")
        .current_dir(folder.path())
        .env_clear()
        .output()
        .await
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}");
    let mut lines = printed.lines().map(without_time);
    for line in shown.lines().map(without_time) {
        let is_left_out = line.is_empty() || line == "...";
        assert!(
            is_left_out || lines.any(|printed| printed == line),
            "{line}:\n{printed}"
        );
    }
}

/// A line of the time line, without its time stamp.
fn without_time(line: &str) -> &str {
    let line = line.trim();
    match line.split_once(" s  ") {
        Some((time, rest)) if time.parse::<f64>().is_ok() => rest,
        _ => line,
    }
}
