//! Locks in a Postgres database: a row for each fence, expiry by the database's clock.
//!
//! The time is looked at in a statement after the one that locks the row. In one statement, an update that had
//! waited for the row would go by the time at which it began to wait, and renew a lock that has expired.
//!
//! Who has to wait joins the line of this process, and only the first in it asks the database: when a release is told,
//! when the lock is due to expire, and from time to time.

mod wake;

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{
    PgConnection, PgPool, Postgres, Row, Transaction,
    postgres::{PgRow, types::PgInterval},
};
use time::OffsetDateTime;

use self::wake::{CHANNEL, Wake};
use super::{
    Claim, Held, HolderState, Identity, Kind, LockError, LockService, LockState, Request, Term,
    line::{Joined, Lines},
    until_done,
    wait::{Backoff, Undo, Which},
};
use crate::{
    clock::Moment,
    database::{
        DatabaseError,
        postgres::{self as database, Statement},
    },
    name::FenceName,
    token::{HolderHash, Sequence},
};

/// How long who waits goes without asking, where releases are told.
const LISTENED: Duration = Duration::from_secs(1);

/// As all transactions here begin: they hold a fence's row over several round trips. If this process stops meanwhile, or its machine
/// is gone, the server ends the session, and nobody waits for the row much longer than that.
const BEGIN: &str = "begin isolation level read committed; set local lock_timeout = '5s'; \
                     set local idle_in_transaction_session_timeout = '3s'";

/// How long a call may take, with what it takes to get a connection.
const LIMIT: Duration = Duration::from_secs(8);

/// The lock service in the schema `fencegate` of a Postgres database.
#[derive(Debug, Clone)]
pub struct PostgresLocks {
    pool: PgPool,
    wake: Wake,
    lines: Lines,
}

/// A fence's row, if its acquisition lives.
struct Live {
    sequence: i64,
    holder: HolderHash,
    label: String,
    ttl: Duration,
    expires_in: Duration,
}

impl PostgresLocks {
    /// Locks in this database, which has fencegate's schema.
    pub fn new(pool: PgPool) -> Self {
        Self {
            pool,
            wake: Wake::default(),
            lines: Lines::default(),
        }
    }

    /// Makes the fence's row, in a transaction of its own: until it was committed nobody would see it, and undoing an
    /// attempt would find nothing to undo, though the attempt's commit is yet to come.
    async fn make_row(&self, request: &Request) -> Result<(), LockError> {
        database::rows(&self.pool, || {
            sqlx::query(
                "insert into fencegate.lock (name, sequence) values ($1, $2) on conflict (name) do nothing",
            )
            .bind(request.name.as_str())
            .bind(request.floor)
        })
        .await?;
        Ok(())
    }

    async fn attempt(&self, request: &Request) -> Result<Held, LockError> {
        let (mut sent, mut transaction) = (Moment::now(), begin(&self.pool).await?);
        while !lock_row(&mut transaction, &request.name).await? {
            transaction.rollback().await?;
            self.make_row(request).await?;
            (sent, transaction) = (Moment::now(), begin(&self.pool).await?);
        }
        let hash = request.holder.hash();
        let row =
            match live(&mut transaction, &request.name).await? {
                Some(live) if live.holder != hash => {
                    return Err(LockError::Busy {
                        expires_in: Some(live.expires_in),
                    });
                }
                Some(_) => sqlx::query(
                    "update fencegate.lock set ttl = $2, expires_at = clock_timestamp() + $2 where name = $1
                     returning sequence, expires_at, (select instance from fencegate.lock_service) as instance",
                )
                .bind(request.name.as_str())
                .bind(interval(request.ttl))
                .fetch_one(&mut *transaction)
                .await?,
                None => {
                    sqlx::query(
                        "update fencegate.lock
                        set sequence = greatest(sequence, $2) + 1, holder = $3, label = $4, ttl = $5,
                            expires_at = clock_timestamp() + $5
                      where name = $1
                     returning sequence, expires_at, (select instance from fencegate.lock_service) as instance",
                    )
                    .bind(request.name.as_str())
                    .bind(request.floor)
                    .bind(hash.as_bytes().as_slice())
                    .bind(&request.label)
                    .bind(interval(request.ttl))
                    .fetch_one(&mut *transaction)
                    .await?
                }
            };
        let undo = Undo::new(undo(
            self.pool.clone(),
            request.name.clone(),
            hash,
            row.try_get("expires_at")?,
            request.ttl,
        ));
        transaction.commit().await.map_err(DatabaseError::at_commit)?;
        undo.disarm();
        let claim = Claim {
            name: request.name.clone(),
            sequence: Sequence::new(row.try_get("sequence")?)
                .ok_or_else(|| unexpected("a sequence below 1"))?,
            holder: request.holder.hash(),
        };
        Ok(Held {
            claim,
            term: Term::new(sent, request.ttl),
            identity: identity(row.try_get("instance")?),
        })
    }
}

