//! A PgBouncer of the test's own, which gives each transaction any server connection.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::process::Command;

use sqlx::{ConnectOptions, Connection, Executor};
use tempfile::TempDir;

use super::ports::{Port, with_free_ports};
use super::postgres::other_user;
use super::process::{NotReady, Process};
use super::{Postgres, programs, reaper};

pub struct PgBouncer {
    port: Port,
    process: Process,
    _folder: TempDir,
}

impl PgBouncer {
    /// In front of a server, in transaction mode, with this many connections to it.
    pub async fn start(server: &Postgres, connections: u16) -> Self {
        with_free_ports(|| async {
            let (folder, port) = (reaper::folder("pgbouncer"), Port::reserve());
            let config = folder.path().join("pgbouncer.ini");
            let text = format!(
                "[databases]\n* = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
                 listen_port = {}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
                 default_pool_size = {connections}\nignore_startup_parameters = extra_float_digits\n",
                server.port(),
                port.number()
            );
            std::fs::write(&config, text).unwrap();
            let mut command = Command::new(programs::find("pgbouncer", "pgbouncer", &[]));
            command.arg(&config);
            // It refuses to run as root.
            if let Some((uid, gid)) = other_user() {
                chown(folder.path(), Some(uid), Some(gid)).unwrap();
                command.uid(uid).gid(gid);
            }
            let process = Process::spawn("pgbouncer", command, &folder.path().join("log"));
            let mut pooler = Self { port, process, _folder: folder };
            pooler.ready().await?;
            Ok(pooler)
        })
        .await
    }

    pub fn url(&self) -> String {
        format!(
            "postgres://postgres@127.0.0.1:{}/postgres?statement-cache-capacity=0",
            self.port.number()
        )
    }

    async fn ready(&mut self) -> Result<(), NotReady> {
        let options: sqlx::postgres::PgConnectOptions = self.url().parse().unwrap();
        self.process
            .ready(|| async {
                let asked = async {
                    let mut connection = options.connect().await?;
                    connection.execute("select 1").await?;
                    connection.close().await
                };
                asked.await.map_err(|error: sqlx::Error| error.to_string())
            })
            .await
    }
}
