//! Locks in an SQLite file: for the processes of one machine.
//!
//! Expiry is on the clock of the machine's boot, which does not jump and counts suspend; a lock of an earlier
//! boot is over, like the process that held it.
//!
//! Who has to wait joins the line of this process, and only the first in it asks the file: when the lock is released
//! here, and from time to time, as other processes release without telling. Those who wait in other processes have it
//! after a few hand-overs here.

mod waiting;

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use self::waiting::{LAPSE, Waiter};
use super::{
    Claim, Held, HolderState, Identity, Kind, LockError, LockService, LockState, Request, Term,
    line::{Joined, Lines},
    until_done,
    wait::{Undo, Which},
};
use crate::{
    clock::{self, Moment},
    database::sqlite::SqliteFile,
    name::FenceName,
    token::{HolderHash, Sequence},
};

/// The lock service in an SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteLocks {
    file: SqliteFile,
    lines: Lines,
    /// Tells the waiters of this process from others.
    process: Uuid,
}

/// What came of asking for the lock.
enum Attempt {
    Held(Held),
    /// Another holder has it.
    Busy {
        expires_in: Duration,
    },
    /// It is free, and for another process.
    Left,
}

/// A fence's row, if its acquisition lives.
struct Live {
    sequence: i64,
    holder: HolderHash,
    label: String,
    ttl: Duration,
    expires_in: Duration,
}

impl SqliteLocks {
    /// Locks in this file.
    pub fn new(file: SqliteFile) -> Self {
        Self {
            file,
            lines: Lines::default(),
            process: Uuid::new_v4(),
        }
    }

    /// Takes the lock, or waits in line for it.
    ///
    /// # Cancel safety
    /// Yes: the place in the line, or the lock, is given back.
    async fn contend(&self, request: &Request) -> Result<Held, LockError> {
        let give_up = Moment::now() + request.wait;
        let line = self.lines.at(&request.name);
        let mut waiter = Waiter::new(self.file.clone(), request.name.clone(), self.process);
        let once = async {
            match self.attempt(request, &mut waiter).await? {
                Attempt::Held(held) => Ok(held),
                refused => Err(refused.busy()),
            }
        };
        let _first = match line.join(request, give_up, once).await? {
            Joined::Held(held) => return Ok(held),
            first => first,
        };
        loop {
            let refused = match self.attempt(request, &mut waiter).await? {
                Attempt::Held(held) => return Ok(held),
                refused => refused,
            };
            if give_up.has_passed() {
                return Err(refused.busy());
            }
            tokio::select! {
                () = tokio::time::sleep(waiter.pause().min(give_up.remaining())) => {}
                () = line.called.notified() => waiter.lets_others = line.should_let_others(LAPSE),
            }
        }
    }

    async fn attempt(&self, request: &Request, waiter: &mut Waiter) -> Result<Attempt, LockError> {
        let mut transaction = self.file.begin().await?;
        let sent = Moment::now();
        let hash = request.holder.hash();
        let (sequence, expires_at) = match live(&mut transaction, &request.name).await? {
            Some(live) if live.holder != hash => {
                if waiter.refused(live.sequence) {
                    waiter.note(&mut transaction).await?;
                    transaction.commit().await?;
                }
                return Ok(Attempt::Busy {
                    expires_in: live.expires_in,
                });
            }
            Some(mine) => {
                let expires_at = extend(&mut transaction, &request.name, request.ttl).await?;
                (mine.sequence, expires_at)
            }
            None if waiter.lets_others
                && waiting::others(&mut transaction, &request.name, self.process).await? > 0 =>
            {
                return Ok(Attempt::Left);
            }
            None => {
                let (boot, now) = clock::boot();
                let expires_at = ms(now + request.ttl);
                let row = sqlx::query(
                    "insert into lock (name, sequence, holder, label, ttl_ms, expires_at, boot)
                     values ($1, $2 + 1, $3, $4, $5, $6, $7)
                     on conflict (name) do update set sequence = max(sequence, $2) + 1, holder = excluded.holder,
                        label = excluded.label, ttl_ms = excluded.ttl_ms, expires_at = excluded.expires_at,
                        boot = excluded.boot
                     returning sequence",
                )
                .bind(request.name.as_str())
                .bind(request.floor)
                .bind(hash.as_bytes().as_slice())
                .bind(&request.label)
                .bind(ms(request.ttl))
                .bind(expires_at)
                .bind(boot)
                .fetch_one(&mut *transaction)
                .await?;
                (row.try_get(0)?, expires_at)
            }
        };
        waiter.forget(&mut transaction).await?;
        let identity = identity(&mut transaction).await?;
        let undo = Undo::new(undo(
            self.file.clone(),
            request.name.clone(),
            hash,
            expires_at,
            request.ttl,
        ));
        transaction.commit().await?;
        undo.disarm();
        waiter.is_served();
        let claim = Claim {
            name: request.name.clone(),
            sequence: Sequence::new(sequence).ok_or_else(|| unexpected("a sequence that is used up"))?,
            holder: request.holder.hash(),
        };
        Ok(Attempt::Held(Held {
            claim,
            term: Term::new(sent, request.ttl),
            identity,
        }))
    }
}

impl Attempt {
    fn busy(self) -> LockError {
        let expires_in = match self {
            Self::Busy { expires_in } => Some(expires_in),
            Self::Held(_) | Self::Left => None,
        };
        LockError::Busy { expires_in }
    }
}

#[async_trait]
impl LockService for SqliteLocks {
    fn kind(&self) -> Kind {
        Kind::Sqlite
    }

