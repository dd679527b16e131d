//! Who a request is from, and what they may do.
//!
//! Every request is authenticated before anything else is looked at, and carries a `Client` from then on. What it
//! may do is asked where it is done: the extractors `ToLease`, `ToWrite` and `ToRead` give a handler the fence
//! that the path names only if the client has the right on it, and other handlers ask the `Client` itself. The
//! answer depends on names alone, so it never tells what there is.
//!
//! A client shows who it is with an API key or a JWT in `Authorization`, or with a TLS certificate. Whoever sends the
//! header is judged by it alone: what is wrong with it is never made up for by a certificate.

mod certificate;
mod client;
mod clients;
mod fence;
mod jwt;
mod key;
mod layer;
mod remembered;
mod rights;
mod standing;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
    time::{Duration, SystemTime},
};

use axum::http::{HeaderMap, HeaderValue, header};
use axum_server::tls::TlsInfo;
use tokio_util::sync::CancellationToken;

use super::Problem;
use clients::Clients;
use remembered::{Believed, Remembered};

pub(super) use client::Client;
pub use client::{NotAName, check_name};
pub(super) use fence::{ToLease, ToRead, ToWrite};
pub use jwt::{Jwt, JwtAlgorithm};
pub use key::{ApiKey, HashedKey};
pub(super) use layer::authenticate;
pub(super) use rights::{Fences, Right};
pub(super) use standing::Standing;

/// How long the names in a certificate are remembered.
const CERTIFICATE: Duration = Duration::from_secs(3600);

/// Where it says who the clients are.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Credentials {
    /// The clients file: API keys, names in certificates, subjects of JWTs, and rights.
    pub clients: Option<PathBuf>,
    /// Which JWTs are believed. None at all, if it is not set.
    pub jwt: Option<Jwt>,
}

/// Finds out who a request is from. Clones share what was read.
#[derive(Clone)]
pub struct Authentication(Arc<Shared>);

struct Shared {
    credentials: Credentials,
    loaded: RwLock<Arc<Loaded>>,
}

/// What was read, at one time.
struct Loaded {
    clients: Clients,
    jwt: Option<jwt::Verifier>,
    remembered: Remembered,
    /// Cancelled when others were read.
    replaced: CancellationToken,
}

impl Authentication {
    /// Reads the files.
    ///
    /// # Errors
    /// [`AuthError`], which says what is wrong with which file, and nothing of what is secret in it.
    pub fn load(credentials: Credentials) -> Result<Self, AuthError> {
        let loaded = Loaded::read(&credentials)?;
        Ok(Self(Arc::new(Shared {
            credentials,
            loaded: RwLock::new(Arc::new(loaded)),
        })))
    }

    /// Reads the files anew: from the next request on, they count. Whoever listens to events shows anew who it is.
    ///
    /// # Errors
    /// As [`Authentication::load`]; what was read before goes on counting then.
    pub fn reload(&self) -> Result<(), AuthError> {
        let loaded = Arc::new(Loaded::read(&self.0.credentials)?);
        let now = self.0.loaded.write();
        let before = std::mem::replace(&mut *now.unwrap_or_else(|poisoned| poisoned.into_inner()), loaded);
        before.replaced.cancel();
        Ok(())
    }

    /// Whether a TLS client certificate can be anybody's.
    pub fn knows_certificates(&self) -> bool {
        self.loaded().clients.has_certificates()
    }

