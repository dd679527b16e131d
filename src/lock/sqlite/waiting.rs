//! Which processes wait for a lock, and how the first in a process's line waits.
//!
//! A release here calls the next one here, which is quick, and another process only asks from time to time. So who
//! waits for longer than a moment notes it in the file, and a process whose hands the lock has gone through for some time
//! leaves it free until the other one has it.

use std::time::Duration;

use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::ms;
use crate::{
    clock::{self, Moment},
    database::sqlite::SqliteFile,
    lock::{LockError, give_back, wait::random_share},
    name::FenceName,
};

/// The pauses between two tries: after a hand-over, and at last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(8), Duration::from_millis(250));
/// How many tries are refused before a process notes that it waits.
const TRIES: u32 = 3;
/// How long a note is good for, unless it is written again: a process may die.
pub(super) const LAPSE: Duration = Duration::from_secs(1);

/// The first of those who wait in this process.
pub(super) struct Waiter {
    file: SqliteFile,
    name: FenceName,
    process: Uuid,
    /// Whose turn it was at the last try.
    sequence: i64,
    pause: Duration,
    refused: u32,
    /// Until when others see that this process waits.
    noted: Option<Moment>,
    /// Whether a free lock is another process's, if one waits.
    pub(super) lets_others: bool,
}

impl Waiter {
    pub(super) fn new(file: SqliteFile, name: FenceName, process: Uuid) -> Self {
        Self {
            file,
            name,
            process,
            sequence: 0,
            pause: PAUSES.0,
            refused: 0,
            noted: None,
            lets_others: false,
        }
    }

    /// Another has the lock, under this number. Answers whether that is to be noted.
    pub(super) fn refused(&mut self, sequence: i64) -> bool {
        self.lets_others = false;
        self.pause = match self.sequence == sequence {
            true => (self.pause * 2).min(PAUSES.1),
            // It goes from hand to hand, and may be free soon.
            false => PAUSES.0,
        };
        self.sequence = sequence;
        self.refused = self.refused.saturating_add(1);
        self.refused >= TRIES && self.noted.is_none_or(|until| until.remaining() < LAPSE / 2)
    }

    /// Between a half and the whole, so that processes do not ask together.
    pub(super) fn pause(&self) -> Duration {
        let pause = if self.lets_others { PAUSES.0 } else { self.pause };
        pause.mul_f64(0.5 + random_share() / 2.0)
    }

    /// Notes that this process waits. Notes that have lapsed go.
    pub(super) async fn note(&mut self, connection: &mut SqliteConnection) -> Result<(), LockError> {
        self.noted = Some(Moment::now() + LAPSE);
        let (boot, now) = clock::boot();
        sqlx::query("delete from lock_waiter where boot <> $1 or expires_at <= $2")
            .bind(boot)
            .bind(ms(now))
            .execute(&mut *connection)
            .await?;
        sqlx::query(
            "insert into lock_waiter (name, process, expires_at, boot) values ($1, $2, $3, $4)
             on conflict do update set expires_at = excluded.expires_at, boot = excluded.boot",
        )
        .bind(self.name.as_str())
        .bind(self.process.to_string())
        .bind(ms(now + LAPSE))
        .bind(boot)
        .execute(connection)
        .await?;
        Ok(())
    }

    /// Takes the note back, if there is one.
    pub(super) async fn forget(&self, connection: &mut SqliteConnection) -> Result<(), LockError> {
        match self.noted {
            Some(_) => forget(connection, &self.name, self.process).await,
            None => Ok(()),
        }
    }

    /// It has the lock, and its note is gone.
    pub(super) fn is_served(&mut self) {
        self.noted = None;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if self.noted.is_none() {
            return;
        }
        let (file, name, process) = (self.file.clone(), self.name.clone(), self.process);
        give_back(async move {
            let forgotten = async {
                let mut transaction = file.begin().await?;
                forget(&mut transaction, &name, process).await?;
                Ok::<_, LockError>(transaction.commit().await?)
            };
            if let Err(error) = forgotten.await {
                tracing::debug!(fence = %name, %error, "a note that nobody waits under any more stays until it lapses");
            }
        });
    }
}

async fn forget(connection: &mut SqliteConnection, name: &FenceName, process: Uuid) -> Result<(), LockError> {
    sqlx::query("delete from lock_waiter where name = $1 and process = $2")
        .bind(name.as_str())
        .bind(process.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

/// How many other processes wait.
pub(super) async fn others(
    connection: &mut SqliteConnection,
    name: &FenceName,
    process: Uuid,
) -> Result<i64, LockError> {
    let (boot, now) = clock::boot();
    let row = sqlx::query(
        "select count(*) from lock_waiter where name = $1 and process <> $2 and boot = $3 and expires_at > $4",
    )
    .bind(name.as_str())
    .bind(process.to_string())
    .bind(boot)
    .bind(ms(now))
    .fetch_one(connection)
    .await?;
    Ok(row.try_get(0)?)
}