impl PostgresLocks {
    /// Takes the lock, or waits in line for it.
    ///
    /// # Cancel safety
    /// Yes: the place in the line, or the lock, is given back.
    async fn contend(&self, request: &Request) -> Result<Held, LockError> {
        let give_up = Moment::now() + request.wait;
        let line = self.lines.at(&request.name);
        let _first = match line
            .join(request, give_up, in_time(self.attempt(request)))
            .await?
        {
            Joined::Held(held) => return Ok(held),
            first => first,
        };
        // Before the next attempt, so that no release is missed behind it.
        let ear = self.wake.listen(&self.pool, &request.name);
        let mut backoff = Backoff::new(give_up.remaining());
        loop {
            let busy = match in_time(self.attempt(request)).await {
                Err(busy @ LockError::Busy { .. }) => busy,
                done => return done,
            };
            if self.wake.is_listening() {
                backoff.listen(busy, LISTENED, ear.heard()).await?;
            } else {
                backoff.pause(busy).await?;
            }
        }
    }

    async fn renew_row(&self, claim: &Claim) -> Result<Term, LockError> {
        let sent = Moment::now();
        let mut transaction = begin(&self.pool).await?;
        lock_row(&mut transaction, &claim.name).await?;
        match live(&mut transaction, &claim.name).await? {
            Some(live) if live.is(claim) => {
                sqlx::query("update fencegate.lock set expires_at = clock_timestamp() + ttl where name = $1")
                    .bind(claim.name.as_str())
                    .execute(&mut *transaction)
                    .await?;
                transaction.commit().await.map_err(DatabaseError::at_commit)?;
                Ok(Term::new(sent, live.ttl))
            }
            _ => Err(LockError::Lost),
        }
    }
}

async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, DatabaseError> {
    database::begin_with(pool, BEGIN).await
}

/// Gives up what takes too long: a connection that is silent may stay so for ever, and tells nobody.
async fn in_time<T>(call: impl Future<Output = Result<T, LockError>>) -> Result<T, LockError> {
    tokio::time::timeout(LIMIT, call).await.unwrap_or_else(|_| {
        Err(LockError::Unavailable {
            service: "in the database".into(),
            detail: format!("no answer within {} s", LIMIT.as_secs()),
        })
    })
}

#[async_trait]
impl LockService for PostgresLocks {
    fn kind(&self) -> Kind {
        Kind::Postgres
    }

    async fn identity(&self) -> Result<Identity, LockError> {
        in_time(async {
            let row = database::one(&self.pool, || {
                sqlx::query("select instance from fencegate.lock_service")
            })
            .await?;
            Ok(identity(row.try_get(0)?))
        })
        .await
    }

    async fn migrate(&self) -> Result<(), LockError> {
        Ok(database::migrate(&self.pool).await?)
    }

    async fn acquire(&self, request: &Request) -> Result<Held, LockError> {
        let held = self.contend(request).await?;
        self.lines
            .acquired(&request.name, request.holder.hash(), &held.term);
        Ok(held)
    }

    async fn renew(&self, claim: &Claim) -> Result<Term, LockError> {
        in_time(self.renew_row(claim)).await
    }

    async fn release(&self, claim: &Claim) -> Result<(), LockError> {
        in_time(end(
            &self.pool,
            &claim.name,
            &claim.holder,
            Which::Counted(claim.sequence),
        ))
        .await?;
        self.lines.released(&claim.name, &claim.holder);
        Ok(())
    }

