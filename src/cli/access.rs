//! Who may reach the gateway, and how: authentication and TLS.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use fencegate::gateway::{
    Config,
    auth::{Authentication, Credentials, Jwt, JwtAlgorithm},
    tls::{Tls, TlsFiles},
};

use super::limits::read;

#[derive(Args)]
#[command(next_help_heading = "Clients and TLS")]
pub(super) struct Access {
    /// The clients file: who the clients are, how they show it, and what they may do
    #[arg(long, value_name = "FILE", env = "FENCEGATE_CLIENTS")]
    clients: Option<PathBuf>,
    /// How JWTs are signed, and no other way: HS256, RS256, ES256 or EdDSA
    #[arg(long, value_name = "ALGORITHM", env = "FENCEGATE_JWT_ALGORITHM", value_parser = algorithm)]
    jwt_algorithm: Option<JwtAlgorithm>,
    /// The files with the public keys of whoever signs JWTs, in PEM, or with its secret for HS256
    #[arg(
        long,
        value_name = "FILE,...",
        env = "FENCEGATE_JWT_KEYS",
        value_delimiter = ','
    )]
    jwt_keys: Vec<PathBuf>,
    /// Whom a JWT is for: one of these
    #[arg(
        long,
        value_name = "NAME,...",
        env = "FENCEGATE_JWT_AUDIENCES",
        value_delimiter = ','
    )]
    jwt_audiences: Vec<String>,
    /// Whom a JWT is from: one of these
    #[arg(
        long,
        value_name = "NAME,...",
        env = "FENCEGATE_JWT_ISSUERS",
        value_delimiter = ','
    )]
    jwt_issuers: Vec<String>,
    /// The claim of a JWT that has its client's rights
    #[arg(
        long,
        value_name = "NAME",
        env = "FENCEGATE_JWT_RIGHTS_CLAIM",
        default_value = "fencegate"
    )]
    jwt_rights_claim: String,
    /// How far the clock of whoever signs JWTs may be from this machine's
    #[arg(long, value_name = "DURATION", env = "FENCEGATE_JWT_LEEWAY", default_value = "30s",
          value_parser = read::duration::<Duration>)]
    jwt_leeway: Duration,
    /// The gateway's certificate, and those between it and its authority's, in PEM
    #[arg(long, value_name = "FILE", env = "FENCEGATE_TLS_CERTIFICATE")]
    tls_certificate: Option<PathBuf>,
    /// The private key of the gateway's certificate, in PEM
    #[arg(long, value_name = "FILE", env = "FENCEGATE_TLS_KEY")]
    tls_key: Option<PathBuf>,
    /// The certificates of the authorities that clients' certificates are from, in PEM
    #[arg(long, value_name = "FILE", env = "FENCEGATE_TLS_CLIENT_CA")]
    tls_client_ca: Option<PathBuf>,
    /// Refuse whoever has no client certificate in the handshake, also with an API key or a JWT
    #[arg(long, env = "FENCEGATE_TLS_REQUIRE_CLIENT_CERTIFICATE")]
    tls_require_client_certificate: bool,
    /// Listen beyond loopback without TLS: for a gateway behind a proxy that ends TLS
    #[arg(long, env = "FENCEGATE_ALLOW_PLAINTEXT")]
    allow_plaintext: bool,
    /// Listen beyond loopback although whoever reaches the address may then do everything
    #[arg(long, env = "FENCEGATE_ALLOW_UNAUTHENTICATED")]
    allow_unauthenticated: bool,
    /// Let everybody read /metrics, and not only clients that have shown who they are
    #[arg(long, env = "FENCEGATE_OPEN_METRICS")]
    open_metrics: bool,
    /// Let clients that need not show who they are end others' leases, with DELETE .../lease?force=true
    #[arg(long, env = "FENCEGATE_ALLOW_FORCE_RELEASE")]
    allow_force_release: bool,
}

impl Access {
    /// Reads the files.
    pub(super) fn apply(&self, config: &mut Config) -> anyhow::Result<()> {
        config.allow_plaintext = self.allow_plaintext;
        config.allow_unauthenticated = self.allow_unauthenticated;
        config.allow_force_release = self.allow_force_release;
        config.open_metrics = self.open_metrics;
        let mut credentials = Credentials::default();
        credentials.clients.clone_from(&self.clients);
        credentials.jwt = match (self.jwt_algorithm, &self.jwt_keys[..]) {
            (None, []) => None,
            (None, _) => anyhow::bail!("jwt_keys is given and jwt_algorithm is not: say how JWTs are signed"),
            (Some(algorithm), keys) => {
                let mut jwt = Jwt::new(algorithm, keys.to_vec());
                jwt.audiences.clone_from(&self.jwt_audiences);
                jwt.issuers.clone_from(&self.jwt_issuers);
                jwt.rights_claim.clone_from(&self.jwt_rights_claim);
                jwt.leeway = self.jwt_leeway;
                Some(jwt)
            }
        };
        if credentials.clients.is_some() || credentials.jwt.is_some() {
            config.authentication = Some(Authentication::load(credentials)?);
        }
        config.tls = match (&self.tls_certificate, &self.tls_key) {
            (Some(certificate), Some(key)) => {
                let mut files = TlsFiles::new(certificate, key);
                files.client_ca.clone_from(&self.tls_client_ca);
                files.require_client_certificate = self.tls_require_client_certificate;
                if files.require_client_certificate && files.client_ca.is_none() {
                    anyhow::bail!("tls_require_client_certificate is given and tls_client_ca is not");
                }
                Some(Tls::load(files)?)
            }
            (None, None) if self.tls_client_ca.is_some() || self.tls_require_client_certificate => {
                anyhow::bail!(
                    "client certificates are asked for, and tls_certificate and tls_key are not given"
                )
            }
            (None, None) => None,
            _ => anyhow::bail!("tls_certificate and tls_key are given both or not at all"),
        };
        Ok(())
    }
}

fn algorithm(text: &str) -> Result<JwtAlgorithm, String> {
    let mut all = JwtAlgorithm::ALL.into_iter();
    let found = all.find(|algorithm| algorithm.as_str() == text);
    found.ok_or_else(|| {
        format!(
            "it is one of {}",
            JwtAlgorithm::ALL.map(JwtAlgorithm::as_str).join(", ")
        )
    })
}
