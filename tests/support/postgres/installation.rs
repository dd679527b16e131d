//! Where Postgres is installed, and as whom it runs.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::support::{programs, reaper};

const PACKAGES: &str = "postgresql";

/// One of Postgres's programs (`initdb`, `pg_basebackup`, `pgbench`, ...), as the user that may run it.
#[track_caller]
pub fn command(program: &str) -> Command {
    // The newest version of Debian's and the Red Hats' places comes first.
    let mut folders: Vec<(u32, PathBuf)> = ["/usr/lib/postgresql", "/usr"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten())
        .filter_map(|entry| {
            let version = entry
                .file_name()
                .to_str()?
                .trim_start_matches("pgsql-")
                .parse()
                .ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    folders.sort();
    let folders: Vec<PathBuf> = folders.into_iter().rev().map(|(_, folder)| folder).collect();
    let mut command = Command::new(programs::find(program, PACKAGES, &folders));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
        command.env_remove(name);
    }
    if let Some((uid, gid)) = other_user() {
        command.uid(uid).gid(gid);
    }
    command.current_dir("/");
    command
}

/// Runs one of them to its end.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{text}{errors}",
        output.status
    );
    text
}

/// A temporary folder that the server can write to.
pub fn folder() -> TempDir {
    let folder = reaper::folder("postgres");
    if let Some((uid, gid)) = other_user() {
        chown(folder.path(), Some(uid), Some(gid)).unwrap();
    }
    folder
}

/// Postgres refuses to run as root: then it runs as the user that its package made.
pub fn other_user() -> Option<(u32, u32)> {
    static USER: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    *USER.get_or_init(|| {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let fields: Vec<&str> = users
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|fields| fields[0] == "postgres")
            .unwrap_or_else(|| panic!("no user `postgres`, which `apt-get install {PACKAGES}` makes"));
        Some((fields[2].parse().unwrap(), fields[3].parse().unwrap()))
    })
}
