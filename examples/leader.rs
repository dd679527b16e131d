//! Leader election with a fenced leader: candidates campaign, one leads, and it steps down when it loses its lease.
//! What it writes while it does not know yet is refused. In two terminals, with nothing installed:
//!
//!     cargo run --example leader -- alice
//!     cargo run --example leader -- bob
//!
//! Stop the leader with Ctrl-Z, wait ten seconds, and look who leads; then let it go on with `fg`.

use std::{path::Path, time::Duration};

use fencegate::{GuardError, Lease, Locks, connect, database::sqlite::SqliteFile};

const TTL: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let me = std::env::args().nth(1).ok_or("give the candidate's name")?;
    let path = Path::new("leader.db");
    // On servers: postgres://... and, for example, zookeeper://...
    let locks = connect(&format!("sqlite:{}", path.display()), None).await?;
    let file = open(path).await?;
    campaign(&locks, &file, &me, |news| println!("{me}: {news}")).await?;
    Ok(())
}

/// The file, with the application's table.
pub async fn open(path: &Path) -> Result<SqliteFile, Box<dyn std::error::Error>> {
    let file = SqliteFile::open(path).await?;
    sqlx::raw_sql("create table if not exists decision (number integer primary key, leader text not null)")
        .execute(file.pool())
        .await?;
    Ok(file)
}

/// Campaigns, leads, steps down, and campaigns again, for as long as it is asked to.
pub async fn campaign(
    locks: &Locks,
    file: &SqliteFile,
    me: &str,
    mut tell: impl FnMut(String),
) -> Result<(), Box<dyn std::error::Error>> {
    loop {
        let lease = locks.acquire("leader", TTL).await?;
        tell(format!("leads with token {}", lease.token()));
        // Ends when the lease is lost, whatever the leader is doing then.
        match lease.run(lead(&lease, file, me)).await {
            Err(lost) => tell(format!("steps down: {lost}")),
            // A write that was on its way when the lease was lost: the guard has refused it.
            Ok(Err(refused @ (GuardError::Refused(_) | GuardError::LeaseLost))) => {
                tell(format!("steps down: {refused}"));
            }
            Ok(Err(failed)) => return Err(failed.into()),
            Ok(Ok(never)) => match never {},
        }
    }
}

/// What a leader does: it decides something ten times a second.
async fn lead(lease: &Lease, file: &SqliteFile, me: &str) -> Result<std::convert::Infallible, GuardError> {
    loop {
        let mut transaction = lease.begin(file).await?;
        sqlx::query("insert into decision (leader) values ($1)")
            .bind(me)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
