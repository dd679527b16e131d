//! Runs the `protoc` that the crate `protoc-bin-vendored` carries, with that crate's include path.

use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("no protoc for this platform ({error}): install it, and set PROTOC to its path");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let status = Command::new(protoc_bin_vendored::protoc_bin_path()?)
        .args(std::env::args_os().skip(1))
        .arg("-I")
        .arg(protoc_bin_vendored::include_path()?)
        .status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
