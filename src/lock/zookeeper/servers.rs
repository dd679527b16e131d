//! What the servers of the ensemble say of themselves, when asked with the four letters `srvr`.

use std::{io, time::Duration};

use futures::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::ZookeeperLocks;
use crate::lock::{Facts, LockError, Server};

/// How long a server may take.
const LIMIT: Duration = Duration::from_secs(2);

impl ZookeeperLocks {
    pub(super) async fn ask_servers(&self) -> Vec<Server> {
        let asked = self.sessions.address().servers().iter().map(async |server| {
            let told = tokio::time::timeout(LIMIT, srvr(server)).await;
            let told = told.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            let facts = told
                .map(|text| facts(&text))
                .map_err(|error| LockError::Unavailable {
                    service: format!("zookeeper at {server}"),
                    detail: error.to_string(),
                });
            Server::new(server, facts)
        });
        join_all(asked).await
    }
}

async fn srvr(server: &str) -> io::Result<String> {
    let is_bare = !server.contains(':') || server.ends_with(']');
    let address = if is_bare {
        format!("{server}:2181")
    } else {
        server.to_owned()
    };
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"srvr").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

/// Nothing but that it answers, where its administrator does not allow the question.
fn facts(text: &str) -> Facts {
    let field = |name: &str| {
        let mut fields = text.lines().filter_map(|line| line.split_once(": "));
        fields.find(|field| field.0 == name).map(|field| field.1.trim())
    };
    let mut facts = Facts {
        // 3.8.0-<commit>, built on ...
        version: field("Zookeeper version").map(|version| {
            version
                .split(['-', ',', ' '])
                .next()
                .unwrap_or(version)
                .to_owned()
        }),
        counter: field("Zxid").and_then(|zxid| i64::from_str_radix(zxid.strip_prefix("0x")?, 16).ok()),
        ..Facts::default()
    };
    if let Some(mode) = field("Mode") {
        facts.settings.insert("mode", mode.to_owned());
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_servers_say() {
        let said = "Zookeeper version: 3.8.0-${mvngit.commit.id}, built on 2022-02-25 08:49 UTC\n\
            Latency min/avg/max: 0/0.0/0\nReceived: 1\nZxid: 0x10000001f\nMode: standalone\nNode count: 5\n";
        let facts = facts(said);
        assert_eq!(facts.version.as_deref(), Some("3.8.0"));
        assert_eq!(facts.counter, Some(0x1_0000_001f));
        assert_eq!(facts.setting("mode"), Some("standalone"));
        let refused = super::facts("srvr is not executed because it is not in the whitelist.\n");
        assert_eq!((refused.version, refused.counter), (None, None));
    }
}
