//! The kept seeds, and texts that proptest makes up: small changes of seeds, and combinations of the pieces that
//! the readers look for.

use std::path::{Path, PathBuf};

use proptest::{prelude::*, test_runner::TestRunner};

use super::*;

fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/seeds")
        .join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    let read = |path: PathBuf| (path.clone(), std::fs::read(path).unwrap());
    files.into_iter().map(read).collect()
}

/// What the readers look for, to be put together at random.
const PIECES: &[&str] = &[
    "0",
    "1",
    "01",
    "+1",
    "-",
    "--",
    "9223372036854775807",
    "9223372036854775808",
    "9f86d081884c7d659a2feaa0c55ad015",
    "9F86D081884C7D659A2FEAA0C55AD015",
    "\n",
    "\n1 ",
    "\n2 ",
    " ",
    "\t",
    "\0",
    "%",
    "%2F",
    "%2e",
    "%zz",
    "%C3%BC",
    "ü",
    "🦀",
    "/",
    "//",
    ".",
    "..",
    "etcd://",
    "zookeeper://",
    "redis://",
    "redis+sentinel://",
    "redlock://a,b,c",
    "?prefix=",
    "&",
    "#",
    "@",
    ":",
    ":s3cr3t@",
    ",",
    "[::1]",
    ":2379",
    ":+80",
    "{",
    "}",
    "\"a\":",
    "null",
    "[1,2]",
    "\"",
    "\"7\"",
    "W/",
    "*",
    "a",
    "b",
];

fn made_up(target: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let seeds: Vec<Vec<u8>> = seeds(target).into_iter().map(|(_, seed)| seed).collect();
    let changed = (
        prop::sample::select(seeds),
        any::<prop::sample::Index>(),
        0usize..3,
        prop::sample::select(PIECES),
    );
    let changed = changed.prop_map(|(mut seed, at, removed, piece)| {
        let at = at.index(seed.len() + 1);
        let end = seed.len().min(at + removed);
        seed.splice(at..end, piece.bytes());
        seed
    });
    let pieces =
        prop::collection::vec(prop::sample::select(PIECES), 0..9).prop_map(|all| all.concat().into_bytes());
    prop_oneof![changed, pieces, prop::collection::vec(any::<u8>(), 0..80)]
}

#[test]
fn every_seed_is_read_as_it_should_be() {
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        assert!(seeds.len() >= 3, "{name} has seeds");
        for (path, seed) in seeds {
            assert!(seed.len() < 2000, "{} is small", path.display());
            // Names the file if it fails.
            println!("{}", path.display());
            target(&seed);
        }
    }
}

/// Each fuzz target of `fuzz/` is one of these functions, and each function has one.
#[test]
fn every_function_is_fuzzed() {
    let manifest = include_str!("../../fuzz/Cargo.toml");
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
}

macro_rules! made_up {
    ($($target:ident)*) => {$(
        #[test]
        fn $target() {
            let mut runner = TestRunner::new(ProptestConfig::with_cases(2000));
            let holds = runner.run(&made_up(stringify!($target)), |bytes| {
                super::$target(&bytes);
                Ok(())
            });
            if let Err(broken) = holds {
                panic!("{broken}");
            }
        }
    )*};
}

made_up! { tokens names merge_patches addresses token_headers paths conditions }
