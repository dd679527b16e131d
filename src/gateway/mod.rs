//! The gateway: HTTP in front of a lock service and a store.
//!
//! It leases locks and keeps records, and refuses writers whose token is stale. It has no state of its own: any
//! number of replicas serve one store and one lock service. Errors are RFC 9457 problems, whose `type` is
//! `urn:fencegate:problem:` and a stable name.
//!
//! A write runs to its end when the client goes away, since half a write helps nobody; waiting for a lease stops,
//! since a lease for nobody locks everybody out.

mod advertised;
pub mod auth;
mod body;
mod browsers;
mod conditions;
mod config;
mod connections;
mod dashboard;
mod events;
mod exchange;
mod fences;
mod foreign;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod health;
mod idempotency;
mod leases;
mod media_type;
mod metrics;
mod openapi;
mod paging;
mod path;
mod problem;
mod query;
mod record_list;
mod record_patch;
mod records;
mod rejections;
mod request_line;
mod server;
mod stall;
pub mod tls;
mod token_header;
mod trace;
mod transactions;
mod untaken;
mod witness;

use std::sync::Arc;

use axum::{Router, middleware};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;
use utoipa_axum::router::OpenApiRouter;

pub use advertised::Advertised;
pub use config::Config;
pub use server::{ServeError, serve};

use crate::{
    grant::Locks,
    store::{Done, Once, StoreError, Transaction, Write, Written, transaction::the_only_one},
};
use auth::Client;
use body::{Bodies, Room};
use browsers::OwnNames;
use connections::Connections;
use foreign::Refused;
use problem::Problem;
use request_line::Lines;
use witness::Witness;

/// What all requests share.
struct Gateway {
    locks: Locks,
    config: Config,
    own_names: OwnNames,
    /// Whose requests they are while nobody has to show who they are.
    anonymous: Client,
    /// Cancelled once no more leases are given.
    draining: CancellationToken,
    /// A place for each lease request that waits.
    waiting: Semaphore,
    bodies: Bodies,
    connections: Arc<Connections>,
    /// Sees what happens.
    witness: Arc<Witness>,
    /// Work that runs to its end without its client.
    tasks: TaskTracker,
}

/// All routes, each with its description.
fn routes() -> OpenApiRouter<Arc<Gateway>> {
    openapi::router()
        .merge(leases::routes())
        .merge(fences::routes())
        .merge(records::routes())
        .merge(record_patch::routes())
        .merge(record_list::routes())
        .merge(transactions::routes())
        .merge(rejections::routes())
        .merge(events::routes())
        .merge(metrics::routes())
        .merge(health::routes())
        .merge(openapi::routes())
        .merge(dashboard::routes())
}

/// All routes, with what every answer has; and those for who comes when there are too many connections.
fn routers(gateway: Arc<Gateway>) -> (Router, Router) {
    let lines = Lines::new(gateway.witness.metrics().clone(), gateway.config.log_lines);
    let (routes, _) = routes().split_for_parts();
    let routes = routes
        .fallback(async || Problem::route_not_found())
        .method_not_allowed_fallback(async || Problem::method_not_allowed());
    let (when_full, _) = connections::when_full().split_for_parts();
    let when_full = when_full.fallback(async || Problem::too_many_connections());
    (
        with_what_all_have(routes, gateway.clone(), lines.clone()),
        connections::for_one_request(with_what_all_have(when_full, gateway, lines)),
    )
}

fn with_what_all_have(routes: Router<Arc<Gateway>>, gateway: Arc<Gateway>, lines: Arc<Lines>) -> Router {
    routes
        .layer(middleware::from_fn_with_state(
            gateway.clone(),
            auth::authenticate,
        ))
        .layer(middleware::from_fn_with_state(lines, exchange::exchange))
        .layer(middleware::from_fn_with_state(
            gateway.config.stall_timeout,
            untaken::cut_off,
        ))
        .with_state(gateway)
}

