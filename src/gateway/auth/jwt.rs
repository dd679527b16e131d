//! JWTs: who somebody trusted says that a client is.
//!
//! The algorithm is the one that was configured, whatever a token's header says, so a token cannot choose one in which
//! a public key is a secret. Only then is the signature looked at, and only then what the token says.

use std::{
    path::PathBuf,
    time::{Duration, UNIX_EPOCH},
};

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    errors::{Error, ErrorKind},
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{AuthError, client::Client, clients::Clients, remembered::Believed, rights::Rights};

/// The fewest bytes of a secret: those of the hash (RFC 7518, 3.2).
const SHORTEST_SECRET: usize = 32;
/// The most bytes of a token.
const LONGEST: usize = 16 * 1024;

/// How JWTs are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256: one secret that signs and verifies.
    Hs256,
    /// RSA, PKCS #1 1.5, with SHA-256.
    Rs256,
    /// ECDSA over P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl JwtAlgorithm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Hs256, Self::Rs256, Self::Es256, Self::EdDsa];

    /// As a JWT's header has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    fn algorithm(self) -> Algorithm {
        match self {
            Self::Hs256 => Algorithm::HS256,
            Self::Rs256 => Algorithm::RS256,
            Self::Es256 => Algorithm::ES256,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }

    fn key(self, bytes: &[u8]) -> Result<DecodingKey, String> {
        let is_pem = bytes.trim_ascii_start().starts_with(b"-----BEGIN");
        let public = |key: Result<DecodingKey, Error>| {
            key.map_err(|_| format!("is no public key for {}, in PEM", self.as_str()))
        };
        match self {
            Self::Hs256 if is_pem => {
                Err("is a key in PEM, and no secret: whoever knew the public one could sign".into())
            }
            Self::Hs256 => {
                let secret = bytes.trim_ascii_end();
                if secret.len() < SHORTEST_SECRET {
                    return Err(format!("is a secret of less than {SHORTEST_SECRET} bytes"));
                }
                Ok(DecodingKey::from_secret(secret))
            }
            Self::Rs256 => public(DecodingKey::from_rsa_pem(bytes)),
            Self::Es256 => public(DecodingKey::from_ec_pem(bytes)),
            Self::EdDsa => public(DecodingKey::from_ed_pem(bytes)),
        }
    }
}

/// Which JWTs are believed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Jwt {
    /// The only algorithm.
    pub algorithm: JwtAlgorithm,
    /// Files with a public key each, in PEM, or with a secret for [`JwtAlgorithm::Hs256`]. A token is signed with any of
    /// them, so that a new key can be added before an old one goes.
    pub keys: Vec<PathBuf>,
    /// A token is for one of these. Where there is none, a token is for nobody in particular.
    pub audiences: Vec<String>,
    /// A token is from one of these, or, where there is none, from whoever has a key.
    pub issuers: Vec<String>,
    /// The claim that has the rights. Defaults to `fencegate`.
    pub rights_claim: String,
    /// How far the clock of whoever signs may be from this machine's. Defaults to 30 s.
    pub leeway: Duration,
}

impl Jwt {
    /// JWTs that are signed so, with one of the keys.
    pub fn new(algorithm: JwtAlgorithm, keys: Vec<PathBuf>) -> Self {
        Self {
            algorithm,
            keys,
            audiences: Vec::new(),
            issuers: Vec::new(),
            rights_claim: "fencegate".into(),
            leeway: Duration::from_secs(30),
        }
    }
}

/// What is needed to look at a token.
pub(super) struct Verifier {
    keys: Vec<DecodingKey>,
    validation: Validation,
    rights_claim: String,
}

/// What a token says.
type Claims = Map<String, Value>;

/// Why a token is not believed: what its client may know, and what only the log says.
pub(super) struct NotBelieved {
    pub(super) outside: &'static str,
    pub(super) inside: String,
}

