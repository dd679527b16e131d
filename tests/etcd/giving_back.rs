//! A lock that is being given back is nobody's, and its holder's least of all.

use std::pin::pin;

use fencegate::lock::{LockError, LockService};
use tokio::runtime::{Builder, Runtime};

use super::{handover::begin, *};
use crate::support::eventually;

/// A holder whose call was dropped comes again while its lock is on its way back. It must not be told that it holds what
/// is about to be deleted. The giving back is done by a runtime of its own here, which stands still meanwhile.
#[test]
fn a_lock_on_its_way_back_is_not_its_holders_who_comes_again() {
    let (runtime, of_the_call) = (runtime(), standing_still());
    let server = runtime.block_on(Etcd::start());
    let locks = runtime.block_on(locks(server.endpoint()));
    let mut stranger = runtime.block_on(stranger(&server));
    let first = request();
    let held = runtime.block_on(locks.acquire(&first)).unwrap();
    let dropped = waiting();
    let handed = of_the_call.block_on(async {
        let mut call = pin!(locks.acquire(&dropped));
        begin(&mut call).await;
        locks.release(&held.claim).await.unwrap();
        keys(&mut stranger).await[0].create_revision()
    });

    let again = Request {
        wait: Duration::ZERO,
        ..dropped.clone()
    };
    let outcome = runtime.block_on(locks.acquire(&again));
    let there = runtime.block_on(keys(&mut stranger));
    assert_eq!(there[0].create_revision(), handed, "it is not given back yet");
    assert!(matches!(outcome, Err(LockError::Busy { .. })), "{outcome:?}");

    of_the_call.block_on(eventually(SOON, async || keys(&mut stranger).await.is_empty()));
    let held = runtime.block_on(locks.acquire(&dropped)).unwrap();
    assert!(held.claim.sequence.get() > handed);
    runtime.block_on(locks.renew(&held.claim)).unwrap();
}

fn runtime() -> Runtime {
    let mut runtime = Builder::new_multi_thread();
    runtime.worker_threads(1).enable_all().build().unwrap()
}

/// Does nothing but while it is waited for.
fn standing_still() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}
