//! `fencegate run`: commands under a fence.

use std::{path::Path, process::Stdio, time::Duration};

use rustix::process::Signal;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::{
    cli::Terminal,
    support::{eventually, eventually::PATIENCE, folder, process},
    world::World,
};

/// What is said of a wait that lasts.
const WAITING: &str = "waiting for fence nightly, which is held by sh on ";

fn run(store: &str, more: &[&str], script: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fencegate"));
    command
        .args(["run", "--fence", "nightly", "--store", store])
        .args(more)
        .args(["--", "sh", "-c", script]);
    command
        .env_remove("FENCEGATE_HELD_FENCE")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

fn store_in(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("store.db").display())
}

async fn output(mut command: Command) -> (Option<i32>, String, String) {
    let output = tokio::time::timeout(PATIENCE, command.output())
        .await
        .expect("it ends")
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Starts a run that says in a file when its command has begun.
async fn begun(mut command: Command, sign: &Path) -> Child {
    let child = command.spawn().unwrap();
    eventually(PATIENCE, async || sign.exists()).await;
    child
}

#[tokio::test]
async fn the_command_has_its_token_and_its_exit_status() {
    let folder = folder("run");
    let store = store_in(folder.path());
    let script = r#"echo "$FENCEGATE_HELD_FENCE"; test "$FENCEGATE_TOKEN" = "$FENCING_TOKEN" && echo "$FENCING_TOKEN"; exit 7"#;
    let (code, out, errors) = output(run(&store, &[], script)).await;
    assert_eq!(code, Some(7), "{errors}");
    let (fence, token) = out.trim().split_once('\n').unwrap();
    assert_eq!(fence, "nightly");
    let first: fencegate::Token = token.parse().unwrap();
    // Released at the end, so the next one need not wait, and its token is higher.
    let (code, out, _) = output(run(
        &store,
        &["--wait", "0s"],
        r#"echo "$FENCING_TOKEN"; kill -9 $$"#,
    ))
    .await;
    assert_eq!(code, Some(128 + 9));
    assert!(out.trim().parse::<fencegate::Token>().unwrap().sequence > first.sequence);
}

#[tokio::test]
async fn one_runs_at_a_time() {
    let folder = folder("run");
    let (store, sign) = (store_in(folder.path()), folder.path().join("begun"));
    let script = format!("touch {}; sleep 60", sign.display());
    let mut first = begun(run(&store, &[], &script), &sign).await;
    let (code, _, errors) = output(run(&store, &["--wait", "100ms"], "true")).await;
    assert_eq!(code, Some(75), "{errors}");
    assert!(errors.contains("held by another"), "{errors}");
    let (_, _, errors) = output(run(&store, &["--wait", "4s"], "true")).await;
    assert!(errors.contains(WAITING), "{errors}");
    // A signal goes to the command, whose end is the run's.
    let pid = process::pid(first.id().unwrap());
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let status = tokio::time::timeout(PATIENCE, first.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.code(), Some(128 + 15));
    assert_eq!(output(run(&store, &["--wait", "0s"], "true")).await.0, Some(0));
}

/// A script that runs several in the background where there is no store yet.
#[tokio::test]
async fn many_that_make_the_store_at_once() {
    for _ in 0..5 {
        let folder = folder("run");
        let store = store_in(folder.path());
        let runs = (0..12).map(|_| output(run(&store, &[], "true")));
        for (code, _, errors) in futures::future::join_all(runs).await {
            assert_eq!(code, Some(0), "{errors}");
        }
    }
}

#[tokio::test]
async fn a_signal_ends_the_waiting_for_the_fence() {
    let folder = folder("run");
    let (store, sign) = (store_in(folder.path()), folder.path().join("begun"));
    let script = format!("touch {}; sleep 600", sign.display());
    let _first = begun(run(&store, &[], &script), &sign).await;
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        let mut second = run(&store, &[], "true").spawn().unwrap();
        let mut errors = BufReader::new(second.stderr.take().unwrap()).lines();
        // It is there to be asked as soon as it says something.
        let mut said = async || {
            let line = tokio::time::timeout(PATIENCE, errors.next_line()).await;
            line.expect("it says something").unwrap()
        };
        assert!(said().await.unwrap().contains(WAITING));
        rustix::process::kill_process(process::pid(second.id().unwrap()), signal).unwrap();
        assert_eq!(
            said().await.unwrap(),
            format!(
                "fencegate: ended by {name} while waiting for fence nightly: the command was not started"
            )
        );
        let status = tokio::time::timeout(PATIENCE, second.wait()).await;
        assert_eq!(status.unwrap().unwrap().code(), Some(128 + signal.as_raw()));
    }
}

