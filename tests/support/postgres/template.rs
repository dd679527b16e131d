//! The data folder that each server starts with a copy of: `initdb` takes several times as long as copying.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::installation::{command, folder, other_user, run};

/// What `initdb` is told. Small log segments make small copies; the rest is as Debian's packages do it.
const OPTIONS: [&str; 7] = [
    "--username=postgres",
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C.UTF-8",
    "--wal-segsize=1",
    "--no-sync",
    "--no-instructions",
];

/// Makes the data folder `target`.
pub fn copy_to(target: &Path) {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    copy(TEMPLATE.get_or_init(template), target);
}

/// Made once, and kept with the build's results for all later runs.
fn template() -> PathBuf {
    let version = run(command("postgres").arg("--version"));
    let version = version.split_whitespace().nth(2).unwrap();
    let user = other_user().map_or(rustix::process::geteuid().as_raw(), |(uid, _)| uid);
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let name = format!("postgres-{version}-user-{user}");
    let ready = cache.join(&name);
    if ready.exists() {
        return ready;
    }
    // Each test may be a process of its own, and all of them start at once. Somebody who may run the tests
    // but not write there goes without the cache.
    let _ = std::fs::create_dir_all(cache);
    let Ok(lock) = File::create(cache.join(format!("{name}.lock"))) else {
        return initialize();
    };
    lock.lock().unwrap();
    if ready.exists() {
        return ready;
    }
    // A copy that was cut short must not be taken for a whole one.
    let partial = cache.join(format!("{name}.partial"));
    let _ = std::fs::remove_dir_all(&partial);
    copy(&initialize(), &partial);
    std::fs::rename(&partial, &ready).unwrap();
    ready
}

/// Makes a data folder among this test process's: the user that runs Postgres need not reach the cache.
fn initialize() -> PathBuf {
    let data = folder().keep().join("data");
    run(command("initdb").args(OPTIONS).arg("-D").arg(&data));
    data
}

/// As `cp -a` does it, owners and modes included.
fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").arg("--").arg(from).arg(to));
}
