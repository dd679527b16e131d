//! Finds the servers' programs. One that is missing fails the test and says how to get it: a test that is
//! skipped looks just like one that passed.

use std::path::{Path, PathBuf};

/// The program in `PATH` or in one of the further folders; the earlier one wins.
#[track_caller]
pub fn find(name: &str, packages: &str, folders: &[PathBuf]) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        // Daemons are not in every user's PATH.
        .chain(["/usr/sbin", "/usr/local/sbin", "/usr/local/bin"].map(PathBuf::from))
        .chain(folders.iter().cloned())
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| missing(name, packages))
}

/// Like [`find`], for something that is not in `PATH`.
#[track_caller]
pub fn require(file: &Path, packages: &str) -> PathBuf {
    if file.exists() {
        file.to_path_buf()
    } else {
        missing(&file.display().to_string(), packages)
    }
}

#[track_caller]
fn missing(what: &str, packages: &str) -> ! {
    panic!(
        "this test needs {what}, which is not installed. Get it with `apt-get install {packages}` or `tools/install test`"
    )
}
