//! `fencegate protect` and `unprotect`: tables that are written under their fence only. SQL does it, in one transaction.

use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use fencegate::{
    FenceName,
    database::{DatabaseError, postgres},
    store::StoreError,
};
use serde_json::json;
use sqlx::{PgPool, Postgres, Row, Transaction};

use super::{
    limits::read,
    output::Output,
    secret,
    servers::{self, ConfigFile},
};

/// What is done with a write that has not entered its fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Refuse it
    Enforce,
    /// Let it pass, and write it down
    Report,
}

impl Mode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Report => "report",
        }
    }
}

#[derive(Args)]
#[command(
    after_help = "Called again for the same table, it takes the place of what was said before. TABLE is read as SQL reads \
    it, and else as it stands: invoice, billing.invoice, '\"Invoice\"', Invoice. Only the table's owner may do this."
)]
pub(super) struct Protect {
    /// The table; its partitions go with it
    #[arg(value_name = "TABLE")]
    table: String,
    /// The fence under which the table is written
    #[arg(long, value_name = "NAME", value_parser = super::fence,
          required_unless_present = "column", conflicts_with = "column")]
    fence: Option<FenceName>,
    /// The column that names each row's fence
    #[arg(long, value_name = "COLUMN")]
    column: Option<String>,
    /// What is done with a write that has not entered its fence
    #[arg(long, value_name = "MODE", default_value = "enforce")]
    mode: Mode,
    #[command(flatten)]
    at: At,
}

#[derive(Args)]
pub(super) struct Unprotect {
    /// The table; its partitions go with it
    #[arg(value_name = "TABLE")]
    table: String,
    #[command(flatten)]
    at: At,
}

/// Where the table is.
#[derive(Args)]
struct At {
    #[command(flatten)]
    config: ConfigFile,
    /// The store, which has the table: postgres://user@host:5432/database (or DATABASE_URL)
    #[arg(long, value_name = "URL", env = "FENCEGATE_STORE", hide_env_values = true,
          value_parser = secret::read)]
    store: Option<String>,
    /// How long to wait for those who write to the table now; others wait behind meanwhile
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = read::timeout::<Duration>)]
    lock_timeout: Duration,
    #[command(flatten)]
    output: Output,
}

impl Protect {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let (mut transaction, table) = self.at.begin(&self.table).await?;
        let fence = self.fence.as_ref().map(FenceName::as_str);
        let protected = sqlx::query("select fencegate.protect($1::oid, $2, $3::name, $4)")
            .bind(table.id)
            .bind(fence)
            .bind(&self.column)
            .bind(self.mode.as_str())
            .execute(&mut *transaction)
            .await;
        self.at.commit(transaction, protected).await?;
        let said = json!({
            "table": table.name, "fence": fence, "column": self.column, "mode": self.mode.as_str(),
        });
        self.at.output.say(&said, || {
            let which = match (fence, &self.column) {
                (Some(fence), _) => format!("the fence {fence}"),
                (None, column) => format!("the fence that {} names", column.as_deref().unwrap_or_default()),
            };
            match self.mode {
                Mode::Enforce => format!("{} is written under {which} only", table.name),
                Mode::Report => format!(
                    "{}: writes without {which} pass, and are written down: fencegate rejections",
                    table.name
                ),
            }
        })
    }
}

impl Unprotect {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let (mut transaction, table) = self.at.begin(&self.table).await?;
        let unprotected = sqlx::query("select fencegate.unprotect($1::oid)")
            .bind(table.id)
            .execute(&mut *transaction)
            .await;
        self.at.commit(transaction, unprotected).await?;
        let said = json!({ "table": table.name, "was_protected": table.is_protected });
        self.at.output.say(&said, || match table.is_protected {
            true => format!("{} is protected no more", table.name),
            false => format!("{} was not protected", table.name),
        })
    }
}

/// A table, as it was found.
struct Table {
    id: sqlx::postgres::types::Oid,
    /// With its schema, quoted where it has to be.
    name: String,
    is_protected: bool,
}

/// As SQL reads the name, if it is one to SQL, or else as it stands.
const FIND: &str = r#"
    select c.oid, format('%I.%I', n.nspname, c.relname) as name,
           exists (select from pg_trigger t where t.tgrelid = c.oid and t.tgname in ('fencegate_row', 'fencegate_statement'))
             as is_protected
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.oid = coalesce(
               case when $1 ~ '^("([^"]|"")+"|[[:alpha:]_][[:alnum:]_$]*)(\.("([^"]|"")+"|[[:alpha:]_][[:alnum:]_$]*))*$'
                    then to_regclass($1) end,
               to_regclass((select string_agg(quote_ident(part), '.' order by place)
                              from unnest(string_to_array($1, '.')) with ordinality as p (part, place))))"#;

impl At {
    async fn begin(&self, table: &str) -> anyhow::Result<(Transaction<'static, Postgres>, Table)> {
        let url = servers::named_store(&self.store)?;
        if !["postgres:", "postgresql:"]
            .iter()
            .any(|scheme| url.starts_with(scheme))
        {
            // It says which schemes there are.
            servers::look_into_store(&url).await?;
            bail!(
                "an SQLite store has no tables but its own: only those of a Postgres database can be protected"
            );
        }
        let pool = postgres::connect(&url, &postgres::PoolSize::default()).map_err(StoreError::from)?;
        let mut transaction = begun(&pool, self.lock_timeout).await.map_err(StoreError::from)?;
        let found = sqlx::query(FIND)
            .bind(table)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(told)?;
        let row = found.with_context(|| format!("there is no table {table} in this database"))?;
        let table = Table {
            id: row.try_get("oid")?,
            name: row.try_get("name")?,
            is_protected: row.try_get("is_protected")?,
        };
        Ok((transaction, table))
    }

    async fn commit<T>(
        &self,
        transaction: Transaction<'static, Postgres>,
        done: Result<T, sqlx::Error>,
    ) -> anyhow::Result<()> {
        done.map_err(told)?;
        transaction.commit().await.map_err(told)
    }
}

async fn begun(
    pool: &PgPool,
    lock_timeout: Duration,
) -> Result<Transaction<'static, Postgres>, DatabaseError> {
    let mut transaction = postgres::begin(pool).await?;
    sqlx::query("select set_config('lock_timeout', $1, true)")
        .bind(format!(
            "{}ms",
            lock_timeout.as_millis().clamp(1, i32::MAX as u128)
        ))
        .execute(&mut *transaction)
        .await?;
    Ok(transaction)
}

/// What the database said, with its advice.
fn told(error: sqlx::Error) -> anyhow::Error {
    use sqlx::postgres::PgDatabaseError;
    let code = error.as_database_error().and_then(|said| said.code());
    let code = code.unwrap_or_default().into_owned();
    let said = error
        .as_database_error()
        .and_then(|said| said.try_downcast_ref::<PgDatabaseError>())
        .map(|said| (said.message().to_owned(), said.hint().map(str::to_owned)));
    match (code.as_str(), said) {
        ("55P03", _) => anyhow::anyhow!(
            "somebody else has locked the table for longer than --lock-timeout: nothing was changed, try again"
        ),
        // Of fencegate's own functions, or of a right that is missing.
        (code, Some((message, hint)))
            if code.starts_with("ZF")
                || ["22023", "42501", "42703", "42809", "42601", "42602"].contains(&code) =>
        {
            match hint {
                Some(hint) => anyhow::anyhow!("{message}. {hint}"),
                None => anyhow::anyhow!("{message}"),
            }
        }
        _ => StoreError::from(DatabaseError::from(error)).into(),
    }
}
