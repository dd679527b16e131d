//! Postgres, as a store or as a lock service.

use std::time::{Duration, Instant};

use fencegate::database::{
    DatabaseError,
    postgres::{PoolSize, check_migrated, connect},
};
use sqlx::{Connection, PgConnection, PgPool, Row};

use super::{
    clock,
    finding::{Findings, Severity},
    version::{self, Flaw, Version},
};

const FLAWS: &[Flaw] = &[Flaw {
    severity: Severity::Unsafe,
    mended: &[Version(14, 0, 0)],
    why: "fencegate's functions do not run on it",
}];

/// Why there is no connection, where the pool says only that it waited for one.
async fn reason(pool: &PgPool, error: sqlx::Error) -> DatabaseError {
    if !matches!(error, sqlx::Error::PoolTimedOut) {
        return error.into();
    }
    let options = pool.connect_options();
    let connected = PgConnection::connect_with(&options);
    match tokio::time::timeout(Duration::from_secs(2), connected).await {
        Ok(Err(error)) => error.into(),
        Ok(Ok(_)) | Err(_) => error.into(),
    }
}

/// Whether what else there is to ask of the store makes sense.
pub(super) async fn look(place: &str, url: &str) -> anyhow::Result<(Findings, bool)> {
    let size = PoolSize {
        connections: 1,
        ..PoolSize::default()
    };
    let pool = connect(url, &size)?;
    let options = pool.connect_options();
    let database = options.get_database().unwrap_or("the default database");
    let at = format!("{}:{}", options.get_host(), options.get_port());
    let mut findings = Findings::of(format!("{place}: postgres {database} at {at}"));
    let asked = Instant::now();
    if let Err(error) = sqlx::query("select 1").execute(&pool).await {
        findings.add(
            Severity::Unsafe,
            format!("it does not answer: {}", reason(&pool, error).await),
            "nothing is read, written or granted without it",
            format!(
                "pg_isready -h {} -p {}; then look at user, password and pg_hba.conf",
                options.get_host(),
                options.get_port()
            ),
        );
        return Ok((findings, false));
    }
    findings.ok(format!(
        "reachable, in {}",
        humantime::format_duration(round(asked.elapsed()))
    ));
    settings(&mut findings, &pool).await?;
    let migrated = match check_migrated(&pool).await {
        Ok(()) => {
            findings.ok("its tables are those of this version");
            rights(&mut findings, &pool).await?;
            true
        }
        Err(error @ DatabaseError::NotPermitted(_)) => {
            let role = sqlx::query_scalar("select current_user::text");
            let role: String = role.fetch_one(&pool).await?;
            findings.add(
                Severity::Unsafe,
                format!("{role} may not look at fencegate's tables: {error}"),
                "a gateway, or whoever else acquires leases and writes, cannot as this role",
                format!(
                    "grant fencegate_writer, fencegate_sealer to \"{}\";",
                    role.replace('"', "\"\"")
                ),
            );
            false
        }
        Err(error) => {
            findings.add(
                Severity::Unsafe,
                format!("its tables are not those of this version: {error}"),
                "nothing can be sealed or written",
                "fencegate migrate --store URL",
            );
            false
        }
    };
    Ok((findings, migrated))
}

async fn settings(findings: &mut Findings, pool: &PgPool) -> anyhow::Result<()> {
    let row = sqlx::query(
        "select current_setting('server_version') as version, current_setting('fsync') as fsync,
                current_setting('full_page_writes') as full_page_writes,
                current_setting('synchronous_commit') as synchronous_commit,
                current_setting('synchronous_standby_names') as standbys,
                pg_is_in_recovery() as in_recovery,
                (select count(*) from pg_stat_replication) as replicas,
                (select count(*) from pg_prepared_xacts where database = current_database()) as prepared",
    );
    let row = row.fetch_one(pool).await?;
    let text = |name| row.try_get::<String, _>(name);
    version::judge(findings, "PostgreSQL", &text("version")?, FLAWS);
    let mut durable = true;
    for (name, lost) in [
        (
            "fsync",
            "a crash of the machine can lose or corrupt anything that was committed, marks included",
        ),
        (
            "full_page_writes",
            "a crash of the machine can corrupt pages that were half written, marks included",
        ),
    ] {
        if text(name)? == "off" {
            durable = false;
            let remedy = format!("alter system set {name} = on; select pg_reload_conf();");
            findings.add(Severity::Unsafe, format!("{name} is off"), lost, remedy);
        }
    }
    if text("synchronous_commit")? == "off" {
        durable = false;
        findings.add(
            Severity::Warning,
            "synchronous_commit is off",
            "fencegate raises it for what passes the guard; what else you commit can be lost in a crash although it was \
             acknowledged",
            "alter system set synchronous_commit = on; select pg_reload_conf();",
        );
    }
    if durable {
        findings.ok("what it acknowledges is on disk");
    }
    if row.try_get("in_recovery")? {
        findings.add(
            Severity::Unsafe,
            "it is a standby",
            "nothing can be written to it",
            "name the primary",
        );
    }
    if row.try_get::<i64, _>("replicas")? > 0 && text("standbys")?.is_empty() {
        findings.add(
            Severity::Warning,
            "its replication is asynchronous",
            "a fail-over loses the last marks: a token that was dead may then be taken for the newest",
            "set synchronous_standby_names, or rebase after each fail-over",
        );
    }
    let prepared: i64 = row.try_get("prepared")?;
    if prepared > 0 {
        findings.add(
            Severity::Warning,
            format!("{prepared} prepared transactions are open"),
            "one that has entered a fence keeps every newer holder out until it is decided, and cannot be ended",
            "select * from pg_prepared_xacts; then commit prepared or rollback prepared",
        );
    }
    let sent = Instant::now();
    let shown = sqlx::query_scalar("select clock_timestamp()")
        .fetch_one(pool)
        .await?;
    clock::judge(findings, shown, sent.elapsed());
    Ok(())
}

/// Whether a seal may end the sessions that block it: its functions run as the owner of the schema.
async fn rights(findings: &mut Findings, pool: &PgPool) -> anyhow::Result<()> {
    let row = sqlx::query(
        "select r.rolname::text as owner, pg_has_role(r.oid, 'pg_signal_backend', 'usage') as may_signal
           from pg_namespace n join pg_roles r on r.oid = n.nspowner where n.nspname = 'fencegate'",
    );
    let Some(row) = row.fetch_optional(pool).await? else {
        return Ok(());
    };
    if row.try_get("may_signal")? {
        findings.ok("a seal may end the sessions that block it");
        return Ok(());
    }
    let owner: String = row.try_get("owner")?;
    findings.add(
        Severity::Warning,
        format!("{owner}, who owns the schema fencegate, may not end other roles' sessions"),
        "a holder that stalls inside a transaction keeps the next one out until idle_in_transaction_session_timeout",
        format!("grant pg_signal_backend to \"{}\";", owner.replace('"', "\"\"")),
    );
    Ok(())
}

/// To tenths of milliseconds.
fn round(duration: Duration) -> Duration {
    Duration::from_micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX) / 100 * 100)
}
