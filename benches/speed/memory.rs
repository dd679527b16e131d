//! Memory of a gateway that has granted 10,000 leases, while 1,000 clients wait for more.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    gateway::Gateway,
    setting::Settings,
    support::Etcd,
    table::{Better, Row},
    writes::Bench,
};

const LEASES: usize = 10_000;
const WAITERS: usize = 1_000;

/// With the store's own locks, and with etcd's; the greater one counts.
pub async fn row(bench: &Bench, settings: &Settings) -> Row {
    let etcd = Etcd::start().await;
    let locks = format!("etcd://{}", etcd.endpoint().trim_start_matches("http://"));
    let (mut ratios, mut figures) = (Vec::new(), Vec::new());
    for (name, arguments) in [("postgres", vec![]), ("etcd", vec!["--locks", locks.as_str()])] {
        let url = bench.server.create_database().await;
        let mut all = vec!["--migrate", "--store", url.as_str()];
        all.extend(arguments);
        let gateway = Gateway::start(&all).await;
        let empty = gateway.memory();
        let full = fill(&gateway, settings).await;
        ratios.push(full as f64 / 1e6);
        figures.push(format!(
            "{name} {:.0} MB ({:.0} MB empty)",
            full as f64 / 1e6,
            empty as f64 / 1e6
        ));
    }
    let most = ratios.iter().copied().fold(0.0, f64::max);
    Row {
        what: "memory of a gateway with 10,000 live leases and 1,000 waiters".into(),
        against: "".into(),
        must: 150.0,
        aim: 60.0,
        better: Better::Lower,
        unit: "MB",
        figures: figures.join(", "),
        ratios: vec![most],
    }
}

async fn fill(gateway: &Gateway, settings: &Settings) -> u64 {
    let leases = if settings.short { LEASES / 20 } else { LEASES };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let ask = |fence: usize, asked: &'static str| {
        let url = format!("http://127.0.0.1:{}/v1/fences/m{fence}/lease", gateway.port);
        http.post(url).body(asked)
    };
    let at_once = Arc::new(Semaphore::new(64));
    let mut granted = JoinSet::new();
    for fence in 0..leases {
        let (request, at_once) = (ask(fence, r#"{"ttl":"1h"}"#), at_once.clone());
        granted.spawn(async move {
            let _place = at_once.acquire().await.unwrap();
            request.send().await.unwrap().status().as_u16()
        });
    }
    while let Some(status) = granted.join_next().await {
        assert_eq!(status.unwrap(), 201);
    }
    // Ten for each of a hundred fences; dropped at the end, which takes them out of the queues.
    let mut waiting = JoinSet::new();
    for waiter in 0..WAITERS {
        let request = ask(waiter % 100, r#"{"ttl":"1h","wait":"4m"}"#);
        waiting.spawn(async move { request.send().await.unwrap().status().as_u16() });
    }
    // Until it does not grow any more.
    let mut memory = 0;
    loop {
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(waiting.try_join_next().is_none(), "a waiter was answered");
        let now = gateway.memory();
        if now <= memory + memory / 100 {
            return now.max(memory);
        }
        memory = now;
    }
}
