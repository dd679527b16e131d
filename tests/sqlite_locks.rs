//! The sqlite lock service's own: those who wait in one process leave the lock to another one.

use std::time::Duration;

use fencegate::{
    Holder,
    database::sqlite::SqliteFile,
    lock::{Held, LockService, Request, sqlite::SqliteLocks},
};
use tokio::{sync::mpsc, task::JoinSet};

use crate::support::{self, eventually, eventually::PATIENCE};

/// Many more than a process may hand the lock to while another one waits.
const CROWD: usize = 120;
/// How many that may be: eight, unless somebody comes by at the moment in which it is the other's turn, which then comes eight
/// later. On a busy machine that happens more often than not.
const MOST: usize = 80;
/// Much longer than a hand-over takes.
const QUIET: Duration = Duration::from_secs(2);

fn request() -> Request {
    Request {
        name: crate::world::name("a"),
        holder: Holder::random(),
        label: String::new(),
        ttl: Duration::from_secs(600),
        wait: PATIENCE * 4,
        floor: 0,
    }
}

/// The other process has noted that it waits, and has been stopped since, so that it cannot come by when the lock happens
/// to be free: what is left to it is left on purpose.
#[tokio::test]
async fn a_lock_is_left_to_a_process_that_waits_after_a_few_hand_overs() {
    let folder = support::folder("sqlite");
    let path = folder.path().join("locks.db");
    let file = SqliteFile::open(&path).await.unwrap();
    let one = SqliteLocks::new(SqliteFile::open(&path).await.unwrap());
    let other = SqliteLocks::new(SqliteFile::open(&path).await.unwrap());

    let mut held = one.acquire(&request()).await.unwrap();
    let (handed, mut crowd) = mpsc::unbounded_channel::<Held>();
    let mut waiters = JoinSet::new();
    for _ in 0..CROWD {
        let (one, handed) = (one.clone(), handed.clone());
        waiters.spawn(async move {
            // Whom the test has left gets nothing.
            let held = one.acquire(&request()).await.unwrap();
            handed.send(held).ok();
        });
    }

    // Like that of the first who waits here, but it does not lapse while a busy machine takes its time.
    let note =
        "insert into lock_waiter select name, 'another', expires_at + 600000, boot from lock_waiter limit 1";
    eventually(PATIENCE, async || {
        let noted = sqlx::query(note).execute(file.pool()).await;
        noted.is_ok_and(|noted| noted.rows_affected() == 1)
    })
    .await;

    let (asked, mut passed) = (request(), 0);
    let left = loop {
        one.release(&held.claim).await.unwrap();
        held = match tokio::time::timeout(QUIET, crowd.recv()).await {
            Ok(next) => next.unwrap(),
            // The lock is free, and stays so.
            Err(_) => tokio::select! {
                left = other.acquire(&asked) => break left.unwrap(),
                next = crowd.recv() => next.unwrap(),
            },
        };
        passed += 1;
        assert!(passed <= MOST, "{passed} hand-overs past a process that waits");
    };
    assert_eq!(left.claim.sequence.get(), held.claim.sequence.get() + 1);
    sqlx::query("delete from lock_waiter where process = 'another'")
        .execute(file.pool())
        .await
        .unwrap();
    other.release(&left.claim).await.unwrap();
    let next = tokio::time::timeout(PATIENCE, crowd.recv()).await;
    let next = next.expect("it is theirs again").unwrap();
    assert!(next.claim.sequence > left.claim.sequence);
}