#[tokio::test]
async fn a_run_within_a_run_shares_its_lease() {
    let folder = folder("run");
    let store = store_in(folder.path());
    let program = env!("CARGO_BIN_EXE_fencegate");
    let inner = format!("{program} run --fence nightly --store {store} -- sh -c 'echo $FENCING_TOKEN'");
    let script = format!("echo $FENCING_TOKEN; {inner}");
    let (code, out, errors) = output(run(&store, &[], &script)).await;
    assert_eq!(code, Some(0), "{errors}");
    let tokens: Vec<_> = out.lines().collect();
    assert!(tokens.len() == 2 && tokens[0] == tokens[1], "{out}");
}

#[tokio::test]
async fn a_command_whose_lease_is_lost_is_ended_with_all_its_children() {
    let world = World::postgres_and_etcd().await;
    let folder = folder("run");
    let sign = folder.path().join("begun");
    let etcd = world.etcd.as_ref().unwrap();
    let locks = crate::world::etcd_url(etcd);
    let store = world.postgres.as_ref().unwrap().url();
    // It ends with SIGTERM, and has a child that does not.
    let script = format!(
        "trap '' TERM; (trap '' TERM; sleep 600) & echo $! > {}; sleep 600",
        sign.display()
    );
    let options = ["--locks", &locks, "--ttl", "2s", "--grace", "300ms"];
    let child = begun(run(&store, &options, &script), &sign).await;
    eventually(PATIENCE, async || {
        std::fs::read_to_string(&sign).is_ok_and(|text| text.ends_with('\n'))
    })
    .await;
    let grandchild: u32 = std::fs::read_to_string(&sign).unwrap().trim().parse().unwrap();
    etcd.stop();
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output())
        .await
        .expect("it is ended")
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(76),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    eventually(Duration::from_secs(5), async || !process::is_alive(grandchild)).await;
    etcd.cont();
}

#[tokio::test]
async fn a_fence_within_another_within_the_first_is_not_waited_for() {
    let folder = folder("run");
    let store = store_in(folder.path());
    let program = env!("CARGO_BIN_EXE_fencegate");
    let within = |fence: &str, script: &str| {
        format!("{program} run --fence {fence} --store {store} -- sh -c '{script}'")
    };
    let innermost = format!(
        "{program} run --fence nightly --store {store} -- printenv FENCING_TOKEN FENCEGATE_HELD_FENCE"
    );
    let script = format!("echo $FENCING_TOKEN; {}", within("b", &innermost));
    let (code, out, errors) = output(run(&store, &[], &script)).await;
    assert_eq!(code, Some(0), "{errors}");
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines, [lines[0], lines[0], "nightly"], "{out}");
}

#[tokio::test]
async fn the_same_name_elsewhere_is_another_fence() {
    let (here, there) = (folder("run"), folder("run"));
    let (store, other) = (store_in(here.path()), store_in(there.path()));
    let program = env!("CARGO_BIN_EXE_fencegate");
    let script = format!(
        "echo $FENCING_TOKEN; {program} run --fence nightly --store {other} -- printenv FENCING_TOKEN"
    );
    let (code, out, errors) = output(run(&store, &[], &script)).await;
    assert_eq!(code, Some(0), "{errors}");
    let tokens: Vec<_> = out.lines().collect();
    assert!(tokens.len() == 2 && tokens[0] != tokens[1], "{out}");
    // It was really held there.
    let locks = fencegate::connect(&other, None).await.unwrap();
    let mark = locks
        .store()
        .fence(&"nightly".parse().unwrap())
        .await
        .unwrap()
        .unwrap()
        .mark;
    assert_eq!(mark.to_string(), "1-1");
}

