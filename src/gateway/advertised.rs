//! Where clients reach this very gateway, and not whichever one a load balancer picks: others redirect there what only
//! this one can do.

use std::{fmt, str::FromStr};

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use url::{Host, Url};

use super::Problem;
use crate::name::FenceName;

/// The URL of a gateway: `https://gateway-1.example.com:7411`, behind a proxy also with a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertised(String);

impl Advertised {
    /// The URL, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What a browser says of its pages.
    pub(super) fn origin(&self) -> String {
        let url = Url::parse(&self.0).map(|url| url.origin().ascii_serialization());
        // It was one before.
        url.unwrap_or_default()
    }

    /// Whether clients reach it over TLS.
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https://")
    }
}

impl FromStr for Advertised {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const HOW: &str = "give it as https://gateway-1.example.com:7411";
        let url = Url::parse(text).map_err(|error| format!("{error}; {HOW}"))?;
        let is_anywhere = match url.host() {
            Some(Host::Ipv4(address)) => address.is_unspecified(),
            Some(Host::Ipv6(address)) => address.is_unspecified(),
            Some(Host::Domain(_)) | None => false,
        };
        let wrong = if !matches!(url.scheme(), "http" | "https") {
            "it begins with neither http:// nor https://"
        } else if !url.username().is_empty() || url.password().is_some() {
            "it has a user or a password in it, which every client would see"
        } else if url.query().is_some() || url.fragment().is_some() {
            "it has a query or a fragment"
        } else if is_anywhere || url.port() == Some(0) {
            "nobody reaches a gateway there"
        } else {
            return Ok(Self(url.as_str().trim_end_matches('/').to_owned()));
        };
        Err(format!("{wrong}; {HOW}"))
    }
}

impl fmt::Display for Advertised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Sends a call about a lease to the gateway that keeps it. Its address comes from the lock service, where others may
/// write.
pub(super) fn redirect(keeper: &str, name: &FenceName) -> Result<Response, Problem> {
    let Ok(keeper) = keeper.parse::<Advertised>() else {
        return Err(Problem::lease_elsewhere());
    };
    let fence = utf8_percent_encode(name.as_str(), NON_ALPHANUMERIC);
    let headers = [
        (header::LOCATION, format!("{keeper}/v1/fences/{fence}/lease")),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((StatusCode::TEMPORARY_REDIRECT, headers).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_url_at_which_clients_reach_a_gateway() {
        for (text, url) in [
            ("http://10.0.0.7:7411", "http://10.0.0.7:7411"),
            ("https://gateway-1.example.com/", "https://gateway-1.example.com"),
            ("HTTPS://Proxy/gateways/1/", "https://proxy/gateways/1"),
            ("http://[::1]:7411", "http://[::1]:7411"),
        ] {
            assert_eq!(text.parse::<Advertised>().unwrap().as_str(), url);
        }
        for text in [
            "",
            "gateway-1",
            "gateway-1:7411",
            "10.0.0.7:7411",
            "ftp://gateway-1",
            "http://",
            "http://u:hunter2@gateway-1",
            "http://gateway-1?x",
            "http://gateway-1/#x",
            "http://0.0.0.0:7411",
            "http://[::]:7411",
            "http://gateway-1:0",
            "http://gateway-1:99999",
        ] {
            let error = text.parse::<Advertised>().unwrap_err();
            assert!(
                error.contains("https://gateway-1") && !error.contains("hunter2"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn sends_only_to_gateways() {
        let name = "a:b ä".parse().unwrap();
        let answer = redirect("http://b:1", &name).unwrap_or_else(|_| panic!("it is one"));
        assert_eq!(answer.status(), 307);
        let location = answer.headers()[header::LOCATION].to_str().unwrap();
        assert_eq!(location, "http://b:1/v1/fences/a%3Ab%20%C3%A4/lease");
        for other in ["", "javascript:alert(1)", "http://b\r\nx: y@c", "//b"] {
            assert!(redirect(other, &name).is_err(), "{other:?}");
        }
    }
}
