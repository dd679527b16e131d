//! The catalogue of defects that `make teeth` puts into the code, each of which a test has to catch. Looked at here
//! without building anything: that each still fits the code, that its test is there, and that the table shows it.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
    process::Command,
};

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    defect: Vec<Defect>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Defect {
    name: String,
    /// Which promise it breaks.
    promise: String,
    /// What the code then does.
    what: String,
    change: Vec<Change>,
    /// The test that has to fail: its name in the suite, or `lib: ` and its name in the library.
    test: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    file: String,
    text: String,
    becomes: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn catalogue() -> Vec<Defect> {
    let mut files: Vec<_> = std::fs::read_dir(root().join("tests/teeth"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    let read = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        toml::from_str::<Catalogue>(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    files.iter().flat_map(|path| read(path).defect).collect()
}

#[test]
fn every_defect_fits_the_code() {
    for defect in catalogue() {
        let mut files: HashMap<&str, String> = HashMap::new();
        assert!(!defect.change.is_empty(), "{} changes nothing", defect.name);
        for Change { file, text, becomes } in &defect.change {
            let code = files.entry(file).or_insert_with(|| read(file));
            let found = code.matches(text).count();
            assert_eq!(found, 1, "{}: how often its text is in {file}", defect.name);
            assert_ne!(text, becomes, "{}", defect.name);
            *code = code.replace(text, becomes);
        }
    }
}

/// Migrations replace functions of earlier ones: a defect in one that was replaced is none.
#[test]
fn defects_of_migrations_are_in_what_counts() {
    let folder = root().join("migrations/postgres");
    let mut migrations: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| format!("migrations/postgres/{}", file.unwrap().file_name().display()))
        .collect();
    migrations.sort();
    let changes = catalogue().into_iter().flat_map(|defect| defect.change);
    for Change { file, text, .. } in changes.filter(|change| migrations.contains(&change.file)) {
        let code = read(&file);
        let end = code.find(&text).expect("it is there") + text.len();
        let (_, function) = code[..end]
            .rsplit_once("function fencegate.")
            .expect("it is in a function");
        let (function, _) = function.split_once('(').unwrap();
        // The overloads that tell a token's text from its parts are told apart by their second parameter.
        let second = |sql: &str| sql.split(',').nth(1).map(|part| part.trim().to_owned());
        let own = second(code[..end].rsplit_once("function fencegate.").unwrap().1);
        for later in migrations.iter().filter(|migration| **migration > file) {
            let replaced = read(later)
                .split("create or replace function fencegate.")
                .skip(1)
                .any(|sql| sql.starts_with(&format!("{function}(")) && second(sql) == own);
            assert!(
                !replaced,
                "{later} replaces {function} of {file}, where {text:?} is"
            );
        }
    }
}

#[test]
fn every_defect_has_a_test_that_is_there() {
    let listed = Command::new(std::env::current_exe().unwrap())
        .arg("--list")
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let suite: BTreeSet<&str> = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .collect();
    let mut names = BTreeSet::new();
    for defect in catalogue() {
        assert!(
            names.insert(defect.name.clone()),
            "{} is there twice",
            defect.name
        );
        match defect.test.strip_prefix("lib: ") {
            None => assert!(
                suite.contains(&*defect.test),
                "{}: no test {}",
                defect.name,
                defect.test
            ),
            Some(test) => {
                let (module, _) = test.split_once("::tests::").unwrap();
                let module = format!("src/{}", module.replace("::", "/"));
                let places = [format!("{module}.rs"), format!("{module}/tests.rs")];
                let code: String = places
                    .iter()
                    .flat_map(|file| std::fs::read_to_string(root().join(file)))
                    .collect();
                let test = test.rsplit("::").next().unwrap();
                // A macro may make it.
                assert!(code.contains(test), "{}: no test {test} in {module}", defect.name);
            }
        }
    }
    assert!(names.len() >= 20);
}

/// `tools/teeth --table` writes it anew.
#[test]
fn the_table_shows_every_defect() {
    let page = read("docs/teeth.md");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let expected: Vec<String> = catalogue()
        .iter()
        .map(|defect| {
            format!(
                "| `{}` | {} | {} | `{}` |",
                defect.name, defect.promise, defect.what, defect.test
            )
        })
        .collect();
    assert_eq!(rows, expected, "docs/teeth.md: run tools/teeth --table");
}
