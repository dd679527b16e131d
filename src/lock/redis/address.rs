//! What the URLs of Redis servers say.
//!
//! The path is the number of the database, as for every other client of Redis, so the prefix of our keys is in
//! the query: `redis://user:password@host:6379/0?prefix=fencegate/locks`.

use redis::{ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, TlsMode};
use url::form_urlencoded;

use crate::lock::LOCK_PREFIX;

const SENTINEL_PORT: &str = ":26379";

/// The servers of a URL, and where our keys are in them.
pub(in crate::lock) struct Address {
    pub(in crate::lock) servers: Servers,
    pub(in crate::lock) prefix: String,
}

/// How a URL names servers.
pub(in crate::lock) enum Servers {
    /// `redis://host`: one.
    One(ConnectionInfo),
    /// `redis+sentinel://host,host/master`: the one that the sentinels call the master.
    Sentinel {
        sentinels: Vec<ConnectionInfo>,
        master: String,
        tls: Option<TlsMode>,
        credentials: RedisConnectionInfo,
    },
    /// `redlock://host,host,host`: each on its own.
    Many(Vec<ConnectionInfo>),
}

/// A URL in its parts. Host, user and password are left to the client library, which decodes them.
struct Parts<'a> {
    scheme: &'a str,
    userinfo: &'a str,
    hosts: Vec<&'a str>,
    path: Vec<&'a str>,
    query: Vec<(String, String)>,
}

