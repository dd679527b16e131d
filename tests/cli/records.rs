//! `write` and `read`.

use super::{Terminal, json};

#[tokio::test]
async fn records_are_written_and_read() {
    let terminal = Terminal::open().await;
    let token = terminal.acquire("a");
    terminal.run(&["read", "a", "report/1"]).ends_with(66);
    let written = terminal
        .run_under(&token, &["write", "a", "report/1", "one", "--if-absent"])
        .ends_with(0);
    assert_eq!(written.out, "report/1 is in version 1\n");
    terminal
        .run_under(&token, &["write", "a", "report/1", "two", "--if-absent"])
        .ends_with(73);
    // As it is, without a line end.
    assert_eq!(terminal.run(&["read", "a", "report/1"]).ends_with(0).out, "one");

    let mut piped = terminal.command(&[
        "write",
        "a",
        "report/1",
        "--if-match",
        "1",
        "--content-type",
        "application/json",
    ]);
    piped.env("FENCEGATE_TOKEN", &token);
    terminal.run_with(piped, "{\"n\":1}").ends_with(0);
    terminal
        .run_under(&token, &["write", "a", "report/1", "{\"m\":2}", "--patch"])
        .ends_with(0);
    let read = json(
        &terminal
            .run(&["read", "a", "report/1", "--output", "json"])
            .ends_with(0),
    );
    assert_eq!(
        (&read["version"], &read["value"]),
        (&"3".into(), &"{\"m\":2,\"n\":1}".into())
    );
    std::fs::write(terminal.program.folder.path().join("bytes"), [0, 255]).unwrap();
    terminal
        .run_under(&token, &["write", "a", "b", "--file", "bytes"])
        .ends_with(0);
    let read = json(&terminal.run(&["read", "a", "b", "--output", "json"]).ends_with(0));
    assert_eq!(read["value_base64"], "AP8=");

    let list = terminal.run(&["read", "a", "--prefix", "rep"]).ends_with(0).out;
    assert!(list.contains("report/1  3        application/json  13"), "{list}");
    terminal
        .run_under(&token, &["write", "a", "report/1", "--delete", "--if-match", "3"])
        .ends_with(0);
    terminal.run(&["read", "a", "report/1"]).ends_with(66);
}

#[tokio::test]
async fn a_write_happens_once_under_its_key() {
    let terminal = Terminal::open().await;
    let token = terminal.acquire("a");
    let write = ["write", "a", "k", "v", "--if-absent", "--idempotency-key", "once"];
    let first = terminal.run_under(&token, &write).ends_with(0).out;
    assert_eq!(terminal.run_under(&token, &write).ends_with(0).out, first);
    // By itself it is another one.
    terminal
        .run_under(&token, &["write", "a", "k", "v", "--if-absent"])
        .ends_with(73);
}

#[tokio::test]
async fn the_token_comes_from_a_file_or_the_standard_input_or_the_environment_and_is_never_shown() {
    let terminal = Terminal::open().await;
    let token = terminal.acquire("a");
    std::fs::write(terminal.program.folder.path().join("token"), format!("{token}\n")).unwrap();
    terminal
        .run(&["write", "a", "k", "v", "--token-file", "token"])
        .ends_with(0);
    let piped = terminal.command(&["write", "a", "k", "v", "--token-file", "-"]);
    terminal.run_with(piped, &token).ends_with(0);
    terminal
        .run(&["write", "a", "k", "v", "--token", &token])
        .ends_with(0);
    terminal
        .run(&["read", "a", "k", "--fenced", "--token", &token])
        .ends_with(0);
    // A file beats the environment.
    let mut both = terminal.command(&["write", "a", "k", "v", "--token-file", "token"]);
    terminal
        .program
        .run(both.env("FENCEGATE_TOKEN", "nonsense"))
        .ends_with(0);

    let secret = "1-1-00000000000000000000000000000bad0";
    for arguments in [
        &["write", "a", "k", "v", "--token", secret][..],
        &["check", "a", "--token", secret],
        &["lease", "release", "a", "--token", secret],
    ] {
        let refused = terminal.run(arguments).ends_with(1);
        assert!(
            !refused.err.contains("bad0") && refused.err.contains("--token"),
            "{}",
            refused.err
        );
    }
    let without = terminal.run(&["write", "a", "k", "v"]).ends_with(2);
    assert!(without.err.contains("--token-file"), "{}", without.err);
    let twice = terminal.command(&["write", "a", "k", "--token-file", "-"]);
    let twice = terminal.run_with(twice, &token).ends_with(2);
    assert!(twice.err.contains("standard input"), "{}", twice.err);
    terminal
        .run(&["write", "a", "k", "v", "--token", &token, "--token-file", "token"])
        .ends_with(2);
}
