//! What the demo draws and writes down, and what it leaves behind.

use serde_json::Value;

use super::{demo, run, told};
use crate::support::{Postgres, folder};

#[tokio::test]
async fn the_picture_shows_what_happened() {
    let folder = folder("picture");
    let file = folder.path().join("demo.svg");
    told(&["--svg", file.to_str().unwrap()]).await;
    let svg = std::fs::read_to_string(&file).unwrap();
    assert_well_formed(&svg);
    let (fenced, control) = svg
        .split_once("The same without the guard")
        .expect("the control is drawn below");
    for (part, text) in [
        ("writer A</text>", fenced),
        ("writer B</text>", fenced),
        ("lock service: sqlite</text>", fenced),
        (">store</text>", fenced),
        // A lease's bar, the pause, and a refused write in red.
        (r#"<rect class="f-b""#, fenced),
        (r#"<rect class="hatched"#, fenced),
        ("token 1-1</text>", fenced),
        (r#"class="f-bad strong""#, fenced),
        (">REFUSED</text>", fenced),
        ("412 token-stale</text>", fenced),
        ("2 updates acknowledged, 0 lost</text>", fenced),
        ("prefers-color-scheme:dark", fenced),
        (r#"<rect class="hatched"#, control),
        ("2 updates acknowledged, 1 LOST (B)</text>", control),
    ] {
        assert!(text.contains(part), "no {part}");
    }
    assert!(!control.contains("REFUSED"));
    // The times are those of the recording: the pause is as long as A's lease.
    let times: Vec<f64> = svg
        .split(r#"class="time f-dim""#)
        .skip(1)
        .map(|rest| {
            let text = rest.split_once('>').unwrap().1;
            text[..text.find('<').unwrap()].parse().unwrap()
        })
        .collect();
    assert!(times.iter().any(|time| *time >= 2.0), "{times:?}");
}

/// Also the one that the README shows.
#[tokio::test]
async fn the_readmes_picture_is_one_of_these() {
    let svg = include_str!("../../docs/demo.svg");
    assert_well_formed(svg);
    for part in [">REFUSED</text>", "0 lost</text>", "1 LOST (B)</text>"] {
        assert!(svg.contains(part), "no {part}: run `make demo-picture`");
    }
}

/// Tags open and close in their order, and nothing is left unescaped.
fn assert_well_formed(svg: &str) {
    let mut open = Vec::new();
    let mut rest = svg;
    while let Some(at) = rest.find('<') {
        let end = rest[at..].find('>').expect("a tag ends") + at;
        let tag = &rest[at + 1..end];
        let text = &rest[..at];
        assert!(!text.contains('>'), "a bare > in {text:?}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "at {tag:?}");
        } else if !tag.ends_with('/') {
            open.push(tag.split_whitespace().next().unwrap());
        }
        assert!(tag.matches('"').count().is_multiple_of(2), "quotes in {tag:?}");
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "left open: {open:?}");
    let entities = svg.split('&').skip(1);
    for entity in entities {
        let name = entity.split(';').next().unwrap();
        assert!(["amp", "lt", "gt", "quot"].contains(&name), "&{name}");
    }
}

#[tokio::test]
async fn the_events_as_json() {
    let output = run(&["--output", "json"]).await;
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}")))
        .collect();
    for (run, lost) in [
        ("fenced", serde_json::json!([])),
        ("unfenced", serde_json::json!(["B"])),
    ] {
        let mine: Vec<&Value> = lines.iter().filter(|line| line["run"] == run).collect();
        let (outcome, events) = mine.split_last().unwrap();
        assert_eq!(outcome["lost"], lost, "{outcome}");
        let times: Vec<u64> = events
            .iter()
            .map(|event| event["at_us"].as_u64().unwrap())
            .collect();
        assert!(times.is_sorted(), "{times:?}");
        let happened = |who: &str, what: &str| {
            events
                .iter()
                .any(|event| event["who"] == who && event["happening"] == what)
        };
        assert!(happened("A", "holds") && happened("B", "wrote") && happened("demo", "woken"));
        assert!(happened("lock service", "over"));
        assert_eq!(happened("A", "refused"), run == "fenced");
    }
    assert!(
        lines
            .iter()
            .all(|line| line["run"] == "fenced" || line["run"] == "unfenced")
    );
}

#[tokio::test]
async fn colour_only_on_a_terminal() {
    let text = told(&["--scenario", "clock"]).await;
    assert!(!text.contains('\x1b'), "{text}");
    // `script` gives it a terminal.
    let program = env!("CARGO_BIN_EXE_fencegate");
    let on_a_terminal = async |no_color: &str| {
        let output = tokio::process::Command::new("script")
            .args(["-qec", &format!("{program} demo --scenario clock"), "/dev/null"])
            .env("NO_COLOR", no_color)
            .output()
            .await
            .expect("script, of util-linux (Debian: bsdutils)");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(on_a_terminal("").await.contains("\x1b[1;31m"));
    let plain = on_a_terminal("1").await;
    assert!(plain.contains("REFUSED") && !plain.contains('\x1b'), "{plain}");
}

#[tokio::test]
async fn nothing_is_left_but_marks_and_counters() {
    let postgres = Postgres::start().await;
    told(&["--store", &postgres.url(), "--scenario", "clock"]).await;
    let pool = sqlx::PgPool::connect(&postgres.url()).await.unwrap();
    let count =
        async |query: &'static str| -> i64 { sqlx::query_scalar(query).fetch_one(&pool).await.unwrap() };
    assert_eq!(count("select count(*) from fencegate.record").await, 0);
    assert_eq!(
        count("select count(*) from fencegate.lock where holder is not null").await,
        0
    );
    assert_eq!(
        count("select count(*) from fencegate.fence where name like 'demo:%'").await,
        2
    );
    assert_eq!(count("select count(*) from fencegate.fence").await, 2);
}

/// Ctrl-C in the middle ends it soon, and takes the writers along, also the one that is stopped.
#[tokio::test]
async fn it_can_be_interrupted() {
    use rustix::process::Signal;

    use crate::support::{eventually, eventually::PATIENCE, process};

    let mut child = demo(&["--ttl", "60s"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let id = child.id().unwrap();
    // Both writers, so A is stopped and B waits.
    eventually(PATIENCE, async || process::descendants(id).len() >= 2).await;
    let writers = process::descendants(id);
    rustix::process::kill_process(process::pid(id), Signal::INT).unwrap();
    let status = tokio::time::timeout(PATIENCE, child.wait())
        .await
        .unwrap()
        .unwrap();
    assert!(!status.success());
    eventually(PATIENCE, async || {
        writers.iter().all(|writer| !process::is_alive(*writer))
    })
    .await;
}

/// Whoever stops reading in the middle leaves nothing behind, not even the table that the story plays in.
#[tokio::test]
async fn a_reader_who_goes_away_ends_it_and_nothing_is_left() {
    use tokio::io::{AsyncBufReadExt, BufReader};

    use crate::support::eventually::PATIENCE;

    let postgres = Postgres::start().await;
    let mut child = demo(&["--store", &postgres.url(), "--scenario", "crash"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while !lines
        .next_line()
        .await
        .unwrap()
        .expect("A sends a transaction")
        .contains("A sends a transaction")
    {}
    drop(lines);
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.expect("it ends").unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let pool = sqlx::PgPool::connect(&postgres.url()).await.unwrap();
    let tables: i64 = sqlx::query_scalar(
        "select count(*) from pg_tables where schemaname = 'fencegate' and tablename like 'demo%'",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(tables, 0);
}
