//! `fencegate migrate`.

use std::fmt::Write as _;

use clap::Args;

use super::{
    output, secret,
    servers::{self, ConfigFile},
};

#[derive(Args)]
pub(super) struct Migrate {
    #[command(flatten)]
    config: ConfigFile,
    /// The store: postgres://user@host:5432/database or sqlite:FILE (or DATABASE_URL)
    #[arg(long, value_name = "URL", env = "FENCEGATE_STORE", hide_env_values = true,
          value_parser = secret::read)]
    store: Option<String>,
    /// Print the SQL for a database without fencegate's tables, and change nothing
    #[arg(long)]
    print: bool,
}

impl Migrate {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        if self.print {
            return output::bytes(sql(servers::store(&self.store).as_deref()).as_bytes());
        }
        let locks = servers::connect_store(&self.store).await?;
        let migrated = locks.migrate().await;
        migrated.map_err(|error| servers::at_store(&locks, error))?;
        output::line(&format!(
            "the tables are up to date in {}",
            locks.store().describe()
        ))
    }
}

/// The migrations as one script, which leaves the record that they were done: `migrate` and `serve` then find
/// nothing to do.
#[cfg_attr(
    not(feature = "postgres"),
    allow(unused_variables, reason = "there is only one kind of store")
)]
fn sql(store: Option<&str>) -> String {
    #[cfg(feature = "postgres")]
    if !store.is_some_and(|url| url.starts_with("sqlite:")) {
        return script(
            &fencegate::database::postgres::migrations(),
            &Dialect {
                before: "create schema if not exists fencegate;\n",
                table: "fencegate.migration",
                types: ["bigint", "timestamptz", "now()", "boolean", "bytea"],
                bytes: |hex| format!("'\\x{hex}'"),
            },
        );
    }
    script(
        &fencegate::database::sqlite::migrations(),
        &Dialect {
            before: "",
            table: "migration",
            types: ["bigint", "timestamp", "current_timestamp", "boolean", "blob"],
            bytes: |hex| format!("x'{hex}'"),
        },
    )
}

struct Dialect {
    before: &'static str,
    table: &'static str,
    types: [&'static str; 5],
    bytes: fn(&str) -> String,
}

fn script(migrations: &sqlx::migrate::Migrator, dialect: &Dialect) -> String {
    let Dialect {
        before,
        table,
        types: [number, moment, now, truth, bytes],
        ..
    } = dialect;
    let mut script = format!(
        "begin;\n{before}\ncreate table if not exists {table} (\n    version {number} primary key,\n    \
         description text not null,\n    installed_on {moment} not null default {now},\n    success {truth} not null,\n    \
         checksum {bytes} not null,\n    execution_time bigint not null\n);\n"
    );
    for migration in migrations.iter() {
        let (version, description) = (migration.version, &migration.description);
        let checksum: String = migration
            .checksum
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let _ = write!(
            script,
            "\n-- {version} {description}\n\n{}\n\ninsert into {table} (version, description, success, checksum, \
             execution_time)\nvalues ({version}, '{}', true, {}, 0);\n",
            migration.sql.as_str(),
            description.replace('\'', "''"),
            (dialect.bytes)(&checksum),
        );
    }
    script.push_str("\ncommit;\n");
    script
}
