//! Every limit and every timeout of the gateway, in one place.

use std::{net::SocketAddr, time::Duration};

use super::{Advertised, ServeError, auth::Authentication, tls::Tls};

/// What a gateway allows, and how long it waits for whom.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Who the clients are, and what they may do. Without it, whoever reaches the gateway may do everything. Defaults
    /// to none.
    pub authentication: Option<Authentication>,
    /// Where clients reach this very gateway. Leases that only the gateway which granted them can renew, as those from
    /// ZooKeeper, are renewed there: others redirect to it. Defaults to none.
    pub advertise: Option<Advertised>,
    /// TLS, which keeps credentials, tokens and records from whoever is on the way. Defaults to none.
    pub tls: Option<Tls>,
    /// Whether to listen beyond loopback without TLS, as behind a proxy that ends it. Defaults to false.
    pub allow_plaintext: bool,
    /// Whether to listen beyond loopback although whoever reaches the address may lease, write and read everything.
    /// Defaults to false.
    pub allow_unauthenticated: bool,

    /// Whether `/metrics` is for everybody, also where clients have to show who they are. Defaults to false: it is for
    /// every client then, whatever its rights.
    pub open_metrics: bool,

    /// Whether leases may be released by force, by whoever reaches the gateway, where there is no authentication: with
    /// it, clients need the right `admin`. Defaults to false.
    pub allow_force_release: bool,

    /// The most bytes of a record's value. Defaults to 1 MiB.
    pub max_value: usize,
    /// The most bytes of a transaction's body. Defaults to 4 MiB.
    pub max_transaction: usize,
    /// The most bytes of any other JSON body. Defaults to 16 KiB.
    pub max_json: usize,
    /// The most bytes that the bodies of all requests under way have together, beyond the first 16 KiB of each.
    /// Defaults to 256 MiB.
    pub max_bodies: usize,
    /// The most connections of clients, as far as the limit of open files allows them. Of those who come beyond, a few
    /// are told so. Defaults to 20,000.
    pub max_connections: usize,
    /// The most bytes of a request's head over HTTP/1 (8 KiB at least), and of its headers over HTTP/2.
    /// Defaults to 64 KiB.
    pub max_head: u32,
    /// The most headers of an HTTP/1 request. There is room for as many with each, and none beyond 10,000. Defaults to 100.
    pub max_headers: usize,

    /// How long a new connection may take to send its first request's head. Defaults to 10 s.
    pub first_head_timeout: Duration,
    /// How long a connection may take to send the head of a further request, which is also how long it may be
    /// idle. Defaults to 60 s.
    pub head_timeout: Duration,
    /// How long a request's body may take to arrive. Defaults to 30 s.
    pub body_timeout: Duration,
    /// How long a client may take to take any more of its answer, before its connection is closed. Defaults to 30 s.
    pub stall_timeout: Duration,

    /// How long the answer to a write with an `Idempotency-Key` is kept. Defaults to 24 h.
    pub idempotency_keep: Duration,

    /// The longest wait that may be asked for with a lease. Defaults to 5 min.
    pub max_wait: Duration,
    /// The most lease requests that wait at the same time. Defaults to 10,000.
    pub max_waiting: usize,
    /// The most clients that listen to `/v1/events` at the same time. Defaults to 1,000.
    pub max_listeners: usize,
    /// The most log lines a second of requests that went well. Of those beyond, one in a hundred is logged, and
    /// says how many were not; refusals and errors always are. Defaults to 100.
    pub log_lines: u32,
    /// How long a lease request may take beyond the wait that it asks for. Defaults to 10 s.
    pub lease_timeout: Duration,
    /// How long the store may take to answer a reading request. Defaults to 10 s.
    pub read_timeout: Duration,
    /// How long a client waits for its write. The write itself is never cut short: its outcome is reported as
    /// unknown. Defaults to 30 s.
    pub write_timeout: Duration,
    /// How long `/readyz` waits for the store and for the lock service. Defaults to 2 s.
    pub probe_timeout: Duration,

    /// How long to go on accepting requests once told to stop, while `/readyz` says so, for load balancers to
    /// notice. Lease requests are refused meanwhile. Defaults to zero.
    pub drain_notice: Duration,
    /// How long requests that are under way then have to finish. Defaults to 25 s.
    pub drain_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            authentication: None,
            advertise: None,
            tls: None,
            allow_plaintext: false,
            allow_unauthenticated: false,
            open_metrics: false,
            allow_force_release: false,
            max_value: 1024 * 1024,
            max_transaction: 4 * 1024 * 1024,
            max_json: 16 * 1024,
            max_bodies: 256 * 1024 * 1024,
            max_connections: 20_000,
            max_head: 64 * 1024,
            max_headers: 100,
            first_head_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(30),
            idempotency_keep: Duration::from_secs(24 * 3600),
            max_wait: Duration::from_secs(300),
            max_waiting: 10_000,
            max_listeners: 1_000,
            log_lines: 100,
            lease_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            probe_timeout: Duration::from_secs(2),
            drain_notice: Duration::ZERO,
            drain_timeout: Duration::from_secs(25),
        }
    }
}

impl Config {
    /// Whether clients can reach it where it says that it is.
    ///
    /// # Errors
    /// [`ServeError::Advertised`] if that is `http`, and this gateway speaks TLS.
    pub fn may_advertise(&self) -> Result<(), ServeError> {
        match &self.advertise {
            Some(url) if self.tls.is_some() && !url.is_https() => Err(ServeError::Advertised(url.clone())),
            _ => Ok(()),
        }
    }

    /// Whether the gateway may listen on this address.
    ///
    /// # Errors
    /// If other machines reach it: [`ServeError::Plaintext`] without TLS, unless [`Config::allow_plaintext`], and
    /// [`ServeError::Unauthenticated`] without authentication, unless [`Config::allow_unauthenticated`].
    pub fn may_listen(&self, address: SocketAddr) -> Result<(), ServeError> {
        if address.ip().is_loopback() {
            Ok(())
        } else if self.authentication.is_none() && !self.allow_unauthenticated {
            Err(ServeError::Unauthenticated(address))
        } else if self.tls.is_none() && !self.allow_plaintext {
            Err(ServeError::Plaintext(address))
        } else {
            Ok(())
        }
    }
}
