//! The load on a gateway, which a tool makes that is not ours.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tempfile::TempDir;

use crate::{server::Store, support};

/// What is written to: paths of records, each with a token.
pub struct Targets {
    file: PathBuf,
    _folder: TempDir,
}

impl Targets {
    /// So many records over the fences whose numbers these are.
    pub async fn new(store: &Store, fences: &[u32], records: u32) -> Self {
        Self::under(store, fences, records, 0).await
    }

    /// The same, under tokens that are `behind` by so many.
    pub async fn under(store: &Store, fences: &[u32], records: u32, behind: i64) -> Self {
        let numbers: Vec<i64> = fences.iter().map(|fence| i64::from(*fence)).collect();
        let holders: Vec<String> = sqlx::query_scalar(
            "select md5(n::text) from unnest($1::bigint[]) with ordinality f(n, i) order by i",
        )
        .bind(&numbers)
        .fetch_all(&store.pool)
        .await
        .unwrap();
        let mut lines = String::new();
        for record in 0..records as usize {
            let (fence, holder) = (numbers[record % numbers.len()], &holders[record % numbers.len()]);
            let token = fence - behind;
            writeln!(lines, "/v1/fences/f{fence}/records/r{record} 1-{token}-{holder}").unwrap();
        }
        let folder = support::folder("targets");
        let file = folder.path().join("targets");
        std::fs::write(&file, lines).unwrap();
        Self {
            file,
            _folder: folder,
        }
    }
}

/// What wrk says of a run.
#[derive(Clone, Copy)]
pub struct Report {
    /// Answers a second.
    pub rate: f64,
    /// Answers.
    pub answers: u64,
    /// Those of them that were no success.
    pub refused: u64,
    pub p50: Duration,
    pub p99: Duration,
}

impl Report {
    /// Every write was done.
    #[track_caller]
    pub fn all_written(self) -> Self {
        assert!(
            self.refused == 0,
            "{} of {} were refused",
            self.refused,
            self.answers
        );
        self
    }
}

/// Writes for a time from so many connections, as fast as they go.
pub fn run(port: u16, targets: &Targets, connections: u32, time: Duration) -> Report {
    run_with_pauses(port, targets, connections, time, Duration::ZERO)
}

/// The same, each connection pausing for up to `pause` between two requests.
pub fn run_with_pauses(
    port: u16,
    targets: &Targets,
    connections: u32,
    time: Duration,
    pause: Duration,
) -> Report {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/speed/write.lua");
    let output = Command::new("wrk")
        // The script gives each of two threads half of the records.
        .arg(format!("--threads={}", connections.min(2)))
        .arg(format!("--connections={connections}"))
        .arg(format!("--duration={}s", time.as_secs()))
        .arg("--timeout=30s")
        .arg("--script")
        .arg(script)
        .arg(format!("http://127.0.0.1:{port}"))
        .arg("--")
        .arg(&targets.file)
        .arg(pause.as_millis().to_string())
        .output()
        .unwrap_or_else(|error| panic!("wrk does not run ({error}): tools/install bench"));
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers = text.lines().find_map(|line| line.strip_prefix("RESULT "));
    let numbers: Vec<f64> = numbers
        .unwrap_or_else(|| panic!("wrk: {text}{}", String::from_utf8_lossy(&output.stderr)))
        .split_whitespace()
        .map(|number| number.parse().unwrap())
        .collect();
    let [answers, duration, refused, broken, p50, p99] = numbers[..] else {
        panic!("wrk: {text}");
    };
    assert!(broken == 0.0 && answers > 0.0, "connections broke: {text}");
    Report {
        rate: answers / (duration / 1e6),
        answers: answers as u64,
        refused: refused as u64,
        p50: Duration::from_micros(p50 as u64),
        p99: Duration::from_micros(p99 as u64),
    }
}