/// Why a write failed: the guard refused it, or it was known before that it would.
fn because(error: StoreError, refused: Option<Refused>) -> Problem {
    match (error, refused) {
        (StoreError::Refused(_), Some(refused)) => refused.problem,
        (error, _) => error.into(),
    }
}

impl Gateway {
    fn new(locks: Locks, config: Config, on_loopback: bool) -> Self {
        if let Some(url) = &config.advertise {
            locks.service().advertise(url.as_str());
        }
        Self {
            waiting: Semaphore::new(config.max_waiting.min(Semaphore::MAX_PERMITS)),
            bodies: Bodies::new(config.max_bodies),
            connections: Connections::new(config.max_connections),
            witness: Arc::new(Witness::new(locks.store())),
            own_names: OwnNames::new(on_loopback, config.advertise.as_ref()),
            locks,
            config,
            anonymous: Client::anonymous(),
            draining: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// Reads from the store, for as long as a reader may wait.
    async fn read<T>(&self, reading: impl Future<Output = Result<T, StoreError>>) -> Result<T, Problem> {
        match tokio::time::timeout(self.config.read_timeout, reading).await {
            Ok(read) => Ok(read?),
            Err(_) => Err(Problem::store_slow(self.config.read_timeout)),
        }
    }

    /// Writes, also if the client goes away meanwhile; the `room` of what is written is taken until then. Also says whether it had happened before, under the same key;
    /// only then is anything answered but a problem if its token was `refused`.
    async fn write(
        &self,
        client: &Client,
        write: Write,
        once: Option<Once>,
        refused: Option<Refused>,
        room: Option<Room>,
    ) -> Result<(Written, bool), Problem> {
        let refused = match refused {
            Some(refused) if once.is_none() => return Err(self.told(client, refused)),
            refused => refused,
        };
        let (store, witness) = (self.locks.store().clone(), self.witness.clone());
        let client = client.clone();
        let told = witness.about(&write);
        // Apart from each other, so that what usually happens is a small future.
        let Some(once) = once else {
            let write = async move {
                let ended = store.write(write).await.map(|written| (written, false));
                witness.wrote(&client, told, &ended);
                drop(room);
                ended
            };
            return Ok(self.to_its_end(write).await??);
        };
        // A key in flight elsewhere must not hold up a batch, so it has a transaction of its own.
        let write = async move {
            let done = store.transact(&Transaction::from(write), Some(&once)).await;
            let replayed = done.as_ref().is_ok_and(|done| done.replayed);
            let ended = the_only_one(done).map(|written| (written, replayed));
            witness.wrote(&client, told, &ended);
            drop(room);
            ended
        };
        let written: Result<_, StoreError> = self.to_its_end(write).await?;
        written.map_err(|error| because(error, refused))
    }

    /// Does several writes or none, also if the client goes away meanwhile. If one of its tokens was `refused`, only
    /// what had happened before, under the same key, is answered.
    async fn transact(
        &self,
        client: &Client,
        transaction: Arc<Transaction>,
        once: Option<Once>,
        refused: Option<Refused>,
        room: Room,
    ) -> Result<Done, Problem> {
        let refused = match refused {
            Some(refused) if once.is_none() => return Err(self.told(client, refused)),
            refused => refused,
        };
        let (store, witness) = (self.locks.store().clone(), self.witness.clone());
        let client = client.clone();
        let transact = async move {
            let ended = store.transact(&transaction, once.as_ref()).await;
            witness.transacted(&client, &transaction, &ended);
            drop(room);
            ended
        };
        let done = self.to_its_end(transact).await?;
        done.map_err(|error| because(error, refused))
    }

    /// Does the work whether or not the client waits for it, and tells it so after a while.
    async fn to_its_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Problem> {
        let limit = self.config.write_timeout;
        match tokio::time::timeout(limit, self.tasks.spawn(work.in_current_span())).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(failed)) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Problem::write_slow(limit)),
            },
            Err(_) => Err(Problem::write_slow(limit)),
        }
    }
}