    async fn inspect(&self, name: &FenceName) -> Result<LockState, LockError> {
        let live = in_time(async {
            let row = database::optional(&self.pool, || ask_live(name)).await?;
            row.map(|row| live_of(&row)).transpose()
        })
        .await?;
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

/// Takes back what an attempt did whose commit may or may not happen. What the same holder has extended since is left alone: it has come again.
async fn undo(pool: PgPool, name: FenceName, holder: HolderHash, expires_at: OffsetDateTime, ttl: Duration) {
    until_done(&name, Moment::now() + ttl, || {
        end(&pool, &name, &holder, Which::Until(expires_at))
    })
    .await;
}

/// Ends an acquisition of this holder.
async fn end(
    pool: &PgPool,
    name: &FenceName,
    holder: &HolderHash,
    which: Which<OffsetDateTime>,
) -> Result<(), LockError> {
    let (sequence, expires_at) = which.number_or_end();
    let mut transaction = begin(pool).await?;
    if expires_at.is_some() {
        // An update does not wait for a row that it has no business with yet, and until the commit the row is as it was
        // before: so first the wait, then the look.
        lock_row(&mut transaction, name).await?;
    }
    let ended = sqlx::query(
        "update fencegate.lock set holder = null, expires_at = null, ttl = null
          where name = $1 and holder = $2 and sequence = coalesce($3, sequence)
            and expires_at = coalesce($4, expires_at)",
    )
    .bind(name.as_str())
    .bind(holder.as_bytes().as_slice())
    .bind(sequence)
    .bind(expires_at)
    .execute(&mut *transaction)
    .await?;
    if ended.rows_affected() > 0 {
        sqlx::query("select pg_notify($1, $2)")
            .bind(CHANNEL)
            .bind(name.as_str())
            .execute(&mut *transaction)
            .await?;
    }
    Ok(transaction.commit().await.map_err(DatabaseError::at_commit)?)
}

/// Waits for the fence's row, and raises the transaction's durability: a sequence that was handed out must not
/// be forgotten in a crash. `false` if there is no row.
async fn lock_row(connection: &mut PgConnection, name: &FenceName) -> Result<bool, LockError> {
    let row = sqlx::query("select fencegate.make_durable() from fencegate.lock where name = $1 for update")
        .bind(name.as_str())
        .fetch_optional(connection)
        .await?;
    Ok(row.is_some())
}

/// The row's acquisition, if it lives by the time at which this statement looks.
async fn live(connection: &mut PgConnection, name: &FenceName) -> Result<Option<Live>, LockError> {
    let row = ask_live(name).fetch_optional(connection).await?;
    row.map(|row| live_of(&row)).transpose()
}

fn ask_live(name: &FenceName) -> Statement<'_> {
    sqlx::query(
        "select sequence, holder, label, (extract(epoch from ttl) * 1000)::bigint as ttl_ms,
                (extract(epoch from expires_at - clock_timestamp()) * 1000)::bigint as expires_ms
           from fencegate.lock
          where name = $1 and holder is not null and expires_at > clock_timestamp()",
    )
    .bind(name.as_str())
}

fn live_of(row: &PgRow) -> Result<Live, LockError> {
    Ok(Live {
        sequence: row.try_get("sequence")?,
        holder: row
            .try_get::<&[u8], _>("holder")?
            .try_into()
            .map_err(|_| unexpected("a holder that is not a hash"))?,
        label: row.try_get("label")?,
        ttl: Duration::from_millis(row.try_get::<i64, _>("ttl_ms")?.unsigned_abs()),
        expires_in: Duration::from_millis(row.try_get::<i64, _>("expires_ms")?.max(0).unsigned_abs()),
    })
}

fn identity(instance: uuid::Uuid) -> Identity {
    Identity {
        kind: Kind::Postgres,
        cluster: String::new(),
        instance,
    }
}

fn interval(duration: Duration) -> PgInterval {
    PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX),
    }
}

fn unexpected(detail: &str) -> LockError {
    LockError::Unexpected {
        service: "postgres".into(),
        detail: detail.into(),
    }
}
