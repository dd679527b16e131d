//! The reference: Postgres's own load, a prepared update of a single row, each in its own transaction.

use std::{path::PathBuf, time::Duration};

use crate::{
    server::ROWS,
    support::{Postgres, postgres},
};

/// Which rows are updated.
#[derive(Clone, Copy)]
pub enum Rows {
    Any,
    One,
}

/// Makes the table.
pub fn fill(server: &Postgres) {
    let mut command = command(server);
    postgres::run(command.args(["-i", "-s", "1", "--quiet", "postgres"]));
}

/// Updates a second.
pub fn rate(server: &Postgres, rows: Rows, clients: u32, time: Duration) -> f64 {
    let script = script(server, rows);
    let mut command = command(server);
    command.args(["--no-vacuum", "--protocol=prepared", "--jobs=2"]);
    command.arg(format!("--client={clients}"));
    command.arg(format!("--time={}", time.as_secs()));
    command.arg("--file").arg(script).arg("postgres");
    let report = postgres::run(&mut command);
    let rate = report.lines().find_map(|line| line.strip_prefix("tps = "));
    let rate = rate.and_then(|rate| rate.split_whitespace().next()?.parse().ok());
    rate.unwrap_or_else(|| panic!("pgbench says no rate: {report}"))
}

fn script(server: &Postgres, rows: Rows) -> PathBuf {
    let (name, which) = match rows {
        Rows::Any => ("any.sql", format!("random(1, {ROWS})")),
        Rows::One => ("one.sql", "1".to_owned()),
    };
    let file = server.data().with_file_name(name);
    let update = "update pgbench_accounts set abalance = abalance + 1 where aid = :aid;";
    std::fs::write(&file, format!("\\set aid {which}\n{update}\n")).unwrap();
    file
}

fn command(server: &Postgres) -> std::process::Command {
    let mut command = postgres::command("pgbench");
    command.args(["-h", "127.0.0.1", "-U", "postgres", "-p"]);
    command.arg(server.port().to_string());
    command
}
