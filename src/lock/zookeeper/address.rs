//! Where ZooKeeper is, and what our znodes are called there.

use crate::{
    lock::{LOCK_PREFIX, LockError, host},
    name::FenceName,
};

/// The fewest entries in the list that the client goes through to reconnect. It doubles its pause with each
/// round, up to many seconds for a single server, and a session that could be saved would end meanwhile; a list
/// that names the servers several times keeps the pauses short.
const FEWEST_TRIES: usize = 16;

/// A ZooKeeper ensemble, and the place of the locks in it.
#[derive(Debug, Clone)]
pub(in crate::lock) struct Address {
    servers: Vec<String>,
    /// An absolute path.
    prefix: String,
}

impl Address {
    /// Reads `zookeeper://h1:2181,h2:2181/prefix`.
    pub(in crate::lock) fn parse(url: &str) -> Result<Self, LockError> {
        let rest = url.strip_prefix("zookeeper://").unwrap_or_default();
        let (servers, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if rest.contains('@') {
            return Err(unusable("users and passwords are not supported"));
        }
        let servers: Vec<_> = servers.split(',').map(str::to_owned).collect();
        if servers.iter().any(|server| host::read(server).is_none()) {
            return Err(unusable(
                "give zookeeper://host:2181,host:2181/prefix, where the prefix may be left out",
            ));
        }
        let prefix = match prefix {
            "" => LOCK_PREFIX,
            prefix => prefix.strip_suffix('/').unwrap_or(prefix),
        };
        if prefix
            .split('/')
            .any(|part| escape(part) != part || matches!(part, "" | "." | ".."))
        {
            return Err(unusable("its path has a part that cannot be the name of a znode"));
        }
        if prefix.split('/').next() == Some("zookeeper") {
            return Err(unusable(
                "the znode /zookeeper is ZooKeeper's own: choose another path",
            ));
        }
        Ok(Self {
            servers,
            prefix: format!("/{prefix}"),
        })
    }

    /// What the client is to connect to.
    pub(in crate::lock) fn connect_string(&self) -> String {
        let tries = FEWEST_TRIES.next_multiple_of(self.servers.len());
        let servers: Vec<_> = self
            .servers
            .iter()
            .map(String::as_str)
            .cycle()
            .take(tries)
            .collect();
        servers.join(",")
    }

    /// As the URL names them: the port may be left out.
    pub(in crate::lock) fn servers(&self) -> &[String] {
        &self.servers
    }

    /// For messages.
    pub(in crate::lock) fn service(&self) -> String {
        format!("zookeeper at {}", self.servers.join(","))
    }

    /// The znode whose children contend for a fence.
    pub(in crate::lock) fn lock_path(&self, name: &FenceName) -> String {
        format!("{}/{}", self.prefix, escape(name.as_str()))
    }

    /// The znode of our number: beside the locks, so that it cannot be a fence, and stays when they are removed.
    pub(in crate::lock) fn identity_path(&self) -> String {
        format!("{}-identity", self.prefix)
    }

    /// The znode above the locks and the identity; `None` if that is the root.
    pub(in crate::lock) fn folder(&self) -> Option<&str> {
        self.prefix
            .rsplit_once('/')
            .map(|(folder, _)| folder)
            .filter(|folder| !folder.is_empty())
    }
}

fn unusable(detail: &str) -> LockError {
    LockError::Url {
        service: "zookeeper",
        detail: detail.to_owned(),
    }
}

/// A name as ZooKeeper takes it. Characters that it refuses, and the percent sign, become the bytes of their UTF-8
/// as `%XX`; all others stay, so ordinary names are the same for other programs. No two names become one.
fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for character in name.chars() {
        if is_refused(character) || character == '%' {
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                escaped.push_str(&format!("%{byte:02X}"));
            }
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// The server looks at UTF-16, so that what needs two units of it, all beyond U+FFFF, counts as surrogates.
fn is_refused(character: char) -> bool {
    matches!(
        u32::from(character),
        0..=0x1f | 0x7f..=0x9f | 0xd800..=0xf8ff | 0xfff0..=0xffff | 0x1_0000..
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_can_be_a_zookeeper() {
        let address = Address::parse("zookeeper://a:2181,b,[::1]:1,[::1]/x/y/").unwrap();
        assert_eq!(address.service(), "zookeeper at a:2181,b,[::1]:1,[::1]");
        assert_eq!(address.lock_path(&"f".parse().unwrap()), "/x/y/f");
        assert_eq!(address.identity_path(), "/x/y-identity");
        assert_eq!(address.folder(), Some("/x"));
        for url in ["zookeeper://a", "zookeeper://a/", "zookeeper://a:1"] {
            let address = Address::parse(url).unwrap();
            assert_eq!(address.lock_path(&"f".parse().unwrap()), "/fencegate/locks/f");
        }
        assert_eq!(Address::parse("zookeeper://a/x").unwrap().folder(), None);
    }

    #[test]
    fn refuses_the_rest() {
        for url in [
            "zookeeper:",
            "zookeeper://",
            "zookeeper:///x",
            "zookeeper://a,",
            "zookeeper://a:b",
            "zookeeper://a:0",
            "zookeeper://a:+80",
            "zookeeper://a:080",
            "zookeeper://a\tb",
            "zookeeper://::1",
            "zookeeper://u:p@a",
            "zookeeper://a//",
            "zookeeper://a/x//y",
            "zookeeper://a/x/../y",
            "zookeeper://a/zookeeper/y",
            "zookeeper://a/\u{f000}",
        ] {
            assert!(Address::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn names_each_server_in_each_round() {
        let address = Address::parse("zookeeper://a,b,c").unwrap();
        let servers = address.connect_string();
        for server in ["a", "b", "c"] {
            assert_eq!(servers.split(',').filter(|found| *found == server).count(), 6);
        }
    }

    #[test]
    fn leaves_ordinary_names_alone() {
        for name in [
            "invoices:2026-11",
            "a b",
            "ünï cödé",
            "..a",
            "_c_",
            "日本語",
            "zookeeper",
            "+~'\"\\*",
        ] {
            assert_eq!(escape(name), name);
        }
        assert_eq!(escape("100%"), "100%25");
        assert_eq!(escape("%25"), "%2525");
        assert_eq!(escape("🦀"), "%F0%9F%A6%80");
        assert_eq!(escape("\u{fffd}"), "%EF%BF%BD");
    }

    proptest::proptest! {
        #[test]
        fn escaping_can_be_undone(name in "\\PC*") {
            let escaped = escape(&name);
            proptest::prop_assert!(!escaped.chars().any(is_refused));
            let mut bytes = Vec::new();
            let mut rest = escaped.bytes();
            while let Some(byte) = rest.next() {
                bytes.push(match byte {
                    b'%' => {
                        let digits = [rest.next().unwrap(), rest.next().unwrap()];
                        u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                    }
                    _ => byte,
                });
            }
            proptest::prop_assert_eq!(String::from_utf8(bytes).unwrap(), name);
        }
    }
}
