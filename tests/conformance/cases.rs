//! The cases of the contract.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use fencegate::lock::{LockError, Request};

use super::{Fixture, assert_busy, take};
use crate::support::eventually;

/// More than any server here needs for a few calls on a busy machine.
const SOON: Duration = Duration::from_secs(10);

/// How many of one process wait for a lock that another process wants once.
const CROWD: usize = 16;

/// For a fence that many want, with a TTL that nobody's hold comes near.
fn patient(f: &Fixture) -> Request {
    Request {
        ttl: Duration::from_secs(10),
        wait: Duration::from_secs(60),
        ..f.request("crowd")
    }
}

pub async fn sequences_rise_after_release_and_expiry(f: &Fixture) {
    let first = take(&f.one, &f.request("rise")).await;
    f.one.release(&first.claim).await.unwrap();
    let second = take(&f.other, &f.request("rise")).await;
    assert!(second.claim.sequence > first.claim.sequence);
    // Nobody releases this one.
    let third = take(&f.one, &f.waiting("rise")).await;
    assert!(third.claim.sequence > second.claim.sequence);
}

pub async fn one_holder_at_a_time(f: &Fixture) {
    let held = take(&f.one, &f.request("one")).await;
    assert!(held.term.ttl >= f.ttl);
    assert_busy(&f.one, &f.request("one")).await;
    assert_busy(&f.other, &f.request("one")).await;
    f.one.release(&held.claim).await.unwrap();
    take(&f.other, &f.request("one")).await;
}

pub async fn a_waiter_gets_the_lock_when_it_is_released(f: &Fixture) {
    let held = take(&f.one, &f.request("wait")).await;
    let request = f.waiting("wait");
    let waiter = tokio::spawn({
        let other = f.other.clone();
        async move { other.acquire(&request).await }
    });
    // It must be waiting for the release, so the lock is kept until it surely asked.
    for _ in 0..3 {
        tokio::time::sleep(f.ttl / 3).await;
        f.one.renew(&held.claim).await.unwrap();
        assert!(!waiter.is_finished());
    }
    f.one.release(&held.claim).await.unwrap();
    let next = tokio::time::timeout(SOON, waiter)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(next.claim.sequence > held.claim.sequence || !f.counts);
    assert!(next.term.deadline.remaining() > Duration::ZERO);
}

pub async fn a_waiter_gets_the_lock_when_it_expires_and_not_before(f: &Fixture) {
    let held = take(&f.one, &f.request("expire")).await;
    let next = take(&f.other, &f.waiting("expire")).await;
    assert!(
        held.term.deadline.has_passed(),
        "two holders believe that they hold the lock"
    );
    assert!(next.claim.sequence > held.claim.sequence);
}

pub async fn a_wait_that_runs_out_leaves_no_trace(f: &Fixture) {
    let held = take(&f.one, &f.request("brief")).await;
    let wait = Duration::from_millis(200);
    let started = Instant::now();
    assert_busy(
        &f.other,
        &Request {
            wait,
            ..f.request("brief")
        },
    )
    .await;
    assert!(started.elapsed() >= wait);
    f.one.release(&held.claim).await.unwrap();
    // A ghost in the queue would have the lock now.
    take(&f.one, &f.request("brief")).await;
}

pub async fn renewals_keep_the_lock(f: &Fixture) {
    // A machine that stands still for longer than the lock lasts shows nothing.
    while !renewals_keep_the_lock_in_time(f).await {}
}

