//! Finds the servers' programs. One that is missing fails the test and says how to get it: a test that is
//! skipped looks just like one that passed.

use std::path::{Path, PathBuf};

use tokio::process::Command;

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

/// Compiles a program in Go against Debian's etcd client, into this folder.
pub async fn compile_go(source: &Path, folder: &Path) -> PathBuf {
    let packages = "golang-go golang-etcd-server-dev";
    require(Path::new("/usr/share/gocode/src/go.etcd.io/etcd"), packages);
    let program = folder.join("program");
    let built = Command::new(find("go", packages, &[]))
        // Debian's libraries, from before there were modules.
        .env("GO111MODULE", "off")
        .env("GOPATH", "/usr/share/gocode")
        .args(["build", "-o"])
        .args([&program, source])
        .status()
        .await
        .expect("go runs");
    assert!(built.success(), "{} does not compile", source.display());
    program
}

/// Java with its compiler, which a program of one file needs, and a class path that has Curator.
pub fn java_with_curator() -> (PathBuf, String) {
    let packages = "libcurator-recipes-java default-jdk-headless";
    let jars = [
        "curator-recipes",
        "curator-framework",
        "curator-client",
        "guava",
        "zookeeper",
        "zookeeper-jute",
        "slf4j-api",
        "slf4j-nop",
    ]
    .map(|jar| format!("/usr/share/java/{jar}.jar"));
    for jar in &jars {
        require(Path::new(jar), packages);
    }
    find("javac", packages, &[]);
    (find("java", packages, &[]), jars.join(":"))
}

#[track_caller]
fn missing(what: &str, packages: &str) -> ! {
    panic!(
        "this test needs {what}, which is not installed. Get it with `apt-get install {packages}` or `tools/install test`"
    )
}
