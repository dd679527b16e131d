//! How a client reaches the gateway, and as whom.

use std::{sync::Arc, time::Duration};

use reqwest::{Certificate, Identity, header, redirect::Policy};

use super::{Client, ClientError, Inner};

/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(5);

/// What a client is made of.
#[derive(Clone)]
pub struct Builder {
    url: String,
    bearer: Option<String>,
    authorities: Vec<Vec<u8>>,
    identity: Option<Vec<u8>>,
    patience: Duration,
}

/// Without what is secret.
impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

impl Builder {
    pub(super) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            bearer: None,
            authorities: Vec::new(),
            identity: None,
            patience: Duration::from_secs(10),
        }
    }

    /// An API key, or a JSON web token: sent as `Authorization: Bearer` with every call.
    pub fn bearer(mut self, key: impl Into<String>) -> Self {
        self.bearer = Some(key.into());
        self
    }

    /// Certificates in PEM that vouch for the gateway's. Once there are some, those of the system do not count.
    pub fn authorities(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.authorities.push(pem.into());
        self
    }

    /// A certificate of the client's own and its private key, both in PEM, one behind the other.
    pub fn identity(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.identity = Some(pem.into());
        self
    }

    /// For how long a call that may be repeated is repeated, from its first failure on. Defaults to 10 s; zero
    /// repeats nothing.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The client. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ClientError::Url`] if the URL cannot be used, [`ClientError::Credentials`] if a key or a certificate
    /// cannot.
    pub fn build(self) -> Result<Client, ClientError> {
        let url = parse(&self.url)?;
        // Fails if the program has chosen a provider already, which is then used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // A token must not follow a redirect to just anywhere: `redirect` looks at each.
        let mut http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .redirect(Policy::none());
        let is_loopback = is_loopback(&url);
        if is_loopback {
            http = http.no_proxy();
        }
        if let Some(key) = self.bearer {
            let value = header::HeaderValue::from_str(&format!("Bearer {key}"));
            let mut value = value.map_err(|_| wrong("the API key has characters that no header can have"))?;
            value.set_sensitive(true);
            http = http.default_headers([(header::AUTHORIZATION, value)].into_iter().collect());
        }
        let mut authorities = Vec::new();
        for pem in &self.authorities {
            let found = Certificate::from_pem_bundle(pem).unwrap_or_default();
            if found.is_empty() {
                return Err(wrong(
                    "there is no PEM certificate in what is to vouch for the gateway",
                ));
            }
            authorities.extend(found);
        }
        if !authorities.is_empty() {
            http = http.tls_certs_only(authorities);
        }
        if let Some(pem) = &self.identity {
            let identity = Identity::from_pem(pem)
                .map_err(|_| wrong("the client's certificate and private key are not both there, in PEM"))?;
            http = http.identity(identity);
        }
        let http = http
            .build()
            .map_err(|error| wrong(&super::error::chain(&error)))?;
        Ok(Client(Arc::new(Inner {
            http,
            base: url.as_str().trim_end_matches('/').to_owned(),
            patience: self.patience,
            is_loopback,
        })))
    }
}

fn parse(text: &str) -> Result<url::Url, ClientError> {
    let url = url::Url::parse(text).map_err(|error| ClientError::Url(error.to_string()))?;
    let wrong = |what: &str| Err(ClientError::Url(what.to_owned()));
    match url.scheme() {
        "http" | "https" => {}
        other => {
            let hint = crate::scheme::hint(other, &["http", "https"]);
            return Err(ClientError::Url(format!("it begins with {other}:{hint}")));
        }
    }
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("it has a user or a password in it, which may end in logs: an API key is given apart");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return wrong("it has a query or a fragment");
    }
    Ok(url)
}

fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn wrong(what: &str) -> ClientError {
    ClientError::Credentials(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_gateways_only() {
        for url in ["http://a", "https://a:1/behind/a/path/", "http://[::1]:7411"] {
            assert!(!Client::new(url).unwrap().url().ends_with('/'), "{url}");
        }
        for url in [
            "",
            "a",
            "ftp://a",
            "127.0.0.1:7411",
            "http://u:p@a",
            "http://a?x",
            "http://a#x",
            "http://",
        ] {
            assert!(matches!(Client::new(url), Err(ClientError::Url(_))), "{url}");
        }
    }

    #[test]
    fn refuses_what_is_no_credential_and_shows_none() {
        let client = || Client::builder("http://a");
        for wrong in [
            client().bearer("a\nb"),
            client().authorities("nothing"),
            client().identity("nothing"),
        ] {
            assert!(matches!(wrong.build(), Err(ClientError::Credentials(_))));
        }
        let shown = format!(
            "{:?} {:?}",
            client().bearer("hunter2"),
            client().bearer("hunter2").build()
        );
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