/// Whether every renewal and every look came in time.
async fn renewals_keep_the_lock_in_time(f: &Fixture) -> bool {
    let request = Request {
        // A machine that is busy is late with a renewal, too.
        ttl: f.ttl.max(Duration::from_secs(2)),
        ..f.waiting("renew")
    };
    let held = take(&f.one, &request).await;
    let mut last = held.term.deadline;
    let until = Instant::now() + held.term.ttl * 2;
    while Instant::now() < until {
        tokio::time::sleep(held.term.ttl / 4).await;
        match f.one.renew(&held.claim).await {
            Ok(term) => {
                assert!(term.deadline > last);
                last = term.deadline;
            }
            Err(LockError::Lost) if last.has_passed() => return false,
            Err(error) => panic!("not renewed: {error}"),
        }
        match f.other.acquire(&f.request("renew")).await {
            Err(LockError::Busy { .. }) => {}
            Ok(_) if last.has_passed() => return false,
            other => panic!("expected the lock to be busy, not {other:?}"),
        }
    }
    f.one.release(&held.claim).await.unwrap();
    true
}

pub async fn a_renewal_that_is_late_fails_and_takes_nothing_back(f: &Fixture) {
    let held = take(&f.one, &f.request("late")).await;
    // Expired for everybody: a waiter got the lock and gave it back, so nobody has it.
    let next = take(&f.other, &f.waiting("late")).await;
    assert!(
        matches!(f.one.renew(&held.claim).await, Err(LockError::Lost)),
        "somebody else holds it"
    );
    f.other.release(&next.claim).await.unwrap();
    assert!(
        matches!(f.one.renew(&held.claim).await, Err(LockError::Lost)),
        "nobody holds it"
    );
    take(&f.other, &f.request("late")).await;
}

pub async fn releases_act_on_their_own_acquisition_only(f: &Fixture) {
    let old = take(&f.one, &f.request("own")).await;
    let new = take(&f.other, &f.waiting("own")).await;
    f.one.release(&old.claim).await.unwrap();
    f.other.release(&old.claim).await.unwrap();
    assert_busy(&f.one, &f.request("own")).await;
    f.other.renew(&new.claim).await.unwrap();
    f.other.release(&new.claim).await.unwrap();
    f.other.release(&new.claim).await.unwrap();
    // Nor on a later one of the same holder.
    let chosen = f.request("own");
    let first = take(&f.one, &chosen).await;
    f.one.release(&first.claim).await.unwrap();
    let second = take(&f.one, &chosen).await;
    f.one.release(&first.claim).await.unwrap();
    f.other.release(&first.claim).await.unwrap();
    f.one.renew(&second.claim).await.unwrap();
    f.one.release(&second.claim).await.unwrap();
    take(&f.one, &f.request("own")).await;
}

pub async fn a_number_without_its_holder_is_worth_nothing(f: &Fixture) {
    let held = take(&f.one, &f.request("guess")).await;
    let guess = fencegate::lock::Claim {
        holder: fencegate::Holder::random().hash(),
        ..held.claim.clone()
    };
    for service in [&f.one, &f.other] {
        assert!(matches!(service.renew(&guess).await, Err(LockError::Lost)));
        service.release(&guess).await.unwrap();
        assert_busy(service, &f.request("guess")).await;
    }
    f.one.renew(&held.claim).await.unwrap();
}

pub async fn another_process_may_renew_and_release(f: &Fixture) {
    let held = take(&f.one, &f.request("other")).await;
    if f.renews_anywhere {
        f.other.renew(&held.claim).await.unwrap();
    }
    f.other.release(&held.claim).await.unwrap();
    assert!(matches!(f.one.renew(&held.claim).await, Err(LockError::Lost)));
    // Releasing where it was granted must not touch what came after it.
    let next = take(&f.other, &f.request("other")).await;
    f.one.release(&held.claim).await.unwrap();
    f.other.renew(&next.claim).await.unwrap();
    // And what served the old acquisition must not be shared between two new ones.
    let strange = take(&f.one, &f.request("strange")).await;
    f.other.release(&next.claim).await.unwrap();
    f.one.renew(&strange.claim).await.unwrap();
}

