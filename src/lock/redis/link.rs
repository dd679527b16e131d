//! A connection to one Redis server that comes back when it breaks.
//!
//! All requests share it, so those that wait for the server at the same time travel together. A request that
//! is not answered in time gives the connection up: nobody knows whether the path is dead or the server slow.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use redis::{
    Client, Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, ScriptInvocation, ServerErrorKind,
    aio::MultiplexedConnection,
};

use super::{
    address::Servers,
    server::{Scripts, Server},
};
use crate::lock::LockError;

type Connecting = Shared<BoxFuture<'static, Result<MultiplexedConnection, RedisError>>>;

/// A way to one server. Clones share the connection.
#[derive(Clone)]
pub(in crate::lock) struct Link(Arc<Inner>);

struct Inner {
    server: Server,
    /// With what this service calls itself in errors, without credentials.
    service: String,
    timeout: Duration,
    scripts: Scripts,
    state: Mutex<State>,
}

struct State {
    /// Counts the connections, so that one that broke is given up once.
    number: u64,
    connection: Connection,
}

enum Connection {
    None,
    Coming(Connecting),
    Up(MultiplexedConnection),
}

/// One connection, as long as it lasts. Requests on it reach the server in the order in which they are sent.
#[derive(Clone)]
pub(in crate::lock) struct Wire {
    number: u64,
    connection: MultiplexedConnection,
}

impl Link {
    /// To one server, or to the one that sentinels name. Nothing is asked yet.
    pub(in crate::lock) fn new(
        servers: Servers,
        kind: &str,
        timeout: Duration,
        scripts: Scripts,
    ) -> RedisResult<Self> {
        let (server, place) = Server::of(servers)?;
        Ok(Self(Arc::new(Inner {
            server,
            service: format!("{kind} at {place}"),
            timeout,
            scripts,
            state: Mutex::new(State {
                number: 0,
                connection: Connection::None,
            }),
        })))
    }

    /// The service's name with the server's address, for errors.
    pub(in crate::lock) fn service(&self) -> &str {
        &self.0.service
    }

    /// How long an answer may take.
    pub(in crate::lock) fn timeout(&self) -> Duration {
        self.0.timeout
    }

    /// The connection that stands, or a new one.
    ///
    /// # Cancel safety
    /// Yes: connecting goes on for those who come after.
    pub(in crate::lock) async fn wire(&self) -> Result<Wire, RedisError> {
        let (number, coming) = {
            let mut state = self.state();
            match &state.connection {
                Connection::Up(connection) => {
                    return Ok(Wire {
                        number: state.number,
                        connection: connection.clone(),
                    });
                }
                Connection::Coming(coming) => (state.number, coming.clone()),
                Connection::None => {
                    let coming = self
                        .0
                        .server
                        .clone()
                        .connect(self.0.timeout, self.0.scripts)
                        .boxed()
                        .shared();
                    state.number += 1;
                    state.connection = Connection::Coming(coming.clone());
                    let (link, number, ours) = (self.clone(), state.number, coming.clone());
                    tokio::spawn(async move { link.settle(number, ours).await.is_ok() });
                    (state.number, coming)
                }
            }
        };
        // Not left to the task alone: its runtime may end before it has done so.
        let connection = self.settle(number, coming).await?;
        Ok(Wire { number, connection })
    }

    /// Whoever comes first writes down what came of connecting.
    async fn settle(&self, number: u64, coming: Connecting) -> Result<MultiplexedConnection, RedisError> {
        let outcome = coming.await;
        let mut state = self.state();
        if state.number == number && matches!(state.connection, Connection::Coming(_)) {
            state.connection = match &outcome {
                Ok(connection) => Connection::Up(connection.clone()),
                Err(_) => Connection::None,
            };
        }
        outcome
    }

    /// A client of the server, for a connection of another kind.
    pub(in crate::lock) async fn client(&self) -> RedisResult<Client> {
        self.0.server.client().await
    }

    /// Runs a script on this connection.
    ///
    /// # Cancel safety
    /// The script may or may not run.
    pub(in crate::lock) async fn run<T: FromRedisValue>(
        &self,
        wire: &Wire,
        script: &ScriptInvocation<'_>,
    ) -> RedisResult<T> {
        let answer = script.invoke_async(&mut wire.connection.clone()).await;
        if let Err(error) = &answer
            && is_the_connection(error)
        {
            let mut state = self.state();
            if state.number == wire.number {
                state.connection = Connection::None;
            }
        }
        answer
    }

    /// Runs a script that may run twice, on the connection that stands; once more on a new one if it broke.
    ///
    /// # Cancel safety
    /// The script may or may not run.
    pub(in crate::lock) async fn ask<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, LockError> {
        let wire = self.wire().await.map_err(|error| self.error(&error))?;
        let answer = match self.run(&wire, script).await {
            Err(error) if error.is_connection_dropped() => match self.wire().await {
                Ok(wire) => self.run(&wire, script).await,
                Err(error) => Err(error),
            },
            answer => answer,
        };
        answer.map_err(|error| self.error(&error))
    }

    /// Asks a command that only reads.
    ///
    /// # Cancel safety
    /// Yes.
    pub(in crate::lock) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, LockError> {
        let mut wire = self.wire().await.map_err(|error| self.error(&error))?;
        let answer = command.query_async(&mut wire.connection).await;
        answer.map_err(|error| self.error(&error))
    }

    /// What to tell the caller.
    pub(in crate::lock) fn error(&self, error: &RedisError) -> LockError {
        let (service, detail) = (self.0.service.clone(), error.to_string());
        match error.kind() {
            // A script that stopped, or an answer that it cannot have given.
            ErrorKind::Server(ServerErrorKind::ResponseError | ServerErrorKind::ExecAbort)
            | ErrorKind::Parse
            | ErrorKind::UnexpectedReturnType => LockError::Unexpected { service, detail },
            ErrorKind::Extension if error.code() == Some("WRONGTYPE") => {
                LockError::Unexpected { service, detail }
            }
            _ => LockError::Unavailable { service, detail },
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0
            .state
            .lock()
            .expect("nothing panics while it holds the state")
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({})", self.0.service)
    }
}

/// Whether another connection may do better: it broke, nothing came back in time, or the server at its end has
/// become a replica.
fn is_the_connection(error: &RedisError) -> bool {
    error.is_unrecoverable_error()
        || error.is_timeout()
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}
