//! The schema comes with `fencegate migrate`, with psql alone, and from an older version.

use std::process::Command;

use fencegate::{
    Token, connect, database::postgres::migrations, guard::postgres::enter_with, store::SealOutcome,
};

use super::session::Session;
use crate::{
    support::{
        Postgres,
        postgres::{command, run},
    },
    world::name,
};

fn schema(url: &str) -> String {
    let dump = run(command("pg_dump")
        .args(["--schema-only", "--exclude-table=fencegate.migration"])
        .arg(url));
    // A random word in newer versions of pg_dump.
    let lines = dump.lines().filter(|line| !line.starts_with('\\'));
    lines.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn by_psql_alone() {
    let server = Postgres::start().await;
    let (by_psql, by_program) = (server.create_database().await, server.create_database().await);
    let print = Command::new(env!("CARGO_BIN_EXE_fencegate"))
        .args(["migrate", "--print"])
        .env_remove("DATABASE_URL")
        .env_remove("FENCEGATE_STORE")
        .output()
        .unwrap();
    let folder = crate::support::folder("script");
    let script = folder.path().join("fencegate.sql");
    std::fs::write(&script, print.stdout).unwrap();
    run(command("psql")
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", &by_psql])
        .stdin(std::fs::File::open(&script).unwrap()));
    let locks = connect(&by_psql, None).await.unwrap();
    locks.store().check().await.unwrap();
    // Nothing is left to do.
    locks.store().migrate().await.unwrap();
    connect(&by_program, None)
        .await
        .unwrap()
        .store()
        .migrate()
        .await
        .unwrap();
    assert_eq!(schema(&by_psql), schema(&by_program));
    let checksums = "select string_agg(version || description || checksum::text, ' ' order by version) from fencegate.migration";
    assert_eq!(
        Session::open(&by_psql).await.text(checksums).await,
        Session::open(&by_program).await.text(checksums).await
    );
}

#[tokio::test]
async fn from_the_first_version() {
    let server = Postgres::start().await;
    let pool = sqlx::PgPool::connect(&server.url()).await.unwrap();
    let mut first = migrations();
    first.migrations = first.migrations[..1].to_vec().into();
    first.run(&pool).await.unwrap();
    let locks = connect(&server.url(), None).await.unwrap();
    assert!(locks.store().check().await.is_err());
    let token: Token = "1-7-9f86d081884c7d659a2feaa0c55ad015".parse().unwrap();
    let sealed = locks.store().seal(&name("f"), &token.mark()).await.unwrap();
    assert_eq!(sealed, SealOutcome::Sealed);
    locks.store().migrate().await.unwrap();
    locks.store().check().await.unwrap();
    // The fence keeps its mark, and its holder goes on.
    let mark = locks.store().fence(&name("f")).await.unwrap().unwrap().mark;
    assert_eq!(mark, token.mark());
    let mut transaction = pool.begin().await.unwrap();
    enter_with(&mut transaction, &name("f"), &token).await.unwrap();
    transaction.commit().await.unwrap();
}
