//! The program `fencegate`.

#![forbid(unsafe_code)]

mod cli;
#[cfg_attr(
    not(all(feature = "postgres", feature = "redis")),
    allow(dead_code, reason = "the scenarios that need these servers use the rest")
)]
mod demo;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    cli::run().await
}
