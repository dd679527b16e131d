//! Leaves nothing behind, even when the test process is killed and no `Drop` runs.
//!
//! Each test process has one folder, and one shell that waits for the end of a pipe which only the test
//! process holds. However that process ends, the pipe ends; then the shell kills the servers that are still
//! running and removes the folder. (The kernel's own means, a parent death signal, fires when the *thread*
//! that started the server ends, and the threads of an async runtime come and go.)

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use rustix::process::Signal;
use tempfile::TempDir;

/// Runs after the test process: `$1` is its folder, with a file in `processes/` for each process group that
/// it started and did not end, named by its id and holding the signal to end it with.
const SCRIPT: &str = r#"
trap '' HUP INT TERM QUIT
cat >/dev/null
for file in "$1"/processes/*; do
    [ -f "$file" ] || continue
    group=${file##*/}
    kill -s "$(cat "$file")" -- "-$group"
    kill -s CONT -- "-$group"
done
for file in "$1"/processes/*; do
    [ -f "$file" ] || continue
    group=${file##*/}
    rounds=0
    while [ "$rounds" -lt 100 ] && kill -s 0 -- "-$group"; do
        rounds=$((rounds + 1))
        sleep 0.1
    done
    kill -s KILL -- "-$group"
done
rm -rf -- "$1"
"#;

struct Reaper {
    folder: PathBuf,
    /// Its standard input is the pipe.
    _shell: Child,
}

fn reaper() -> &'static Reaper {
    static REAPER: OnceLock<Reaper> = OnceLock::new();
    REAPER.get_or_init(|| {
        let folder = tempfile::Builder::new()
            .prefix("fencegate-test-")
            .tempdir()
            .unwrap()
            .keep();
        // Postgres runs as another user when the tests run as root, and must reach its own folder.
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o711)).unwrap();
        std::fs::create_dir(folder.join("processes")).unwrap();
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "fencegate-test-reaper"])
            .arg(&folder)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is for the tests, not for who cleans up behind them.
            .process_group(0)
            .spawn()
            .unwrap();
        Reaper {
            folder,
            _shell: shell,
        }
    })
}

/// A new temporary folder, removed with the value or with the test process.
pub fn folder(name: &str) -> TempDir {
    tempfile::Builder::new()
        .prefix(&format!("{name}-"))
        .tempdir_in(&reaper().folder)
        .unwrap()
}

/// Has the process group ended by this signal when the test process ends before [`forget`].
pub fn remember(group: u32, signal: Signal) {
    let name = match signal {
        Signal::QUIT => "QUIT",
        _ => "KILL",
    };
    std::fs::write(reaper().folder.join("processes").join(group.to_string()), name).unwrap();
}

/// Says that the process group has ended.
pub fn forget(group: u32) {
    match std::fs::remove_file(reaper().folder.join("processes").join(group.to_string())) {
        Err(error) if error.kind() != ErrorKind::NotFound => eprintln!("process group {group}: {error}"),
        _ => {}
    }
}
