//! What a mistake, or a server that is away, is answered with.

use super::Terminal;
use crate::gateway::{
    program::Program,
    tls::{self, Authority},
};

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
        (
            &["write", "a", "k", "v", "--content-type", "a/b\nX: y"],
            2,
            "a content type is written as",
        ),
        (&["key", "new", ""], 2, "a client's name has 1 to 200 bytes"),
        (&["key", "new", &"x".repeat(300)], 2, "1 to 200 bytes"),
        (&["key", "new", "anonymous"], 2, "is not \"anonymous\""),
        (
            &[
                "run",
                "--fence=a",
                "--store=sqlite:a",
                "--gateway=http://a",
                "--",
                "true",
            ],
            2,
            "--store and --gateway cannot both be given",
        ),
        (
            &[
                "run",
                "--fence=a",
                "--locks=etcd://a",
                "--gateway=http://a",
                "--",
                "true",
            ],
            2,
            "--locks and --gateway cannot both be given",
        ),
        (
            &["rejections", "--store=sqlite:a", "--gateway=http://a"],
            2,
            "--store and --gateway cannot both be given",
        ),
        (&["check", "a"], 2, "no token: set FENCEGATE_TOKEN"),
        (
            &["serve", "--config", "none.toml"],
            2,
            "the settings in none.toml cannot be read",
        ),
    ] {
        let run = program.run(&mut program.command(arguments)).ends_with(code);
        assert!(run.err.contains(said), "{arguments:?}: {}", run.err);
        assert!(!run.err.contains("hunter2"), "{}", run.err);
        let is_lost = arguments == ["sevre"];
        assert!(is_lost || !run.err.contains("fencegate <COMMAND>"), "{}", run.err);
    }
    // Once, though it has layers.
    let redis = ["serve", "--store=sqlite:x.db", "--locks=redis://a,b"];
    let run = program.run(&mut program.command(&redis)).ends_with(1);
    assert_eq!(run.err.matches("takes one host").count(), 1, "{}", run.err);
    let clients = ["config", "check", "--clients=none.toml"];
    let run = program.run(&mut program.command(&clients)).ends_with(1);
    assert_eq!(
        run.err,
        "fencegate: none.toml cannot be read: No such file or directory (os error 2)\n"
    );
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

#[tokio::test]
async fn a_gateway_with_tls_is_told_from_one_that_is_away() {
    let (authority, program) = (Authority::new(), Program::new());
    authority.server(program.folder.path());
    std::fs::write(program.folder.path().join("ca.pem"), authority.pem()).unwrap();
    let serve = [
        "serve",
        "--listen=127.0.0.1:0",
        "--tls-certificate=tls.pem",
        "--tls-key=tls.key",
        "--migrate",
    ];
    let (_process, address) = tls::serve(&program, program.command(&serve)).await;
    let plain = address.replacen("https", "http", 1);
    let list = |gateway: &str, more: &[&str]| {
        let mut command = program.command(&["lease", "list", "--gateway", gateway]);
        program.run(command.args(more))
    };
    list(&address, &["--ca", "ca.pem"]).ends_with(0);
    for (gateway, more, said) in [
        (&address, &[][..], "name its authority's with --ca FILE"),
        (
            &plain,
            &["--ca", "ca.pem"],
            &format!("it may speak TLS: name it as {address}"),
        ),
    ] {
        let run = list(gateway, more).ends_with(69);
        assert!(
            run.err.lines().count() == 1 && run.err.contains(said) && !run.err.contains("curl"),
            "{}",
            run.err
        );
    }
    let mut doctor = program.command(&["doctor", "--gateway", &address]);
    let run = program.run(&mut doctor).ends_with(4);
    assert!(
        run.out.contains("--ca FILE") && run.err.is_empty(),
        "{}{}",
        run.out,
        run.err
    );

    let (_process, client) = program
        .serve(program.command(&["serve", "--listen=127.0.0.1:0"]))
        .await;
    let plain = format!("http://127.0.0.1:{}", client.port());
    let run = list(&plain.replacen("http", "https", 1), &[]).ends_with(69);
    let said = format!("it may speak no TLS: name it as {plain}");
    assert!(run.err.contains(&said), "{}", run.err);
}

#[tokio::test]
async fn the_settings_that_pass_the_check_are_those_that_serve_goes_by() {
    let program = Program::new();
    for (given, code, said) in [
        (&["--store=mysql://x"][..], 1, "no store begins with \"mysql\""),
        (&["--store=sqlite:"], 1, "needs a file behind it"),
        (
            &["--store=postgres://hunter2@h:99999/db"],
            1,
            "URL cannot be used",
        ),
        (
            &["--store=postgres://hunter2@h/db?sslmode=bogus"],
            1,
            "URL cannot be used",
        ),
        (
            &["--store=sqlite:x.db", "--locks=foo://a"],
            1,
            "no lock service begins with \"foo\"",
        ),
        (
            &["--store=sqlite:x.db", "--locks=etcd://"],
            1,
            "a host is missing",
        ),
        (
            &["--store=sqlite:x.db", "--locks=redis://a,b"],
            1,
            "takes one host",
        ),
        (
            &["--store=sqlite:x.db", "--locks=sqlite:"],
            1,
            "needs a file behind it",
        ),
        (
            &["--store=sqlite:x.db", "--locks=postgres"],
            1,
            "the store is sqlite: leave it out",
        ),
        (
            &["--store=postgres://h/db", "--locks=sqlite"],
            1,
            "the store is postgres: leave it out",
        ),
        (&["--locks=etcd://a"], 2, "--locks is given and --store is not"),
        (
            &["--store=postgres:...hidden"],
            2,
            "it was hidden when the settings were printed",
        ),
        (
            &["--store=sqlite:x.db", "--locks=...hidden"],
            2,
            "it was hidden when the settings were printed",
        ),
    ] {
        for verb in [&["config", "check"][..], &["serve", "--listen=127.0.0.1:0"]] {
            let run = program.run(program.command(verb).args(given)).ends_with(code);
            assert!(run.err.contains(said), "{verb:?} {given:?}: {}", run.err);
            assert!(!run.err.contains("hunter2"), "{}", run.err);
        }
    }
    let program = Program::new();
    for given in [
        &[][..],
        &["--store=sqlite:x.db"],
        &["--store=sqlite:x.db", "--locks=sqlite"],
        &["--store=sqlite:x.db", "--locks=sqlite:y.db"],
        &["--store=sqlite:x.db", "--locks=etcd://a:2379,b:2379/prefix"],
        &["--store=postgres://h/db", "--locks=postgres"],
        &["--store=postgres://h/db", "--locks=zookeeper://a"],
        &["--store=postgres://h/db", "--locks=redlock://a,b,c"],
    ] {
        let mut check = program.command(&["config", "check"]);
        program.run(check.args(given)).ends_with(0);
    }
    // It opens nothing.
    let mut made = std::fs::read_dir(program.folder.path()).unwrap();
    assert!(made.next().is_none());
}
