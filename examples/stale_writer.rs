//! The failure that fencegate is for: a writer stalls, its lease ends, another one takes over, and then the first
//! goes on as if nothing had happened. With nothing installed:
//!
//!     cargo run --example stale_writer

use std::{path::Path, time::Duration};

use fencegate::{
    FenceName, Grant, GuardError, Isolation, Options, connect, database::sqlite::SqliteFile, guard,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::temp_dir().join(format!("stale_writer-{}.db", std::process::id()));
    let (refused, balance) = run(&file).await?;
    println!("the stalled writer: {refused}");
    println!("the balance is {balance}: nobody's deposit was lost");
    std::fs::remove_file(&file)?;
    Ok(())
}

/// Answers with what the stalled writer was told, and with the balance in the end.
pub async fn run(file: &Path) -> Result<(String, i64), Box<dyn std::error::Error>> {
    // Locks, marks and the application's own table in one file. On servers: postgres://... and etcd://...
    let locks = connect(&format!("sqlite:{}", file.display()), None).await?;
    let bank = SqliteFile::open(file).await?;
    sqlx::raw_sql("create table account (balance integer not null); insert into account values (0)")
        .execute(bank.pool())
        .await?;
    let fence: FenceName = "account:7".parse()?;
    // `grant` renews nothing, as in a process that is stopped; `acquire` gives a lease that renews itself.
    let options = || Options {
        ttl: Duration::from_millis(500),
        wait: Duration::from_secs(30),
        ..Options::default()
    };

    let first = locks.grant(&fence, options()).await?;
    let read_by_first = balance(&bank).await?;
    // The first one stalls here. The second one waits until that lease is over, and deposits 20.
    let second = locks.grant(&fence, options()).await?;
    deposit(&bank, &second, balance(&bank).await? + 20).await?;
    // The first one goes on with what it has read: without the guard, the 20 would be gone.
    let refused = match deposit(&bank, &first, read_by_first + 10).await {
        Err(error) if error.is_stale() => error.to_string(),
        other => return Err(format!("expected a refusal, not {other:?}").into()),
    };
    // It has learned that it lost its lease, so it acquires and reads again.
    locks.release(&fence, &second.token).await?;
    let third = locks.grant(&fence, options()).await?;
    deposit(&bank, &third, balance(&bank).await? + 10).await?;
    Ok((refused, balance(&bank).await?))
}

async fn balance(bank: &SqliteFile) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select balance from account")
        .fetch_one(bank.pool())
        .await
}

async fn deposit(bank: &SqliteFile, grant: &Grant, balance: i64) -> Result<(), GuardError> {
    let mut transaction = guard::begin(bank, &grant.name, &grant.token, Isolation::Serializable).await?;
    sqlx::query("update account set balance = $1")
        .bind(balance)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}
