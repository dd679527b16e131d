//! What is asked of the speed of lock services: acquire and release of the lock alone, by fencegate's client
//! and by the foreign one, side by side on one server, and the sealed grant beside it.
//!
//! `make bench-locks`; `ROUNDS=1 SECONDS=2 make bench-locks` to try it; `ONLY=etcd make bench-locks` for a part: `etcd`,
//! `zookeeper`, `redis`. How and why is in docs/benchmarks.md.

#[path = "../speed/machine.rs"]
mod machine;
#[path = "../speed/setting.rs"]
mod setting;
#[path = "../../tests/support/mod.rs"]
mod support;
#[path = "../speed/table.rs"]
#[allow(dead_code, reason = "here higher is always better")]
mod table;

mod contest;
mod foreign;
mod ours;
mod redis_benchmark;
mod services;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let settings = setting::Settings::read();
    let machine = machine::describe();
    let store = ours::store().await;
    let (mut rows, mut beside) = (Vec::new(), Vec::new());
    if settings.wants("etcd") {
        services::etcd(&settings, &store, &mut rows, &mut beside).await;
    }
    if settings.wants("zookeeper") {
        services::zookeeper(&settings, &store, &mut rows, &mut beside).await;
    }
    if settings.wants("redis") {
        services::redis(&settings, &store, &mut rows, &mut beside).await;
    }
    table::report(&machine, &settings, &rows, &beside);
}
