//! `lease`, `check`, `rejections`.

use std::{process::Stdio, time::Duration};

use super::{Terminal, json};
use crate::{
    gateway::auth::Clients,
    support::{eventually, eventually::PATIENCE},
};

#[tokio::test]
async fn a_lease_is_taken_shown_renewed_and_released() {
    let terminal = Terminal::open().await;
    terminal.run(&["lease", "show", "nightly"]).ends_with(66);
    let acquire = ["lease", "acquire", "nightly", "--ttl", "5m", "--label", "me"];
    let acquired = terminal.run(&acquire).ends_with(0);
    // The token alone, to be put into a variable.
    let token = acquired.out.strip_suffix('\n').unwrap();
    token.parse::<fencegate::Token>().unwrap();
    assert!(acquired.err.contains("held for 5m"), "{}", acquired.err);

    let shown = terminal.run(&["lease", "show", "nightly"]).ends_with(0).out;
    assert!(shown.contains("held by  me, with number 1\n"), "{shown}");
    assert!(!shown.contains(token), "{shown}");
    let shown = json(
        &terminal
            .run(&["lease", "show", "nightly", "--output", "json"])
            .ends_with(0),
    );
    assert_eq!(
        (&shown["mark"], &shown["holder"]["label"]),
        (&"1-1".into(), &"me".into())
    );

    let busy = terminal.run(&["lease", "acquire", "nightly"]).ends_with(75);
    assert!(
        busy.err.contains("lock-held") && busy.out.is_empty(),
        "{}",
        busy.err
    );
    let renewed = terminal
        .run_under(token, &["lease", "renew", "nightly"])
        .ends_with(0);
    assert_eq!(renewed.out, "nightly is held for 5m from now, as 1-1\n");
    let listed = terminal.run(&["lease", "list"]).ends_with(0).out;
    let mut lines = listed.lines();
    assert!(
        lines.next().unwrap().starts_with("FENCE    MARK  SEALED"),
        "{listed}"
    );
    assert!(lines.next().unwrap().starts_with("nightly  1-1   20"), "{listed}");
    assert_eq!(
        terminal.run(&["lease", "list", "--prefix", "x"]).ends_with(0).out,
        ""
    );
    terminal.run_under(token, &["check", "nightly"]).ends_with(0);

    terminal
        .run_under(token, &["lease", "release", "nightly"])
        .ends_with(0);
    let late = terminal
        .run_under(token, &["lease", "renew", "nightly"])
        .ends_with(76);
    assert!(late.err.contains("lease-lost"), "{}", late.err);
    let fenced = terminal.run_under(token, &["check", "nightly"]).ends_with(77);
    assert!(
        fenced.err.starts_with("fencegate: 1-1 may not act on nightly: "),
        "{}",
        fenced.err
    );
    terminal
        .run(&["lease", "acquire", "nightly", "--output", "json"])
        .ends_with(0);
}

#[tokio::test]
async fn a_release_says_what_it_released() {
    let terminal = Terminal::open().await;
    let acquire = |fence: &str| {
        let arguments = ["lease", "acquire", fence, "--ttl", "10m", "--label", "me"];
        terminal.run(&arguments).ends_with(0).out.trim().to_owned()
    };
    let release = |token: &str, fence: &str| terminal.run_under(token, &["lease", "release", fence]);
    let (token, other) = (acquire("a"), acquire("b"));
    let secret = |token: &str| token.rsplit_once('-').unwrap().1.to_owned();
    for (token, fence, holder) in [
        (format!("1-1-{}", secret(&other)), "a", "me, with number 1"),
        (format!("9-77-{}", secret(&other)), "a", "me, with number 1"),
        (format!("1-2-{}", secret(&other)), "a", "me, with number 1"),
        (token.clone(), "never", "nobody"),
    ] {
        let run = release(&token, fence).ends_with(76);
        let said = format!(" held nothing of {fence}, which is held by {holder}\n");
        assert!(run.out.is_empty() && run.err.ends_with(&said), "{}", run.err);
        assert!(!run.err.contains(&secret(&token)), "{}", run.err);
    }
    terminal.run_under(&token, &["check", "a"]).ends_with(0);

    assert_eq!(release(&token, "a").ends_with(0).out, "a is released\n");
    let again = release(&token, "a").ends_with(76);
    assert!(again.err.contains("which is held by nobody"), "{}", again.err);
    let next = acquire("a");
    let again = terminal
        .run_under(&token, &["lease", "release", "a", "--output", "json"])
        .ends_with(76);
    assert_eq!(json(&again), serde_json::json!({"fence": "a", "released": false}));
    assert!(
        again.err.contains("1-1 held nothing of a") && again.err.contains("me, with number 2"),
        "{}",
        again.err
    );
    let last = terminal.run_under(&next, &["lease", "release", "a", "--output", "json"]);
    assert_eq!(json(&last.ends_with(0))["released"], true);
}