impl Address {
    /// Reads any of the URLs.
    ///
    /// # Errors
    /// [`AddressError`], which never shows the URL.
    pub(in crate::lock) fn parse(url: &str) -> Result<Self, AddressError> {
        let parts = Parts::of(url)?;
        let prefix = parts.parameter("prefix");
        let prefix = prefix.unwrap_or(LOCK_PREFIX).trim_matches('/').to_owned();
        // Two slashes set our own keys apart from the locks.
        if prefix.is_empty() || prefix.contains("//") || prefix.chars().any(char::is_control) {
            return Err(AddressError::Prefix);
        }
        let known = |name: &str| name == "prefix" || (parts.is_sentinel() && name.starts_with("sentinel_"));
        if let Some((name, _)) = parts.query.iter().find(|(name, _)| !known(name)) {
            // A password with a question mark that is not encoded ends up here.
            return Err(match url.rsplit_once('@') {
                Some((before, _)) if before.contains('?') => AddressError::Host,
                _ => AddressError::Parameter(name.clone()),
            });
        }
        let servers = match parts.scheme {
            "redis" | "rediss" => Servers::One(parts.one()?),
            "redis+sentinel" | "rediss+sentinel" => parts.sentinel()?,
            "redlock" | "redlocks" => Servers::Many(parts.many()?),
            _ => return Err(AddressError::Scheme),
        };
        Ok(Self { servers, prefix })
    }
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Result<Self, AddressError> {
        let (scheme, rest) = url.split_once("://").ok_or(AddressError::Scheme)?;
        if rest.contains('#') {
            return Err(AddressError::Fragment);
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (userinfo, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        Ok(Self {
            scheme,
            userinfo,
            hosts: hosts.split(',').collect(),
            path: path.split('/').filter(|part| !part.is_empty()).collect(),
            query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        })
    }

    fn is_sentinel(&self) -> bool {
        self.scheme.ends_with("+sentinel")
    }

    fn is_tls(&self) -> bool {
        self.scheme.starts_with("rediss") || self.scheme == "redlocks"
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        let (_, value) = self.query.iter().find(|(key, _)| key == name)?;
        Some(value)
    }

    fn one(&self) -> Result<ConnectionInfo, AddressError> {
        match (self.hosts.as_slice(), self.path.as_slice()) {
            ([host], []) => self.server(self.userinfo, host, "0"),
            ([host], [database]) => self.server(self.userinfo, host, database),
            ([_], _) => Err(AddressError::Database),
            _ => Err(AddressError::Several),
        }
    }

    fn many(&self) -> Result<Vec<ConnectionInfo>, AddressError> {
        let database = match self.path.as_slice() {
            [] => "0",
            [database] => database,
            _ => return Err(AddressError::Database),
        };
        if self.hosts.len() < 3 || self.hosts.len().is_multiple_of(2) {
            return Err(AddressError::Instances(self.hosts.len()));
        }
        let mut seen = std::collections::HashSet::new();
        let server = |host| self.server(self.userinfo, host, database);
        let servers = self
            .hosts
            .iter()
            .map(|host| server(host))
            .collect::<Result<Vec<_>, _>>()?;
        match servers
            .iter()
            .find(|server| !seen.insert(server.addr().to_string()))
        {
            Some(twice) => Err(AddressError::Twice(twice.addr().to_string())),
            None => Ok(servers),
        }
    }

    fn sentinel(&self) -> Result<Servers, AddressError> {
        let (master, database) = match self.path.as_slice() {
            [master] => (*master, "0"),
            [master, database] => (*master, *database),
            _ => return Err(AddressError::Master),
        };
        let sentinels = self.hosts.iter().map(|host| {
            let port = if host.rsplit(']').next().is_some_and(|end| end.contains(':')) {
                ""
            } else {
                SENTINEL_PORT
            };
            let sentinel = self.server("", &format!("{host}{port}"), "0")?;
            let mut login = RedisConnectionInfo::default();
            if let Some(user) = self.parameter("sentinel_user") {
                login = login.set_username(user);
            }
            if let Some(password) = self.parameter("sentinel_password") {
                login = login.set_password(password);
            }
            Ok(sentinel.set_redis_settings(login))
        });
        // The credentials are the master's, whose host is not known yet.
        let master_like = self.server(self.userinfo, "localhost", database)?;
        Ok(Servers::Sentinel {
            sentinels: sentinels.collect::<Result<_, _>>()?,
            master: master.to_owned(),
            tls: self.is_tls().then_some(TlsMode::Secure),
            credentials: master_like.redis_settings().clone(),
        })
    }

    fn server(&self, userinfo: &str, host: &str, database: &str) -> Result<ConnectionInfo, AddressError> {
        if database.is_empty() || !database.bytes().all(|b| b.is_ascii_digit()) {
            return Err(AddressError::Database);
        }
        if host.is_empty() || host.contains('@') {
            return Err(AddressError::Host);
        }
        let scheme = if self.is_tls() { "rediss" } else { "redis" };
        let at = if userinfo.is_empty() { "" } else { "@" };
        let url = format!("{scheme}://{userinfo}{at}{host}/{database}");
        let server = url.into_connection_info().map_err(|_| AddressError::Host)?;
        // Without it, each command may wait for the acknowledgement of the one before.
        let tcp = server.tcp_settings().clone().set_nodelay(true);
        Ok(server.set_tcp_settings(tcp))
    }
}

/// Why a URL does not name Redis servers. The message never shows the URL, which may have a password in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// None of the known schemes.
    #[error(
        "expected redis://host:6379, rediss://host:6379, redis+sentinel://host:26379,host:26379/master-name or \
         redlock://host:6379,host:6379,host:6379"
    )]
    Scheme,
    /// A host that cannot be, or user and password that are not percent-encoded.
    #[error("a host is missing or cannot be read: give host:6379, and percent-encode user and password")]
    Host,
    /// A path that is not the number of a database.
    #[error(
        "the path of a Redis URL is the number of the database; the prefix of the keys goes into ?prefix=..."
    )]
    Database,
    /// Several hosts for one server.
    #[error(
        "redis:// takes one host: several are redlock://host,host,host (each on its own) or \
         redis+sentinel://host,host/master-name (sentinels)"
    )]
    Several,
    /// Sentinels, and nothing to ask them for.
    #[error(
        "after the sentinels comes the name of the master: redis+sentinel://host:26379,host:26379/master-name"
    )]
    Master,
    /// A number of instances that has no good majority.
    #[error(
        "redlock takes an odd number of instances, three or more, not {0}: redlock://host:6379,host:6379,host:6379"
    )]
    Instances(usize),
    /// One instance with two votes.
    #[error("redlock has {0} twice: each instance has one vote")]
    Twice(String),
    /// A prefix that cannot be.
    #[error("the prefix has at least one byte, no control characters, and no empty part between two slashes")]
    Prefix,
    /// A parameter that nobody reads.
    #[error(
        "unknown parameter {0:?}: only ?prefix=... is known, and sentinel_user and sentinel_password for sentinels"
    )]
    Parameter(String),
    /// Something after `#`.
    #[error("nothing after # is known: percent-encode it if it belongs to the password")]
    Fragment,
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
