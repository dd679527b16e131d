//! What must hold of every URL of a lock service: see [`crate::fuzzing`].

use crate::scheme;

/// Stands for a password in the texts that are made up.
const SECRET: &str = "s3cr3t";

/// A URL leads to servers and to a place for our keys, or is refused with an error that does not show passwords.
pub fn addresses(bytes: &[u8]) {
    let Ok(url) = std::str::from_utf8(bytes) else {
        return;
    };
    assert!(url.starts_with(scheme_of(url)) && scheme_of(url).chars().count() <= 20);
    #[cfg(feature = "redis")]
    shows_no_secret(url, redis(url));
    #[cfg(feature = "etcd")]
    shows_no_secret(url, etcd(url));
    #[cfg(feature = "zookeeper")]
    shows_no_secret(url, zookeeper(url));
}

#[cfg(any(feature = "postgres", feature = "sqlite"))]
fn scheme_of(url: &str) -> &str {
    scheme::of(url)
}

#[cfg(not(any(feature = "postgres", feature = "sqlite")))]
fn scheme_of(_: &str) -> &str {
    ""
}

/// What stands before the last `@` may be a password, wherever a parser thinks that it belongs.
fn shows_no_secret(url: &str, error: Option<String>) {
    let Some(error) = error else { return };
    if let Some((before, after)) = url.rsplit_once('@')
        && before.contains(SECRET)
        && !after.contains(SECRET)
    {
        assert!(!error.contains(SECRET), "{error}");
    }
}

/// `host`, `host:port` or `[v6]:port`, with a port that is a plain number.
fn is_server(text: &str) -> bool {
    let port = match text.rsplit_once(']') {
        Some((_, "")) => return true,
        Some((_, end)) => end.strip_prefix(':'),
        None => text.split_once(':').map(|(_, port)| port),
    };
    let is_number = |port: &str| {
        port.parse()
            .is_ok_and(|number: u16| number > 0 && number.to_string() == port)
    };
    port.is_none_or(is_number)
        && !text.starts_with(':')
        && !text.contains(char::is_whitespace)
        && !text.is_empty()
}

fn is_prefix(prefix: &str) -> bool {
    !prefix.is_empty()
        && !prefix.ends_with('/')
        && !prefix.contains("//")
        && !prefix.contains(char::is_control)
}

#[cfg(feature = "redis")]
fn redis(url: &str) -> Option<String> {
    use super::redis::address::{Address, Servers};
    let address = match Address::parse(url) {
        Ok(address) => address,
        Err(error) => return Some(error.to_string()),
    };
    assert!(is_prefix(&address.prefix) && !address.prefix.starts_with('/'));
    match address.servers {
        Servers::One(_) => assert!(url.starts_with("redis://") || url.starts_with("rediss://")),
        Servers::Sentinel {
            sentinels, master, ..
        } => assert!(!sentinels.is_empty() && !master.is_empty()),
        Servers::Many(servers) => {
            let distinct: std::collections::HashSet<_> =
                servers.iter().map(|server| server.addr().to_string()).collect();
            assert_eq!(distinct.len(), servers.len(), "each instance has one vote");
            assert!(servers.len() >= 3 && servers.len() % 2 == 1);
        }
    }
    None
}

#[cfg(feature = "etcd")]
fn etcd(url: &str) -> Option<String> {
    match super::etcd::client::parse(url) {
        Ok((addresses, prefix)) => {
            assert!(!addresses.is_empty() && is_prefix(&prefix), "{prefix:?}");
            for address in addresses {
                assert!(is_server(&address) && address.contains(':'), "{address}");
            }
            None
        }
        Err(error) => Some(error.to_string()),
    }
}

#[cfg(feature = "zookeeper")]
fn zookeeper(url: &str) -> Option<String> {
    use super::zookeeper::address::Address;
    let address = match Address::parse(url) {
        Ok(address) => address,
        Err(error) => return Some(error.to_string()),
    };
    for server in address.servers() {
        assert!(is_server(server), "{server}");
        assert!(address.connect_string().split(',').any(|named| named == server));
    }
    let (path, identity) = (
        address.lock_path(&"a%b".parse().expect("a name")),
        address.identity_path(),
    );
    let prefix = path.strip_suffix("/a%25b").expect("the fence is the last part");
    assert_eq!(identity, format!("{prefix}-identity"));
    assert!(prefix.starts_with('/') && is_prefix(prefix));
    assert!(
        prefix
            .split('/')
            .skip(1)
            .all(|part| !matches!(part, "" | "." | ".."))
    );
    assert!(address.folder().is_none_or(|folder| prefix.starts_with(folder)));
    None
}