pub async fn asking_again_gives_the_same_acquisition(f: &Fixture) {
    let request = f.request("again");
    let held = take(&f.one, &request).await;
    let again = take(&f.one, &request).await;
    assert_eq!(again.claim, held.claim);
    let waiting = Request {
        wait: SOON,
        ..request.clone()
    };
    assert_eq!(take(&f.one, &waiting).await.claim, held.claim);
    if f.renews_anywhere {
        assert_eq!(take(&f.other, &request).await.claim, held.claim);
        assert_eq!(take(&f.other, &waiting).await.claim, held.claim);
    }
    assert_busy(&f.other, &f.request("again")).await;
    f.one.release(&held.claim).await.unwrap();
    let next = take(&f.one, &request).await;
    assert!(
        next.claim.sequence > held.claim.sequence,
        "a new acquisition has a new sequence"
    );
}

pub async fn dropped_waiters_leave_nothing(f: &Fixture) {
    // Long enough that what somebody left behind would keep everybody out until this test fails.
    let ttl = Duration::from_secs(60);
    let request = Request {
        ttl,
        ..f.request("drop")
    };
    let held = take(&f.one, &request).await;
    // Some are dropped before they have asked, some in the middle, some while they wait, some as they get the lock.
    let start = |i: u64| {
        let service = if i.is_multiple_of(2) { &f.one } else { &f.other }.clone();
        let request = Request {
            holder: fencegate::Holder::random(),
            wait: Duration::from_secs(60),
            ..request.clone()
        };
        let patience = Duration::from_micros(i * 7919 % 500_000);
        tokio::spawn(async move {
            match tokio::time::timeout(patience, service.acquire(&request)).await {
                Ok(held) => Some((service, held.unwrap())),
                Err(_) => None,
            }
        })
    };
    let waiters: Vec<_> = (0..500).map(start).collect();
    for waiter in waiters {
        assert!(
            waiter.await.unwrap().is_none(),
            "a waiter got a lock that was held"
        );
    }
    let waiters: Vec<_> = (500..1000).map(start).collect();
    f.one.release(&held.claim).await.unwrap();
    for waiter in waiters {
        if let Some((service, held)) = waiter.await.unwrap() {
            service.release(&held.claim).await.unwrap();
        }
    }
    // What they left is taken back in the background.
    eventually(SOON, async || {
        let state = f.one.inspect(&request.name).await.unwrap();
        state.holder.is_none() && state.waiting.is_none_or(|waiting| waiting == 0)
    })
    .await;
    let next = Request {
        wait: SOON,
        ..f.request("drop")
    };
    take(&f.other, &next).await;
}

pub async fn the_identity_stays(f: &Fixture) {
    let identity = f.one.identity().await.unwrap();
    assert_eq!(f.other.identity().await.unwrap(), identity);
    assert_eq!(identity.kind, f.one.kind());
    assert_eq!(take(&f.other, &f.request("identity")).await.identity, identity);
}

pub async fn inspection_shows_the_holder(f: &Fixture) {
    let name = f.request("look").name;
    assert!(f.one.inspect(&name).await.unwrap().holder.is_none());
    let held = take(&f.one, &f.request("look")).await;
    for service in [&f.one, &f.other] {
        let holder = service
            .inspect(&name)
            .await
            .unwrap()
            .holder
            .expect("somebody holds it");
        assert_eq!(holder.sequence, held.claim.sequence);
        assert_eq!(holder.label, "worker-7");
        assert_eq!(holder.holder, Some(held.claim.holder));
        assert!(holder.expires_in <= held.term.ttl, "{:?}", holder.expires_in);
    }
    f.one.release(&held.claim).await.unwrap();
    assert!(f.other.inspect(&name).await.unwrap().holder.is_none());
}

