//! The lock goes to the next one of the same process in one transaction, unless another process waits.

use std::pin::{Pin, pin};

use fencegate::lock::{Held, LockError, LockService};
use uuid::Uuid;

use super::*;
use crate::support::{Proxy, eventually};

/// Lets a future begin: it stands in the line of its process then.
pub(super) async fn begin(future: &mut Pin<&mut impl Future<Output = Result<Held, LockError>>>) {
    let begun = tokio::time::timeout(Duration::ZERO, future).await;
    assert!(begun.is_err(), "the lock is taken");
}

/// Releases the lock while somebody waits for it in this process, who has it next.
async fn hand_over(locks: &EtcdLocks, held: &Held) -> Held {
    let waiting = waiting();
    let mut next = pin!(locks.acquire(&waiting));
    begin(&mut next).await;
    locks.release(&held.claim).await.unwrap();
    next.await.unwrap()
}

#[tokio::test]
async fn it_takes_one_transaction() {
    let server = Etcd::start().await;
    let locks = locks(server.endpoint()).await;
    let mut stranger = stranger(&server).await;
    let held = locks.acquire(&request()).await.unwrap();
    let next = hand_over(&locks, &held).await;
    assert_eq!(
        next.claim.sequence.get(),
        held.claim.sequence.get() + 1,
        "what deletes the one key puts the other"
    );
    assert_eq!(next.identity, held.identity);
    assert_eq!(
        keys(&mut stranger).await[0].create_revision(),
        next.claim.sequence.get()
    );
    locks.renew(&next.claim).await.unwrap();
    locks.release(&next.claim).await.unwrap();
    assert!(keys(&mut stranger).await.is_empty());
}

#[tokio::test]
async fn another_process_that_waits_comes_first() {
    let server = Etcd::start().await;
    let (locks, other) = (locks(server.endpoint()).await, locks(server.endpoint()).await);
    let mut stranger = stranger(&server).await;
    let held = locks.acquire(&request()).await.unwrap();
    let elsewhere = tokio::spawn(async move { (other.acquire(&waiting()).await, other) });
    eventually(SOON, async || keys(&mut stranger).await.len() == 2).await;

    let waiting = waiting();
    let mut next = pin!(locks.acquire(&waiting));
    begin(&mut next).await;
    locks.release(&held.claim).await.unwrap();
    let (first, other) = elsewhere.await.unwrap();
    let first = first.expect("it waited before");
    begin(&mut next).await;
    other.release(&first.claim).await.unwrap();
    let next = next.await.unwrap();
    assert!(next.claim.sequence > first.claim.sequence);
}

/// Who is gone when the lock arrives gives it back at once.
#[tokio::test]
async fn it_is_given_back_if_nobody_takes_it() {
    let server = Etcd::start().await;
    let locks = locks(server.endpoint()).await;
    let mut stranger = stranger(&server).await;
    let held = locks.acquire(&request()).await.unwrap();
    {
        let waiting = waiting();
        let mut gone = pin!(locks.acquire(&waiting));
        begin(&mut gone).await;
        locks.release(&held.claim).await.unwrap();
        let handed = keys(&mut stranger).await;
        assert_eq!(handed.len(), 1);
        assert_ne!(handed[0].create_revision(), held.claim.sequence.get());
    }
    eventually(SOON, async || keys(&mut stranger).await.is_empty()).await;
    locks.acquire(&waiting()).await.unwrap();
}

/// What a grant says of the lock service's history is read with it, whoever read it before.
#[tokio::test]
async fn each_lock_shows_the_history_that_it_is_of() {
    let server = Etcd::start().await;
    let locks = locks(server.endpoint()).await;
    let mut stranger = stranger(&server).await;
    let mut held = locks.acquire(&request()).await.unwrap();
    for on in [false, true, false, true] {
        let other = Uuid::new_v4();
        assert_ne!(held.identity.instance, other);
        stranger.put(IDENTITY, other.to_string(), None).await.unwrap();
        held = if on {
            hand_over(&locks, &held).await
        } else {
            locks.release(&held.claim).await.unwrap();
            locks.acquire(&request()).await.unwrap()
        };
        assert_eq!(held.identity.instance, other);
    }
    locks.release(&held.claim).await.unwrap();
    stranger.delete(IDENTITY, None).await.unwrap();
    let again = locks.acquire(&waiting()).await.unwrap();
    assert_ne!(again.identity.instance, held.identity.instance);
    let made = stranger.get(IDENTITY, None).await.unwrap().take_kvs();
    assert_eq!(made[0].value_str().unwrap(), again.identity.instance.to_string());
}

/// It arrives when its time is up, and is given back then. It must not be told meanwhile that it has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_arrives_too_late_is_nobodys() {
    let server = Etcd::start().await;
    let proxy = Proxy::start(server.endpoint()).await;
    let locks = locks(proxy.addr()).await;
    let mut stranger = stranger(&server).await;
    let held = locks.acquire(&request()).await.unwrap();
    proxy.delay(Duration::from_millis(100));
    let brief = Request {
        wait: Duration::from_millis(150),
        ..request()
    };
    let mut late = pin!(locks.acquire(&brief));
    begin(&mut late).await;
    let (late, released) = tokio::join!(late, locks.release(&held.claim));
    released.unwrap();
    proxy.delay(Duration::ZERO);
    match late {
        // Its own place in the queue, on a machine that was busy.
        Ok(late) => {
            let watched = std::time::Instant::now();
            while watched.elapsed() < Duration::from_secs(1) {
                locks.renew(&late.claim).await.expect("it was granted");
            }
        }
        Err(LockError::Busy { .. }) => {
            eventually(SOON, async || keys(&mut stranger).await.is_empty()).await;
        }
        Err(error) => panic!("{error}"),
    }
}

/// What is in a put's way is in no deletion's.
#[tokio::test]
async fn a_full_disk_is_in_no_releases_way() {
    let server = Etcd::builder()
        .flag("--quota-backend-bytes=1048576")
        .start()
        .await;
    let locks = locks(server.endpoint()).await;
    let mut stranger = stranger(&server).await;
    let held = locks.acquire(&request()).await.unwrap();
    eventually(SOON, async || {
        let refused = stranger.put("filling", vec![0; 100_000], None).await.err();
        refused.is_some_and(|error| error.to_string().contains("space exceeded"))
    })
    .await;

    let waiting = waiting();
    let mut next = pin!(locks.acquire(&waiting));
    begin(&mut next).await;
    locks.release(&held.claim).await.unwrap();
    assert!(keys(&mut stranger).await.is_empty());
    let refused = next.await.unwrap_err();
    assert!(refused.to_string().contains("space exceeded"), "{refused}");
}
