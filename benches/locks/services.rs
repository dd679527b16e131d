//! What is measured on which server.

use std::sync::Arc;

use fencegate::lock::{etcd::EtcdLocks, redis::RedisLocks, zookeeper::ZookeeperLocks};

use crate::{
    contest::Contest,
    foreign::Foreign,
    ours::{Load, Sealed, Service},
    redis_benchmark,
    setting::Settings,
    support::{Etcd, Postgres, Redis, ZooKeeper},
    table::{Row, count, median},
};

type Beside = Vec<(String, String)>;

const EACH: Load = Load {
    workers: 16,
    one: false,
};
const ONE: Load = Load {
    workers: 16,
    one: true,
};

pub async fn etcd(settings: &Settings, store: &Postgres, rows: &mut Vec<Row>, beside: &mut Beside) {
    let server = Etcd::start().await;
    let url = format!("etcd://{}", server.endpoint());
    let service: Service = Arc::new(EtcdLocks::connect(&url).await.expect("a URL"));
    let sealed = Sealed::new(store, &url).await;
    let mut go = Foreign::go(&server.endpoint()).await;
    let each = Load { workers: 64, ..EACH };
    for (load, must, aim) in [(each, 1.0, 1.5), (ONE, 4.0, 8.0)] {
        let contest = Contest {
            service: "etcd",
            load,
            against: "Go `concurrency.Mutex`",
            must,
            aim,
            locks: &service,
            sealed: &sealed,
        };
        let (row, more) = contest
            .row(settings, async |load| go.cycles(load, settings.time).await)
            .await;
        rows.push(row);
        beside.push(more);
    }
}

pub async fn zookeeper(settings: &Settings, store: &Postgres, rows: &mut Vec<Row>, beside: &mut Beside) {
    let server = ZooKeeper::builder().durable().start().await;
    let url = format!("zookeeper://{}", server.endpoint());
    let service: Service = Arc::new(ZookeeperLocks::new(&url).expect("a URL"));
    let sealed = Sealed::new(store, &url).await;
    let mut curator = Foreign::curator(&server.endpoint());
    // Java compiles what runs often, in its own time.
    curator.cycles(EACH, settings.time * 2).await;
    for (load, must, aim) in [(EACH, 1.2, 2.0), (ONE, 1.5, 3.0)] {
        let contest = Contest {
            service: "ZooKeeper",
            load,
            against: "Curator `InterProcessMutex`",
            must,
            aim,
            locks: &service,
            sealed: &sealed,
        };
        let (row, more) = contest
            .row(settings, async |load| curator.cycles(load, settings.time).await)
            .await;
        rows.push(row);
        beside.push(more);
    }
}

pub async fn redis(settings: &Settings, store: &Postgres, rows: &mut Vec<Row>, beside: &mut Beside) {
    let server = Redis::start().await;
    // `redis-benchmark` leaves nothing of what it finds.
    let apart = Redis::start().await;
    let service: Service = Arc::new(RedisLocks::connect(&server.url()).expect("a URL"));
    let sealed = Sealed::new(store, &server.url()).await;
    let contest = |load, against, must, aim| Contest {
        service: "Redis",
        load,
        against,
        must,
        aim,
        locks: &service,
        sealed: &sealed,
    };
    let (row, more) = contest(EACH, "`redis-benchmark` of the same scripts", 0.5, 0.8)
        .row(settings, async |load| redis_benchmark::cycles(&apart, load).await)
        .await;
    rows.push(row);
    beside.push(more);
    let mut python = Foreign::redis_py(server.port());
    let mut handed_over = Vec::new();
    let (row, more) = contest(ONE, "redis-py `Lock`", 10.0, 20.0)
        .row(settings, async |load| {
            let rates = python.rates(load, settings.time).await;
            handed_over.push(rates[1]);
            rates[0]
        })
        .await;
    rows.push(row);
    beside.push(more);
    // Ours have a queue: each of their cycles is one.
    beside.push((
        format!("redis-py, {ONE}: hand-overs from one worker to another"),
        format!("{}/s", count(median(&handed_over))),
    ));
}