    async fn identity(&self) -> Result<Identity, LockError> {
        let mut transaction = self.file.begin().await?;
        let identity = identity(&mut transaction).await?;
        transaction.commit().await?;
        Ok(identity)
    }

    async fn acquire(&self, request: &Request) -> Result<Held, LockError> {
        let held = self.contend(request).await?;
        self.lines
            .acquired(&request.name, request.holder.hash(), &held.term);
        Ok(held)
    }

    async fn renew(&self, claim: &Claim) -> Result<Term, LockError> {
        let mut transaction = self.file.begin().await?;
        let sent = Moment::now();
        match live(&mut transaction, &claim.name).await? {
            Some(live) if live.is(claim) => {
                extend(&mut transaction, &claim.name, live.ttl).await?;
                transaction.commit().await?;
                Ok(Term::new(sent, live.ttl))
            }
            _ => Err(LockError::Lost),
        }
    }

    async fn release(&self, claim: &Claim) -> Result<(), LockError> {
        let mut transaction = self.file.begin().await?;
        end(
            &mut transaction,
            &claim.name,
            &claim.holder,
            Which::Counted(claim.sequence),
        )
        .await?;
        let others = waiting::others(&mut transaction, &claim.name, self.process).await?;
        transaction.commit().await?;
        self.lines.told(&claim.name, others);
        self.lines.released(&claim.name, &claim.holder);
        Ok(())
    }

    async fn inspect(&self, name: &FenceName) -> Result<LockState, LockError> {
        let mut connection = self.file.pool().acquire().await?;
        let live = live(&mut connection, name).await?;
        let holder = live
            .map(|live| {
                Ok::<_, LockError>(HolderState {
                    sequence: Sequence::new(live.sequence).ok_or_else(|| unexpected("a sequence below 1"))?,
                    label: live.label,
                    expires_in: live.expires_in,
                    holder: Some(live.holder),
                })
            })
            .transpose()?;
        Ok(LockState {
            holder,
            waiting: None,
        })
    }
}

impl Live {
    fn is(&self, claim: &Claim) -> bool {
        self.sequence == claim.sequence.get() && self.holder == claim.holder
    }
}

async fn live(connection: &mut SqliteConnection, name: &FenceName) -> Result<Option<Live>, LockError> {
    let (boot, now) = clock::boot();
    let row = sqlx::query(
        "select sequence, holder, label, ttl_ms, expires_at from lock
          where name = $1 and holder is not null and boot = $2 and expires_at > $3",
    )
    .bind(name.as_str())
    .bind(boot)
    .bind(ms(now))
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        let expires_at: i64 = row.try_get("expires_at")?;
        let holder: Vec<u8> = row.try_get("holder")?;
        Ok(Live {
            sequence: row.try_get("sequence")?,
            holder: holder
                .as_slice()
                .try_into()
                .map_err(|_| unexpected("a holder that is not a hash"))?,
            label: row.try_get("label")?,
            ttl: Duration::from_millis(row.try_get::<i64, _>("ttl_ms")?.unsigned_abs()),
            expires_in: Duration::from_millis(expires_at.saturating_sub(ms(now)).unsigned_abs()),
        })
    })
    .transpose()
}

/// Takes back what an attempt did whose commit may or may not happen. What the same holder has extended since is left
/// alone: it has come again.
async fn undo(file: SqliteFile, name: FenceName, holder: HolderHash, expires_at: i64, ttl: Duration) {
    until_done(&name, Moment::now() + ttl, || async {
        let mut transaction = file.begin().await?;
        end(&mut transaction, &name, &holder, Which::Until(expires_at)).await?;
        Ok::<_, LockError>(transaction.commit().await?)
    })
    .await;
}

/// Ends an acquisition of this holder.
async fn end(
    connection: &mut SqliteConnection,
    name: &FenceName,
    holder: &HolderHash,
    which: Which<i64>,
) -> Result<(), LockError> {
    let (sequence, expires_at) = which.number_or_end();
    sqlx::query(
        "update lock set holder = null, expires_at = 0
          where name = $1 and holder = $2 and sequence = coalesce($3, sequence)
            and expires_at = coalesce($4, expires_at)",
    )
    .bind(name.as_str())
    .bind(holder.as_bytes().as_slice())
    .bind(sequence)
    .bind(expires_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Makes an acquisition last from now on; until when is never the same as before.
async fn extend(
    connection: &mut SqliteConnection,
    name: &FenceName,
    ttl: Duration,
) -> Result<i64, LockError> {
    let (_, now) = clock::boot();
    let row = sqlx::query(
        "update lock set ttl_ms = $1, expires_at = case expires_at when $2 then $2 + 1 else $2 end where name = $3
         returning expires_at",
    )
    .bind(ms(ttl))
    .bind(ms(now + ttl))
    .bind(name.as_str())
    .fetch_one(connection)
    .await?;
    Ok(row.try_get(0)?)
}

async fn identity(connection: &mut SqliteConnection) -> Result<Identity, LockError> {
    let instance: String = sqlx::query(
        "insert into lock_service (singleton, instance) values (1, $1)
         on conflict (singleton) do update set singleton = excluded.singleton returning instance",
    )
    .bind(Uuid::new_v4().to_string())
    .fetch_one(connection)
    .await?
    .try_get(0)?;
    let instance = instance
        .parse()
        .map_err(|_| unexpected("an identity that is not a UUID"))?;
    Ok(Identity {
        kind: Kind::Sqlite,
        cluster: String::new(),
        instance,
    })
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn unexpected(detail: &str) -> LockError {
    LockError::Unexpected {
        service: "sqlite".into(),
        detail: detail.into(),
    }
}