    fn loaded(&self) -> Arc<Loaded> {
        let loaded = self.0.loaded.read();
        loaded.unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Who sends these headers, over a connection with this certificate.
    fn client(&self, headers: &HeaderMap, tls: Option<&TlsInfo>) -> Result<Shown, Problem> {
        let loaded = self.loaded();
        let mut given = headers.get_all(header::AUTHORIZATION).iter();
        let believed = match (given.next(), given.next()) {
            (Some(value), None) => loaded.of_header(value),
            (Some(_), Some(_)) => Err(Problem::unauthenticated(
                "there is one Authorization header, and no more",
            )),
            (None, _) => match tls.and_then(|tls| tls.peer_certificates.first()) {
                Some(der) => loaded.of_certificate(der),
                None => Err(Problem::no_credentials()),
            },
        }?;
        Ok(Shown { believed, loaded })
    }
}

/// A client that has shown who it is.
struct Shown {
    believed: Believed,
    loaded: Arc<Loaded>,
}

impl Shown {
    /// How long that counts.
    fn standing(&self) -> Standing {
        Standing {
            until: self.believed.until,
            replaced: self.loaded.replaced.clone(),
        }
    }
}

impl Loaded {
    fn read(credentials: &Credentials) -> Result<Self, AuthError> {
        if credentials.clients.is_none() && credentials.jwt.is_none() {
            return Err(AuthError::Nothing);
        }
        let clients = match &credentials.clients {
            None => Clients::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|source| AuthError::read(path, source))?;
                Clients::parse(&text).map_err(|detail| AuthError::wrong(path, detail))?
            }
        };
        Ok(Self {
            clients,
            jwt: credentials.jwt.as_ref().map(jwt::Verifier::load).transpose()?,
            remembered: Remembered::default(),
            replaced: CancellationToken::new(),
        })
    }

    fn of_header(&self, value: &HeaderValue) -> Result<Believed, Problem> {
        let Some(credential) = bearer(value) else {
            return Err(Problem::unauthenticated(
                "Authorization is Bearer, a space, and an API key or a JWT",
            ));
        };
        if credential.starts_with(key::PREFIX) {
            let client = self.clients.of_key(credential).cloned();
            let client = client.ok_or_else(|| Problem::unauthenticated("the API key is nobody's"))?;
            return Ok(Believed { client, until: None });
        }
        let Some(verifier) = &self.jwt else {
            return Err(Problem::unauthenticated(
                "this is no API key, and this gateway takes no JWTs",
            ));
        };
        if let Some(believed) = self.remembered.look(credential.as_bytes()) {
            return Ok(believed);
        }
        match verifier.verify(credential, &self.clients) {
            Ok(believed) => Ok(self.remember(credential.as_bytes(), believed)),
            Err(error) => Err(Problem::unauthenticated(error.outside).because(error.inside)),
        }
    }

    fn of_certificate(&self, der: &[u8]) -> Result<Believed, Problem> {
        if let Some(believed) = self.remembered.look(der) {
            return Ok(believed);
        }
        let names = certificate::names(der);
        let mut found: Vec<_> = names
            .iter()
            .filter_map(|name| self.clients.of_certificate(name))
            .collect();
        found.dedup_by_key(|client| client.name());
        match found[..] {
            [client] => {
                let until = Some(SystemTime::now() + CERTIFICATE);
                let client = client.clone();
                Ok(self.remember(der, Believed { client, until }))
            }
            [] => Err(Problem::unauthenticated("the certificate is nobody's")
                .because(format!("its names are {names:?}"))),
            _ => Err(
                Problem::unauthenticated("the certificate is that of more than one client")
                    .because(format!("its names are {names:?}")),
            ),
        }
    }

    fn remember(&self, credential: &[u8], believed: Believed) -> Believed {
        self.remembered.add(credential, believed.clone());
        believed
    }
}

/// The credential behind `Bearer`, in any case, and one space or more (RFC 6750, 7235).
fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, credential) = value.to_str().ok()?.split_once(' ')?;
    let credential = credential.trim_matches(' ');
    let sane = !credential.is_empty()
        && credential
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b',');
    (scheme.eq_ignore_ascii_case("bearer") && sane).then_some(credential)
}

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Authentication")
            .field(&self.0.credentials)
            .finish()
    }
}

/// Why clients cannot be told from each other.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file has something else in it.
    #[error("{}: {detail}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// JWTs without a key.
    #[error("JWTs are verified with a key, and none is named")]
    NoJwtKey,
    /// Neither a clients file nor JWTs.
    #[error("nothing says who the clients are: name a clients file, or a key for JWTs")]
    Nothing,
}

impl AuthError {
    fn read(path: &Path, source: io::Error) -> Self {
        Self::Read {
            path: path.to_owned(),
            source,
        }
    }

    fn wrong(path: &Path, detail: String) -> Self {
        Self::Wrong {
            path: path.to_owned(),
            detail,
        }
    }
}
