//! `fencegate demo`, run as a person would.

use std::{process::Output, time::Duration};

use tokio::process::Command;

use crate::{
    support::{Etcd, Postgres},
    world::etcd_url,
};

async fn demo(arguments: &[&str]) -> Output {
    let command = Command::new(env!("CARGO_BIN_EXE_fencegate"))
        .arg("demo")
        .args(arguments)
        // Meant for production, where the run without the guard has no business.
        .env("FENCEGATE_STORE", "postgres://127.0.0.1:1/production")
        .env("DATABASE_URL", "postgres://127.0.0.1:1/production")
        .env("FENCEGATE_LOCKS", "etcd://127.0.0.1:1")
        .kill_on_drop(true)
        .output();
    tokio::time::timeout(Duration::from_secs(60), command)
        .await
        .expect("the demo comes to its end")
        .unwrap()
}

/// The story is told in its order, and the verdicts are those that matter.
fn assert_story(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    let mut rest = &*text;
    for part in [
        "A  holds it: token 1-",
        "A is stopped with SIGSTOP",
        "B  holds it: token 1-",
        "B  writes [B] with token",
        "A is woken with SIGCONT",
        "REFUSED, 412 token-stale, mark 1-",
        "A  writes [B, A] with token",
        "2 updates acknowledged, 0 lost",
        "WITHOUT THE GUARD",
        "A is stopped with SIGSTOP",
        "B  writes [B] with token",
        "A is woken with SIGCONT",
        "A  writes [A] with token",
        "2 updates acknowledged, 1 LOST (B)",
    ] {
        let at = rest
            .find(part)
            .unwrap_or_else(|| panic!("no {part:?} in its place:\n{text}\n{errors}"));
        rest = &rest[at + part.len()..];
    }
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "a line is too wide:\n{text}"
    );
}

#[tokio::test]
async fn with_nothing_installed() {
    assert_story(&demo(&[]).await);
}

#[tokio::test]
async fn on_postgres_alone() {
    let postgres = Postgres::start().await;
    assert_story(&demo(&["--store", &postgres.url()]).await);
}

#[tokio::test]
async fn on_postgres_and_etcd() {
    let (postgres, etcd) = tokio::join!(Postgres::start(), Etcd::start());
    // Twice, since the store keeps its marks and its binding.
    for _ in 0..2 {
        assert_story(&demo(&["--store", &postgres.url(), "--locks", &etcd_url(&etcd)]).await);
    }
}

#[tokio::test]
async fn it_says_what_is_missing() {
    for (arguments, said) in [
        (["--store", "mysql://host/db"], "give postgres://"),
        (["--locks", "consul://host"], "give etcd://"),
        (["--store", "postgres://127.0.0.1:1/db"], "out of reach"),
        (["--ttl", "soon"], "--ttl"),
        (["--ttl", "1ms"], "100ms"),
    ] {
        let output = demo(&arguments).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(errors.contains(said), "{arguments:?}: {errors}");
    }
}
