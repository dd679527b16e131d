//! SQLite, as a store or as a lock service: one file.

use fencegate::database::sqlite::migrations;
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use super::finding::{Findings, Severity};

/// Whether what else there is to ask of the store makes sense. The file is neither made nor changed.
pub(super) async fn look(place: &str, file: &str) -> anyhow::Result<(Findings, bool)> {
    let mut findings = Findings::of(format!("{place}: sqlite file {file}"));
    if !std::path::Path::new(file).exists() {
        findings.add(
            Severity::Note,
            "there is no such file yet",
            "it is made when it is first used: with a typo, next to the one that is meant",
            "",
        );
        return Ok((findings, false));
    }
    let options = SqliteConnectOptions::new().filename(file).read_only(true);
    let mut connection = match SqliteConnection::connect_with(&options).await {
        Ok(connection) => connection,
        Err(error) => {
            findings.add(
                Severity::Unsafe,
                format!("it cannot be opened: {error}"),
                "nothing is read, written or granted without it",
                "look at the permissions of the file and of its folder",
            );
            return Ok((findings, false));
        }
    };
    let sound: Result<String, _> = sqlx::query_scalar("pragma quick_check(1)")
        .fetch_one(&mut connection)
        .await;
    match sound {
        Ok(text) if text == "ok" => findings.ok("the file is sound"),
        Ok(text) => return Ok((damaged(findings, &text), false)),
        Err(error) => return Ok((damaged(findings, &error.to_string()), false)),
    }
    let wanted = migrations()
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or(0);
    let found: Result<Option<i64>, _> =
        sqlx::query_scalar("select max(version) from migration where success")
            .fetch_one(&mut connection)
            .await;
    let found = found.ok().flatten().unwrap_or(0);
    if found < wanted {
        findings.add(
            Severity::Note,
            format!("its tables are of version {found}, this program's are of {wanted}"),
            "they are brought up to date when the file is next used",
            "",
        );
        return Ok((findings, false));
    }
    findings.ok("its tables are those of this version");
    findings.add(
        Severity::Note,
        "SQLite serves the processes of one machine",
        "locks of the file system do not hold over a network, and a process that is stopped inside a transaction keeps \
         all others from writing",
        "for several machines: --store postgres://...",
    );
    Ok((findings, true))
}

fn damaged(mut findings: Findings, what: &str) -> Findings {
    findings.add(
        Severity::Unsafe,
        format!("the file is damaged, or no database: {what}"),
        "marks may be missing",
        "restore it from a backup, and raise the epoch with fencegate rebase",
    );
    findings
}
