//! Where the server is, and how a connection to it is made.

use std::{
    io,
    sync::{Arc, LazyLock},
    time::Duration,
};

use futures::future::try_join_all;
use redis::{
    AsyncConnectionConfig, Client, ErrorKind, RedisResult, Script,
    aio::MultiplexedConnection,
    io::tcp::TcpSettings,
    sentinel::{Sentinel, SentinelNodeConnectionInfo},
};

use super::address::Servers;

/// How many requests may queue before those that follow have to wait with sending.
const QUEUE: usize = 4096;

/// What is loaded into a server before it is asked.
pub(in crate::lock) type Scripts = &'static [&'static LazyLock<Script>];

/// One server.
#[derive(Clone)]
pub(super) enum Server {
    Known(Client),
    AskSentinels {
        sentinel: Arc<tokio::sync::Mutex<Sentinel>>,
        master: String,
        node: Box<SentinelNodeConnectionInfo>,
    },
}

impl Server {
    /// The one that a URL names, and what to call its place in errors.
    pub(super) fn of(servers: Servers) -> RedisResult<(Self, String)> {
        match servers {
            Servers::One(server) => {
                let place = server.addr().to_string();
                Ok((Self::Known(Client::open(server)?), place))
            }
            Servers::Sentinel {
                sentinels,
                master,
                tls,
                credentials,
            } => {
                let addresses: Vec<_> = sentinels
                    .iter()
                    .map(|sentinel| sentinel.addr().to_string())
                    .collect();
                let place = format!("{master} of {}", addresses.join(","));
                let mut node = SentinelNodeConnectionInfo::default()
                    .set_redis_connection_info(credentials)
                    .set_tcp_settings(TcpSettings::default().set_nodelay(true));
                if let Some(tls) = tls {
                    node = node.set_tls_mode(tls);
                }
                let sentinel = Arc::new(tokio::sync::Mutex::new(Sentinel::build(sentinels)?));
                Ok((
                    Self::AskSentinels {
                        sentinel,
                        master,
                        node: Box::new(node),
                    },
                    place,
                ))
            }
            Servers::Many(_) => Err((ErrorKind::InvalidClientConfig, "a link has one server").into()),
        }
    }

    /// A client of it, as far as is known now.
    pub(super) async fn client(&self) -> RedisResult<Client> {
        match self {
            Self::Known(client) => Ok(client.clone()),
            Self::AskSentinels {
                sentinel,
                master,
                node,
            } => sentinel.lock().await.async_master_for(master, Some(node)).await,
        }
    }

    /// A connection with the scripts loaded, so that the first use of one is one round trip like any other.
    pub(super) async fn connect(
        self,
        timeout: Duration,
        scripts: Scripts,
    ) -> RedisResult<MultiplexedConnection> {
        let connecting = async {
            let client = self.client().await?;
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(timeout))
                .set_response_timeout(Some(timeout))
                .set_pipeline_buffer_size(QUEUE);
            let connection = client
                .get_multiplexed_async_connection_with_config(&config)
                .await?;
            let load = |script: &&'static LazyLock<Script>| {
                let (script, mut connection) = (script.prepare_invoke(), connection.clone());
                async move { script.load_async(&mut connection).await }
            };
            try_join_all(scripts.iter().map(load)).await?;
            Ok(connection)
        };
        // Asking sentinels, connecting, and loading the scripts each have a time of their own.
        match tokio::time::timeout(timeout * 3, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }
}
