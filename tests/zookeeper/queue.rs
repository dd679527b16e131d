//! The order of those who wait, whoever they are.

use super::*;

const TTL: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_strangers_lock_excludes_ours_and_ends_with_its_session() {
    let server = ZooKeeper::start().await;
    let locks = locks(server.endpoint());
    let dying = stranger(&server).await;
    queue_up(&dying).await;
    assert!(matches!(
        locks.acquire(&request(TTL)).await,
        Err(LockError::Busy { .. })
    ));
    let waiter = acquire(&locks, waiting(TTL));
    contenders(&dying, 2).await;
    assert!(!waiter.is_finished());
    drop(dying);
    waiter.await.unwrap().unwrap();
}

#[tokio::test]
async fn one_who_dies_while_waiting_lets_nobody_pass() {
    let server = ZooKeeper::start().await;
    let locks = locks(server.endpoint());
    let (holder, dying) = (stranger(&server).await, stranger(&server).await);
    let (held, _) = queue_up(&holder).await;
    queue_up(&dying).await;
    let waiter = acquire(&locks, waiting(TTL));
    contenders(&holder, 3).await;
    drop(dying);
    contenders(&holder, 2).await;
    // It has looked at the queue again, and waits for the next one.
    eventually(SOON, async || server.ask("wchp").await.unwrap().contains(&held)).await;
    assert!(!waiter.is_finished());
    holder.delete(&held, None).await.unwrap();
    waiter.await.unwrap().unwrap();
}

#[tokio::test]
async fn waiters_are_served_in_their_order() {
    let server = ZooKeeper::start().await;
    let (one, other, stranger) = (
        locks(server.endpoint()),
        locks(server.endpoint()),
        stranger(&server).await,
    );
    let held = one.acquire(&request(TTL * 10)).await.unwrap();
    let mut waiters = Vec::new();
    for i in 0..10 {
        waiters.push(acquire(if i % 2 == 0 { &one } else { &other }, waiting(TTL * 10)));
        contenders(&stranger, i + 2).await;
    }
    one.release(&held.claim).await.unwrap();
    let mut last = held.claim.sequence;
    for waiter in waiters {
        let next = waiter.await.unwrap().unwrap();
        assert!(next.claim.sequence > last);
        last = next.claim.sequence;
        one.release(&next.claim).await.unwrap();
    }
}

/// What the server has received so far.
async fn packets(server: &ZooKeeper) -> u64 {
    let answer = server.ask("mntr").await.unwrap();
    let line = answer
        .lines()
        .find(|line| line.starts_with("zk_packets_received"))
        .unwrap();
    line.split_whitespace().last().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_wakes_one_of_500_who_wait() {
    const WAITERS: usize = 500;
    let server = ZooKeeper::start().await;
    let (locks, stranger) = (locks(server.endpoint()), stranger(&server).await);
    // Long sessions, so that few pings are counted.
    let ttl = Duration::from_secs(30);
    let mut holder = locks.acquire(&request(ttl)).await.unwrap();
    let (sender, mut acquired) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..WAITERS {
        let (locks, sender) = (locks.clone(), sender.clone());
        tokio::spawn(async move { sender.send(locks.acquire(&waiting(ttl * 10)).await) });
    }
    contenders(&stranger, WAITERS + 1).await;
    let watches = format!("\n{WAITERS} connections watching").replace(&WAITERS.to_string(), "1");
    eventually(SOON, async || {
        let answer = server.ask("wchs").await.unwrap();
        answer.starts_with(watches.trim()) && answer.contains(&format!("Total watches:{WAITERS}"))
    })
    .await;
    let before = packets(&server).await;
    for _ in 0..10 {
        locks.release(&holder.claim).await.unwrap();
        holder = acquired.recv().await.unwrap().unwrap();
    }
    let requests = packets(&server).await - before;
    assert!(requests <= 10 * 5 + 20, "{requests} requests for 10 releases");
}