pub async fn counters_go_on_from_the_floor(f: &Fixture) {
    let floor = 1_000_000_000;
    let held = take(
        &f.one,
        &Request {
            floor,
            ..f.request("floor")
        },
    )
    .await;
    assert_eq!(held.claim.sequence.get() > floor, f.counts);
    f.one.release(&held.claim).await.unwrap();
    let next = take(&f.other, &f.request("floor")).await;
    assert!(next.claim.sequence > held.claim.sequence);
    f.other.release(&next.claim).await.unwrap();
    // A counter that is there already, and behind.
    let floor = 2 * floor;
    let request = Request {
        floor,
        ..f.request("floor")
    };
    let last = take(&f.one, &request).await;
    assert_eq!(last.claim.sequence.get() > floor, f.counts);
}

pub async fn fences_are_strangers(f: &Fixture) {
    let longest = "x".repeat(200);
    let names = [
        "a",
        "a:b",
        "ab",
        "a b",
        "a%2Fb",
        "ünï cödé 🦀",
        "*",
        "\\",
        "'",
        "..a",
        "_c_",
        longest.as_str(),
    ];
    let mut held = Vec::new();
    for name in names {
        held.push(take(&f.one, &f.request(name)).await);
    }
    for (name, held) in names.into_iter().zip(held) {
        f.one.release(&held.claim).await.unwrap();
        take(&f.other, &f.request(name)).await;
    }
}

pub async fn contenders_take_turns(f: &Fixture) {
    let inside = Arc::new(AtomicBool::new(false));
    let last = Arc::new(AtomicI64::new(0));
    let mut contenders = Vec::new();
    for i in 0..8 {
        let service = if i % 2 == 0 { &f.one } else { &f.other }.clone();
        let (inside, last) = (inside.clone(), last.clone());
        let request = Request {
            ttl: Duration::from_secs(10),
            wait: Duration::from_secs(60),
            ..f.request("turns")
        };
        contenders.push(tokio::spawn(async move {
            for _ in 0..10 {
                let request = Request {
                    holder: fencegate::Holder::random(),
                    ..request.clone()
                };
                let held = service.acquire(&request).await.unwrap();
                assert!(!inside.swap(true, Ordering::SeqCst), "two holders at once");
                let before = last.swap(held.claim.sequence.get(), Ordering::SeqCst);
                assert!(
                    before < held.claim.sequence.get(),
                    "{before} came before {}",
                    held.claim.sequence
                );
                tokio::task::yield_now().await;
                assert!(inside.swap(false, Ordering::SeqCst));
                service.release(&held.claim).await.unwrap();
            }
        }));
    }
    for contender in contenders {
        contender.await.unwrap();
    }
}

/// Those who wait in one process hand the lock to each other, which is quick, and must not go on for ever.
pub async fn a_process_with_many_waiters_starves_no_other(f: &Fixture) {
    for (hold, most) in [(Duration::ZERO, 500), (Duration::from_millis(60), 40)] {
        let (handed, stop) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
        let mut crowd = tokio::task::JoinSet::new();
        for _ in 0..CROWD {
            let (one, handed, stop) = (f.one.clone(), handed.clone(), stop.clone());
            let request = patient(f);
            crowd.spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let holder = fencegate::Holder::random();
                    let request = Request {
                        holder,
                        ..request.clone()
                    };
                    let held = one.acquire(&request).await.unwrap();
                    handed.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(hold).await;
                    one.release(&held.claim).await.unwrap();
                }
            });
        }
        for _ in 0..3 {
            let before = handed.load(Ordering::SeqCst);
            // Everybody is in line again.
            eventually(SOON, async || handed.load(Ordering::SeqCst) > before + 2).await;
            let before = handed.load(Ordering::SeqCst);
            let held = f.other.acquire(&patient(f)).await.unwrap();
            let passed = handed.load(Ordering::SeqCst) - before;
            assert!(
                passed <= most || !f.lets_others,
                "{passed} hand-overs of {hold:?} each"
            );
            f.other.release(&held.claim).await.unwrap();
        }
        stop.store(true, Ordering::SeqCst);
        while let Some(done) = crowd.join_next().await {
            done.unwrap();
        }
    }
}
