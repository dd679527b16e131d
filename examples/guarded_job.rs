//! A worker pays invoices, and everything of it stops in the middle of a payment: its timers, its renewals, its open
//! transaction. Another one takes over, and pays them all. When the first wakes up, its payment is refused.
//!
//!     cargo run --example guarded_job -- postgres://postgres@localhost/postgres

use std::time::Duration;

use fencegate::{Locks, connect};
use sqlx::{Executor, PgPool};

const FENCE: &str = "invoices:2026-11";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args()
        .nth(1)
        .ok_or("give the URL of a Postgres database")?;
    let (first, paid_by) = run(&url).await?;
    println!("the first worker: {first}");
    println!("the invoices were paid by: {}", paid_by.join(", "));
    Ok(())
}

/// Answers with what the first worker got for its commit, and with who paid each invoice.
pub async fn run(url: &str) -> Result<(String, Vec<String>), Box<dyn std::error::Error>> {
    let locks = connect(url, None).await?;
    locks.store().migrate().await?;
    let pool = PgPool::connect(url).await?;
    pool.execute(
        "create table if not exists invoice (id int primary key, paid_by text);
         truncate invoice; insert into invoice values (1), (2), (3)",
    )
    .await?;

    let (paying, has_begun) = tokio::sync::oneshot::channel();
    let url = url.to_owned();
    let first = std::thread::spawn(move || sleepy(&url, paying));
    has_begun.await?;
    diligent(&locks, &pool).await?;

    let outcome = first.join().map_err(|_| "the first worker panicked")?;
    let paid_by = sqlx::query_scalar("select paid_by from invoice order by id")
        .fetch_all(&pool)
        .await?;
    Ok((outcome, paid_by))
}

/// On a runtime of its own with one thread, so that a sleep of that thread stops all of it, as SIGSTOP or a long garbage
/// collection would.
#[tokio::main(flavor = "current_thread")]
async fn sleepy(url: &str, paying: tokio::sync::oneshot::Sender<()>) -> String {
    let pay = async {
        let locks = connect(url, None).await?;
        let pool = PgPool::connect(url).await?;
        let lease = locks.acquire(FENCE, Duration::from_secs(1)).await?;
        let mut transaction = lease.begin(&pool).await?;
        transaction
            .execute("update invoice set paid_by = 'first' where paid_by is null")
            .await?;
        let _ = paying.send(());
        std::thread::sleep(Duration::from_secs(4));
        transaction.commit().await?;
        Ok::<_, Box<dyn std::error::Error>>(())
    };
    match pay.await {
        Ok(()) => "committed".into(),
        Err(error) => error.to_string(),
    }
}

async fn diligent(locks: &Locks, pool: &PgPool) -> Result<(), Box<dyn std::error::Error>> {
    let lease = locks.acquire(FENCE, Duration::from_secs(10)).await?;
    let mut transaction = lease.begin(pool).await?;
    let unpaid: Vec<i32> = sqlx::query_scalar("select id from invoice where paid_by is null order by id")
        .fetch_all(&mut *transaction)
        .await?;
    for id in unpaid {
        sqlx::query("update invoice set paid_by = 'second' where id = $1")
            .bind(id)
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    lease.release().await?;
    Ok(())
}
