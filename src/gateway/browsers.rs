//! What keeps pages of somebody else's out, which a browser shows to whoever may reach the gateway.
//!
//! A browser lets any page send requests anywhere, and sends along what shows by itself who its user is: that he is on
//! this machine, or his certificate. It says in `Origin` whose page it is, at least with all that may change something, and
//! lets the page see no answer, unless page and gateway have one name. A page can give its own name this machine's
//! address, once it is loaded (DNS rebinding); then its name is in `Host`.
//!
//! Whoever shows a key or a JWT is asked for neither: no browser sends them by itself.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::{
    extract::Request,
    http::{HeaderValue, header, uri::Authority},
};

use super::{Advertised, Problem};

/// What this gateway is called.
pub(super) struct OwnNames {
    /// Whether only this machine reaches it, by names of this machine.
    on_loopback: bool,
    advertised: Option<Origin>,
}

/// A host, in lower case, and its port, if it is named.
struct Named {
    host: String,
    port: Option<u16>,
}

/// Whose page it is.
#[derive(PartialEq)]
struct Origin {
    host: String,
    port: u16,
    /// The port that need not be named.
    usual_port: u16,
}

impl OwnNames {
    pub(super) fn new(on_loopback: bool, advertised: Option<&Advertised>) -> Self {
        Self {
            on_loopback,
            advertised: advertised.and_then(|url| Origin::read(&url.origin())),
        }
    }

    /// Refuses what a page whose name was given this machine's address may have sent.
    pub(super) fn host_is_own(&self, request: &Request) -> Result<(), Problem> {
        // Browsers always name a host.
        let is_own = |host: Option<&str>| match host {
            Some("") => true,
            Some(text) => Named::read(text).is_some_and(|named| self.is_here(&named.host)),
            None => false,
        };
        match !self.on_loopback || hosts(request).all(is_own) {
            true => Ok(()),
            false => Err(Problem::host_not_allowed()),
        }
    }

    /// Refuses what a page that is not this gateway's has sent.
    pub(super) fn origin_is_own(&self, request: &Request) -> Result<(), Problem> {
        let is_own = |origin: &HeaderValue| {
            let Some(origin) = origin.to_str().ok().and_then(Origin::read) else {
                return false;
            };
            let mut hosts = hosts(request).peekable();
            let is_host = hosts.peek().is_some() && hosts.all(|host| origin.is_of(host));
            is_host || self.advertised.as_ref() == Some(&origin)
        };
        match request.headers().get_all(header::ORIGIN).iter().all(is_own) {
            true => Ok(()),
            false => Err(Problem::origin_not_allowed()),
        }
    }

    /// Addresses are nobody's names, and those below `localhost` are this machine's (RFC 6761).
    fn is_here(&self, host: &str) -> bool {
        let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        host.parse::<Ipv4Addr>().is_ok()
            || v6.is_some_and(|v6| v6.parse::<Ipv6Addr>().is_ok())
            || host == "localhost"
            || host.ends_with(".localhost")
            || self.advertised.as_ref().is_some_and(|own| own.host == host)
    }
}

/// Whom the request says that it is for, wherever it says so; `None` for what is no text.
fn hosts(request: &Request) -> impl Iterator<Item = Option<&str>> {
    let headers = request.headers().get_all(header::HOST).iter();
    let target = request
        .uri()
        .authority()
        .map(|authority| Some(authority.as_str()));
    target.into_iter().chain(headers.map(|host| host.to_str().ok()))
}

impl Named {
    fn read(text: &str) -> Option<Self> {
        let authority: Authority = text.parse().ok().filter(|_| !text.contains('@'))?;
        let host = authority.host().to_ascii_lowercase();
        Some(Self {
            host: host.strip_suffix('.').unwrap_or(&host).to_owned(),
            port: authority.port_u16(),
        })
    }
}

impl Origin {
    fn read(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let usual_port = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let Named { host, port } = Named::read(authority)?;
        Some(Self {
            host,
            port: port.unwrap_or(usual_port),
            usual_port,
        })
    }

    /// Whether that host has served the page.
    fn is_of(&self, host: Option<&str>) -> bool {
        let named = host.and_then(Named::read);
        named.is_some_and(|named| {
            named.host == self.host && named.port.unwrap_or(self.usual_port) == self.port
        })
    }
}
