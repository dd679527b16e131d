//! etcd tells the next in the queue, and nobody else.

use fencegate::lock::etcd::EtcdLocks;

use super::*;
use crate::support::{Etcd, eventually, http};

/// What the server has been asked so far, and how often it has told somebody who watches.
struct Seen {
    requests: u64,
    told: u64,
}

async fn seen(server: &Etcd) -> Seen {
    let port = server.endpoint().rsplit(':').next().unwrap().parse().unwrap();
    let metrics = http::get(port, "/metrics").await.unwrap();
    let sum = |name: &str, of: &str| {
        let lines = metrics
            .lines()
            .filter(|line| line.starts_with(name) && line.contains(of));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64)
            .sum()
    };
    Seen {
        requests: sum("grpc_server_msg_received_total{", ""),
        told: sum("grpc_server_msg_sent_total{", "grpc_method=\"Watch\""),
    }
}

/// Keys in the queue.
async fn keys(client: &mut etcd_client::Client) -> i64 {
    let options = etcd_client::GetOptions::new().with_prefix().with_count_only();
    client
        .get("fencegate/locks/a/", Some(options))
        .await
        .unwrap()
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_wakes_one_of_500_processes() {
    let server = Etcd::start().await;
    let url = format!("etcd://{}", server.endpoint());
    let mut processes = Vec::new();
    for _ in 0..WAITERS {
        processes.push(EtcdLocks::connect(&url).await.unwrap());
    }
    let first = EtcdLocks::connect(&url).await.unwrap();
    let held = first.acquire(&request(Duration::ZERO)).await.unwrap();
    let mut client = etcd_client::Client::connect([server.endpoint()], None)
        .await
        .unwrap();
    // A few at a time: 500 that connect together on a busy machine are not all answered in time.
    let (sender, mut acquired) = unbounded_channel();
    let mut joined = 1;
    for some in processes.chunks(25) {
        some.iter().for_each(|locks| wait(locks, &sender));
        joined += some.len() as i64;
        eventually(SOON, async || {
            if let Ok((_, early)) = acquired.try_recv() {
                panic!("nobody is to have the lock yet, or to give up: {early:?}");
            }
            keys(&mut client).await == joined
        })
        .await;
    }
    quiet(&server).await;

    let before = seen(&server).await;
    hand_over((&first, held), &mut acquired).await;
    quiet(&server).await;
    let after = seen(&server).await;
    let (requests, told) = (after.requests - before.requests, after.told - before.told);
    let releases = RELEASES as u64;
    // That it is gone, and that the watch has ended.
    assert!(
        told <= releases * 2,
        "{told} messages to those who watch, for {releases} releases"
    );
    assert!(
        requests <= releases * 8,
        "{requests} requests for {releases} releases"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_of_one_process_have_one_key() {
    let server = Etcd::start().await;
    let url = format!("etcd://{}", server.endpoint());
    let (one, first) = (
        EtcdLocks::connect(&url).await.unwrap(),
        EtcdLocks::connect(&url).await.unwrap(),
    );
    let held = first.acquire(&request(Duration::ZERO)).await.unwrap();
    let mut acquired = crowd(std::slice::from_ref(&one));
    eventually(SOON, async || {
        let state = first.inspect(&held.claim.name).await.unwrap();
        let here = one.inspect(&held.claim.name).await.unwrap();
        (state.waiting, here.waiting) == (Some(1), Some(WAITERS as u64))
    })
    .await;
    quiet(&server).await;

    let before = seen(&server).await;
    hand_over((&first, held), &mut acquired).await;
    let requests = seen(&server).await.requests - before.requests;
    assert!(
        requests <= RELEASES as u64 * 4 + 8,
        "{requests} requests for {RELEASES} releases"
    );
}

/// Until nobody has asked anything for a while.
async fn quiet(server: &Etcd) {
    let mut last = 0;
    eventually(SOON, async || {
        let before = std::mem::replace(&mut last, seen(server).await.requests);
        tokio::time::sleep(Duration::from_millis(300)).await;
        before == last
    })
    .await;
}