impl Verifier {
    pub(super) fn load(jwt: &Jwt) -> Result<Self, AuthError> {
        // Others in this process may have chosen already.
        let _ = jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER.install_default();
        if jwt.keys.is_empty() {
            return Err(AuthError::NoJwtKey);
        }
        let mut keys = Vec::new();
        for path in &jwt.keys {
            let bytes = std::fs::read(path).map_err(|source| AuthError::read(path, source))?;
            let key = jwt.algorithm.key(&bytes);
            keys.push(key.map_err(|detail| AuthError::wrong(path, detail))?);
        }
        let mut validation = Validation::new(jwt.algorithm.algorithm());
        let mut required = vec!["exp", "sub"];
        validation.validate_nbf = true;
        validation.leeway = jwt.leeway.as_secs();
        if !jwt.audiences.is_empty() {
            validation.set_audience(&jwt.audiences);
            required.push("aud");
        }
        if !jwt.issuers.is_empty() {
            validation.set_issuer(&jwt.issuers);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        Ok(Self {
            keys,
            validation,
            rights_claim: jwt.rights_claim.clone(),
        })
    }

    pub(super) fn verify(&self, token: &str, clients: &Clients) -> Result<Believed, NotBelieved> {
        if token.len() > LONGEST {
            return Err(NotBelieved::of("the JWT is too long", "too long"));
        }
        let claims = self.claims(token)?;
        let client = self.client(&claims, clients)?;
        let expires = claims.get("exp").and_then(Value::as_f64).unwrap_or_default();
        let leeway = Duration::from_secs(self.validation.leeway);
        let until = Duration::try_from_secs_f64(expires).ok();
        let until = until.and_then(|until| UNIX_EPOCH.checked_add(until)?.checked_add(leeway));
        match until {
            Some(_) => Ok(Believed { client, until }),
            None => Err(NotBelieved::of("the JWT's exp is no time", "exp")),
        }
    }

    fn claims(&self, token: &str) -> Result<Claims, NotBelieved> {
        let mut error = Error::from(ErrorKind::InvalidSignature);
        for key in &self.keys {
            match jsonwebtoken::decode::<Claims>(token, key, &self.validation) {
                // What is critical to understand is not understood.
                Ok(data) if data.header.crit.is_some() => {
                    return Err(NotBelieved::of("the JWT's header has crit", "crit"));
                }
                Ok(data) => return Ok(data.claims),
                Err(found) if matches!(found.kind(), ErrorKind::InvalidSignature) => {}
                Err(found) => {
                    // One that is signed with this key, and is not believed for another reason.
                    error = found;
                    break;
                }
            }
        }
        Err(NotBelieved::from(&error))
    }

    /// A client of the file where the subject is listed there, or else one that the token itself describes.
    fn client(&self, claims: &Claims, clients: &Clients) -> Result<Client, NotBelieved> {
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
        if let Some(client) = clients.of_subject(subject) {
            return Ok(client.clone());
        }
        if clients.has(subject) {
            return Err(NotBelieved::of(
                "the JWT's sub is a client that has other credentials",
                "the clients file has a client of this name, which does not list it under subjects",
            ));
        }
        let Some(rights) = claims.get(&self.rights_claim) else {
            return Err(NotBelieved::of(
                "nothing says what the JWT's client may do",
                "no rights claim, and the clients file does not list the subject",
            ));
        };
        let rights: Rights = Rights::deserialize(rights).map_err(|error| NotBelieved {
            outside: "the JWT's rights cannot be read",
            inside: error.to_string(),
        })?;
        Client::new(subject, rights)
            .map_err(|_| NotBelieved::of("the JWT's sub cannot be a client's name", "sub"))
    }
}

impl NotBelieved {
    fn of(outside: &'static str, inside: &str) -> Self {
        Self {
            outside,
            inside: inside.to_owned(),
        }
    }
}

impl From<&Error> for NotBelieved {
    fn from(error: &Error) -> Self {
        let outside = match error.kind() {
            ErrorKind::ExpiredSignature => "the JWT has expired",
            ErrorKind::ImmatureSignature => "the JWT is not valid yet",
            ErrorKind::InvalidAudience => "the JWT is for somebody else",
            ErrorKind::InvalidIssuer => "the JWT is from somebody else",
            ErrorKind::MissingRequiredClaim(_) => "the JWT lacks a claim that it needs",
            ErrorKind::InvalidAlgorithm => "the JWT is signed in another way",
            _ => "this is neither an API key of a client, which begins with fgk_, nor a JWT that is believed",
        };
        let inside = match error.kind() {
            // These would show parts of what was sent.
            ErrorKind::Json(_) | ErrorKind::Base64(_) | ErrorKind::Utf8(_) => "it cannot be decoded".into(),
            _ => error.to_string(),
        };
        Self { outside, inside }
    }
}
