//! The program `fencegate`.

#![forbid(unsafe_code)]

mod cli;
mod demo;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    cli::run().await
}
