//! What is asked of the speed of the gateway and the guard, measured side by side on one Postgres server with its
//! default durability, and printed as a table.
//!
//! `make bench`; `ROUNDS=1 SECONDS=2 make bench` to try it; `ONLY=guard make bench` for a part: `gateway`, `beside`,
//! `guard`. How and why is in docs/benchmarks.md.

#[path = "../../tests/support/mod.rs"]
mod support;

mod beside;
mod gateway;
mod guard;
mod machine;
mod memory;
mod pgbench;
mod server;
mod setting;
mod table;
mod writes;
mod wrk;

use writes::Bench;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    if gateway::serve_if_asked().await {
        return;
    }
    let settings = setting::Settings::read();
    let machine = machine::describe();
    let mut bench = Bench::start().await;
    let (mut rows, mut figures) = (Vec::new(), Vec::new());
    if settings.wants("gateway") {
        rows = bench.rows(&settings).await;
    }
    if settings.wants("beside") {
        figures.push(beside::latency(&bench, &settings).await);
        figures.push(beside::batches(&bench, &settings).await);
        let (row, left) = beside::stale(&bench, &settings).await;
        rows.push(row);
        figures.push(left);
        rows.push(beside::million(&bench, &settings).await);
        rows.push(memory::row(&bench, &settings).await);
    }
    if settings.wants("guard") {
        let (more, beside) = guard::rows(&bench.server, &settings).await;
        rows.extend(more);
        figures.extend(beside);
    }
    table::report(&machine, &settings, &rows, &figures);
}
