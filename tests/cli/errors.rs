//! What a mistake, or a server that is away, is answered with.

use super::Terminal;
use crate::gateway::program::Program;

#[tokio::test]
async fn typos_get_a_suggestion() {
    let program = Program::new();
    for (arguments, code, said) in [
        (&["sevre"][..], 2, "'serve'"),
        (&["lease", "aquire", "a"], 2, "'acquire'"),
        (&["run", "--fense", "a", "--", "true"], 2, "'--fence'"),
        (&["lease", "list", "--output", "jsn"], 2, "'json'"),
        (&["completions", "bsh"], 2, "'bash'"),
        (
            &["serve", "--store", "postgress://db/x"],
            1,
            "did you mean postgres?",
        ),
        (
            &["serve", "--store", "sqlite:x.db", "--locks", "ectd://a"],
            1,
            "did you mean etcd?",
        ),
        (
            &["lease", "list", "--gateway", "htp://a"],
            1,
            "did you mean http?",
        ),
        (
            &["lease", "list", "--gateway", "127.0.0.1:7411"],
            1,
            "http://127.0.0.1:7411",
        ),
        (
            &["lease", "list", "--gateway", "http://me:hunter2@a"],
            1,
            "API key",
        ),
        (
            &["serve", "--store", "sqlite:x.db", "--locks", "etcd://"],
            1,
            "cannot be used: a host is missing",
        ),
        (&["lease", "show", "a/b"], 2, "slash"),
        (&["write", "a", "../k", "v"], 2, "segment"),
        (
            &["write", "a", "k", "v", "--if-match", "x"],
            2,
            "a version is a number",
        ),
        (&["lease", "acquire", "a", "--ttl=-1s"], 2, "--ttl"),
    ] {
        let run = program.run(&mut program.command(arguments)).ends_with(code);
        assert!(run.err.contains(said), "{arguments:?}: {}", run.err);
        assert!(!run.err.contains("hunter2"), "{}", run.err);
    }
    // Once, though it has layers.
    let redis = ["serve", "--store=sqlite:x.db", "--locks=redis://a,b"];
    let run = program.run(&mut program.command(&redis)).ends_with(1);
    assert_eq!(run.err.matches("takes one host").count(), 1, "{}", run.err);
}

#[tokio::test]
async fn a_server_that_is_away_is_named_with_how_to_look_closer() {
    let program = Program::new();
    for (arguments, said) in [
        (
            &["lease", "list", "--gateway", "http://127.0.0.1:1"][..],
            &[
                "http://127.0.0.1:1 cannot be reached",
                "curl http://127.0.0.1:1/readyz",
            ][..],
        ),
        (
            &["rejections", "--store", "postgres://root:hunter2@127.0.0.1:1/app"],
            &["postgres app at 127.0.0.1:1", "out of reach"],
        ),
        (
            &["migrate", "--store", "postgres://root:hunter2@127.0.0.1:1/app"],
            &["postgres app at 127.0.0.1:1", "out of reach"],
        ),
        (
            &[
                "run",
                "--fence",
                "a",
                "--store",
                "sqlite:x.db",
                "--locks",
                "etcd://127.0.0.1:1",
                "--",
                "true",
            ],
            &[
                "etcd at 127.0.0.1:1",
                "did not answer: tcp connect error: Connection refused (os error 111) (",
            ],
        ),
        (
            &[
                "run",
                "--fence",
                "a",
                "--gateway",
                "http://127.0.0.1:1",
                "--",
                "true",
            ],
            &["http://127.0.0.1:1 cannot be reached"],
        ),
    ] {
        let run = program.run(&mut program.command(arguments)).ends_with(69);
        let last = run.err.lines().last().unwrap();
        for said in said {
            assert!(
                last.starts_with("fencegate: ") && last.contains(said),
                "{arguments:?}: {}",
                run.err
            );
        }
        assert!(!run.err.contains("hunter2"), "{}", run.err);
    }
}

#[tokio::test]
async fn doctor_says_why_a_server_does_not_answer() {
    let program = Program::new();
    let doctor = ["doctor", "--store", "postgres://root:hunter2@127.0.0.1:1/app"];
    let run = program.run(&mut program.command(&doctor)).ends_with(4);
    assert!(run.out.contains("Connection refused"), "{}", run.out);
    assert!(!run.out.contains("hunter2"), "{}", run.out);
}

#[tokio::test]
async fn a_run_that_names_no_store_says_for_whom_its_fence_counts() {
    let program = Program::new();
    let run = program
        .run(&mut program.command(&["run", "--fence", "a", "--", "echo", "done"]))
        .ends_with(0);
    assert_eq!(run.out, "done\n");
    assert!(
        run.err.contains("./fencegate.db: for runs in this folder alone"),
        "{}",
        run.err
    );
    let named = [
        "run",
        "--fence",
        "a",
        "--store",
        "sqlite:fencegate.db",
        "--",
        "true",
    ];
    assert_eq!(program.run(&mut program.command(&named)).ends_with(0).err, "");
}

#[tokio::test]
async fn a_key_is_taken_from_its_file_and_refused_without_being_shown() {
    let terminal = Terminal::open().await;
    let file = terminal.program.folder.path().join("key");
    std::fs::write(&file, "one\ntwo\n").unwrap();
    let run = terminal
        .run(&["lease", "list", "--api-key-file", "key"])
        .ends_with(1);
    assert!(
        run.err.contains("API key") && !run.err.contains("two"),
        "{}",
        run.err
    );
    let run = terminal
        .run(&["lease", "list", "--api-key-file", "none"])
        .ends_with(1);
    assert!(run.err.contains("reading none"), "{}", run.err);
    let run = terminal.run(&["lease", "list", "--ca", "key"]).ends_with(1);
    assert!(run.err.contains("PEM"), "{}", run.err);
    terminal
        .run(&["lease", "list", "--client-cert", "key"])
        .ends_with(2);
}