/// The same, through a gateway.
fn run_through(terminal: &Terminal, more: &[&str], script: &str) -> Command {
    let mut command = Command::from(terminal.command(&["run", "--fence", "nightly"]));
    command.args(more).args(["--", "sh", "-c", script]);
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

#[tokio::test]
async fn through_a_gateway_it_is_the_same() {
    let terminal = Terminal::open().await;
    let folder = folder("run");
    let sign = folder.path().join("begun");
    let program = env!("CARGO_BIN_EXE_fencegate");
    // It writes under its token, and a run within it shares its lease.
    let script = format!(
        "{program} write $FENCEGATE_HELD_FENCE k v && {program} run --fence nightly -- {program} check nightly; exit 7"
    );
    let (code, out, errors) = output(run_through(&terminal, &[], &script)).await;
    assert_eq!(code, Some(7), "{errors}");
    assert_eq!(out, "k is in version 1\n1-1 is the newest token of nightly\n");

    let script = format!("touch {}; sleep 600", sign.display());
    let mut first = begun(run_through(&terminal, &[], &script), &sign).await;
    let (code, _, errors) = output(run_through(&terminal, &["--wait", "100ms"], "true")).await;
    assert_eq!(code, Some(75), "{errors}");
    assert!(errors.contains("held by another"), "{errors}");
    let (_, _, errors) = output(run_through(&terminal, &["--wait", "4s"], "true")).await;
    assert!(errors.contains(WAITING), "{errors}");
    let pid = process::pid(first.id().unwrap());
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let status = tokio::time::timeout(PATIENCE, first.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.code(), Some(128 + 15));
    assert_eq!(
        output(run_through(&terminal, &["--wait", "0s"], "true")).await.0,
        Some(0)
    );
    // A store on the command line beats a gateway of the environment.
    let store = store_in(folder.path());
    assert_eq!(
        output(run_through(
            &terminal,
            &["--store", &store],
            "echo $FENCING_TOKEN"
        ))
        .await
        .0,
        Some(0)
    );
    assert!(folder.path().join("store.db").exists());
}

#[tokio::test]
async fn a_command_whose_gateway_is_gone_is_ended_also_if_nobody_listens() {
    let mut terminal = Terminal::open().await;
    let folder = folder("run");
    let sign = folder.path().join("begun");
    let script = format!(
        "trap '' TERM; (trap '' TERM; sleep 600) & echo $! > {}; sleep 600",
        sign.display()
    );
    let options = ["--ttl", "2s", "--grace", "300ms"];
    let mut child = begun(run_through(&terminal, &options, &script), &sign).await;
    eventually(PATIENCE, async || {
        std::fs::read_to_string(&sign).is_ok_and(|text| text.ends_with('\n'))
    })
    .await;
    let grandchild: u32 = std::fs::read_to_string(&sign).unwrap().trim().parse().unwrap();
    // What it says has no reader, and must not be what it fails of.
    drop(child.stderr.take());
    terminal.gateway.kill9();
    let status = tokio::time::timeout(PATIENCE, child.wait())
        .await
        .expect("it is ended")
        .unwrap();
    assert_eq!(status.code(), Some(76));
    eventually(PATIENCE, async || !process::is_alive(grandchild)).await;
}

#[tokio::test]
async fn it_says_what_is_wrong() {
    let folder = folder("run");
    let store = store_in(folder.path());
    let mut missing = Command::new(env!("CARGO_BIN_EXE_fencegate"));
    missing.args(["run", "--fence", "f", "--store", &store, "--", "/no/such/program"]);
    let (code, _, errors) = output(missing).await;
    assert_eq!(code, Some(1));
    assert!(errors.contains("/no/such/program"), "{errors}");
    // The fence was not left behind.
    assert_eq!(output(run(&store, &["--wait", "0s"], "true")).await.0, Some(0));
    for (arguments, said) in [
        (&["run", "--", "true"][..], "--fence"),
        (&["run", "--fence", "a/b", "--", "true"], "slash"),
        (&["run", "--fence", "a"], "COMMAND"),
        (&["run", "--fence", "a", "--ttl", "ten", "--", "true"], "--ttl"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fencegate"));
        command.args(arguments);
        let (code, _, errors) = output(command).await;
        assert_eq!(code, Some(2), "{arguments:?}");
        assert!(errors.contains(said), "{arguments:?}: {errors}");
    }
}
