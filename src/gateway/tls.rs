//! TLS: the gateway's certificate, and the authority that its clients' certificates are from.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum_server::tls_rustls::RustlsConfig;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

/// The files, all in PEM.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TlsFiles {
    /// The gateway's certificate, and those between it and its authority's.
    pub certificate: PathBuf,
    /// Its private key: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
    /// The certificates of the authorities that clients' certificates are from. Without it, no client is asked for one.
    pub client_ca: Option<PathBuf>,
    /// Whether a client without a certificate is refused in the handshake. Defaults to false: it may have an API key or
    /// a JWT.
    pub require_client_certificate: bool,
}

impl TlsFiles {
    /// A certificate with its key.
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            certificate: certificate.into(),
            key: key.into(),
            client_ca: None,
            require_client_certificate: false,
        }
    }
}

/// TLS as it was read from files. Clones share it.
#[derive(Clone)]
pub struct Tls {
    files: Arc<TlsFiles>,
    config: RustlsConfig,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`], which names the file.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let config = RustlsConfig::from_config(Arc::new(read(&files)?));
        let files = Arc::new(files);
        Ok(Self { files, config })
    }

    /// Reads the files anew. They count for connections that are made from then on.
    ///
    /// # Errors
    /// As [`Tls::load`]; what was read before goes on counting then.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.config.reload_from_config(Arc::new(read(&self.files)?));
        Ok(())
    }

    /// Whether clients are asked for a certificate.
    pub fn asks_for_certificates(&self) -> bool {
        self.files.client_ca.is_some()
    }

    pub(super) fn config(&self) -> RustlsConfig {
        self.config.clone()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.files).finish()
    }
}

fn read(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&bytes(&files.key)?)
        .map_err(|_| TlsError::wrong(&files.key, "it has no private key in PEM that is not encrypted"))?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::wrong(&files.certificate, error))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots
                    .add(certificate)
                    .map_err(|error| TlsError::wrong(path, error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match files.require_client_certificate {
                true => verifier,
                false => verifier.allow_unauthenticated(),
            };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| TlsError::wrong(path, error))?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        let key = files.key.display();
        TlsError::wrong(
            &files.certificate,
            format!("it does not go with the key {key}: {error}"),
        )
    })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = bytes(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(TlsError::wrong(
            path,
            "it has no certificate in PEM, or one that cannot be read",
        )),
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
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
}

impl TlsError {
    fn wrong(path: &Path, detail: impl fmt::Display) -> Self {
        Self::Wrong {
            path: path.to_owned(),
            detail: detail.to_string(),
        }
    }
}