/// Who holds a fence is shown to those who may read.
#[tokio::test]
async fn a_release_by_a_client_that_sees_nothing_claims_nothing() {
    let clients = Clients::new([("worker", serde_json::json!({"*": ["lease"]}))]);
    let file = clients.file();
    let terminal = Terminal::open_with(&["--clients", file.to_str().unwrap()]).await;
    let run = |arguments: &[&str]| {
        let mut command = terminal.command(arguments);
        terminal
            .program
            .run(command.env("FENCEGATE_API_KEY", clients.key("worker")))
    };
    let token = run(&["lease", "acquire", "a", "--ttl", "10m"]).ends_with(0).out;
    let release = ["lease", "release", "a", "--token", token.trim()];
    assert_eq!(run(&release).ends_with(0).out, "what 1-1 held of a is released\n");
    let again = run(&[&release[..], &["--output", "json"]].concat()).ends_with(0);
    assert_eq!(json(&again), serde_json::json!({"fence": "a", "released": null}));
    run(&["lease", "acquire", "a"]).ends_with(0);
}

#[tokio::test]
async fn a_token_that_cannot_be_printed_holds_nothing() {
    let terminal = Terminal::open().await;
    for (number, format) in ["table", "json"].into_iter().enumerate() {
        let acquire = ["lease", "acquire", "a", "--ttl", "10m", "--output", format];
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let (reader, closed) = std::io::pipe().unwrap();
        drop(reader);
        for out in [Stdio::from(full), Stdio::from(closed)] {
            let output = terminal
                .command(&acquire)
                .stdout(out)
                .stderr(Stdio::piped())
                .output()
                .unwrap();
            let errors = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{errors}");
            assert!(
                errors.starts_with("fencegate: a is given back, since its token could not be printed: ")
                    && errors.lines().count() == 1,
                "{errors}"
            );
        }
        let held = terminal.run(&acquire).ends_with(0);
        let number = 3 * number + 3;
        assert!(held.out.contains(&format!("1-{number}-")), "{}", held.out);
        terminal.run(&["lease", "show", "a"]).ends_with(0);
        let token = match format {
            "json" => json(&held)["token"].as_str().unwrap().to_owned(),
            _ => held.out.trim().to_owned(),
        };
        terminal
            .run_under(&token, &["lease", "release", "a"])
            .ends_with(0);
    }
}

#[tokio::test]
async fn a_lease_is_ended_by_force_where_that_is_allowed() {
    let terminal = Terminal::open_with(&["--allow-force-release"]).await;
    let token = terminal.acquire("a");
    terminal.run(&["lease", "release", "a", "--force"]).ends_with(0);
    terminal.run_under(&token, &["check", "a"]).ends_with(77);
    terminal.acquire("a");
}

#[tokio::test]
async fn the_wait_is_waited() {
    let terminal = Terminal::open().await;
    let token = terminal.acquire("a");
    let mut waiting = terminal
        .command(&["lease", "acquire", "a", "--wait", "10m"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(waiting.try_wait().unwrap().is_none());
    terminal
        .run_under(&token, &["lease", "release", "a"])
        .ends_with(0);
    let mut status = None;
    eventually(PATIENCE, async || {
        status = waiting.try_wait().unwrap();
        status.is_some()
    })
    .await;
    assert!(status.unwrap().success());
}

#[tokio::test]
async fn rejections_are_told_by_the_gateway_and_by_the_store() {
    let terminal = Terminal::open().await;
    let old = terminal.acquire("a");
    terminal.run_under(&old, &["lease", "release", "a"]).ends_with(0);
    terminal.acquire("a");
    terminal.run_under(&old, &["write", "a", "k", "v"]).ends_with(77);
    let direct = ["rejections", "--store", "sqlite:fencegate.db", "--output", "json"];
    let through = ["rejections", "--output", "json"];
    for arguments in [&direct[..], &through[..]] {
        eventually(PATIENCE, async || {
            json(&terminal.run(arguments).ends_with(0))
                .as_array()
                .unwrap()
                .len()
                == 1
        })
        .await;
        let row = &json(&terminal.run(arguments))[0];
        assert_eq!((&row["fence"], &row["reason"]), (&"a".into(), &"stale".into()));
        assert_eq!((&row["presented"], &row["mark"]), (&"1-1".into(), &"1-2".into()));
    }
    let table = terminal.run(&["rejections", "--fence", "a"]).ends_with(0).out;
    assert!(table.contains("1-1") && table.contains("stale"), "{table}");
    assert_eq!(terminal.run(&["rejections", "--fence", "b"]).ends_with(0).out, "");
    // A settings file names a store, and no gateway.
    let settings = terminal.program.folder.path().join("settings.toml");
    std::fs::write(&settings, "store = \"sqlite:fencegate.db\"\n").unwrap();
    let mut by_file = terminal
        .program
        .command(&["rejections", "--config", "settings.toml"]);
    let table_by_file = terminal.program.run(&mut by_file).ends_with(0).out;
    assert_eq!(table_by_file, table);
    let missing = terminal
        .run(&["rejections", "--store", "sqlite:other.db"])
        .ends_with(1);
    assert!(missing.err.contains("other.db"), "{}", missing.err);
    assert!(!terminal.program.folder.path().join("other.db").exists());
}
