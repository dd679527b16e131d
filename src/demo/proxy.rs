//! A way to servers that can be cut: a TCP proxy for each of the addresses in a URL.

use anyhow::{Context, bail};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// A URL that leads to the servers of another one, by a way that can be cut.
pub(super) struct Detour {
    url: String,
    is_cut: watch::Sender<bool>,
    /// Ends with this.
    _proxies: JoinSet<()>,
}

impl Detour {
    /// To the servers that `url` names.
    ///
    /// # Errors
    /// For a lock service without a network, or one whose connections cannot be led another way.
    pub(super) async fn to(url: &str) -> anyhow::Result<Self> {
        let mut parts = Parts::of(url)?;
        let (is_cut, mut proxies) = (watch::Sender::new(false), JoinSet::new());
        for host in &mut parts.hosts {
            let listener = TcpListener::bind(("127.0.0.1", 0))
                .await
                .context("no free port on 127.0.0.1")?;
            let server = std::mem::replace(host, listener.local_addr()?.to_string());
            proxies.spawn(serve(listener, server, is_cut.subscribe()));
        }
        Ok(Self {
            url: parts.join(),
            is_cut,
            _proxies: proxies,
        })
    }

    /// Whether there is such a way.
    ///
    /// # Errors
    /// As [`Detour::to`].
    pub(super) fn check(url: &str) -> anyhow::Result<()> {
        Parts::of(url).map(drop)
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Resets all connections, and every new one.
    pub(super) fn cut(&self) {
        self.is_cut.send_replace(true);
    }

    /// Lets new connections through again.
    pub(super) fn mend(&self) {
        self.is_cut.send_replace(false);
    }
}

async fn serve(listener: TcpListener, server: String, is_cut: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        if !*is_cut.borrow() {
            connections.spawn(pass_on(client, server.clone(), is_cut.clone()));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn pass_on(mut client: TcpStream, server: String, mut is_cut: watch::Receiver<bool>) {
    let talk = async {
        let mut server = TcpStream::connect(&server).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        tokio::io::copy_bidirectional(&mut client, &mut server).await
    };
    tokio::select! {
        _ = talk => {}
        _ = is_cut.wait_for(|cut| *cut) => {}
    }
}

/// A URL around its hosts.
#[derive(Debug, PartialEq, Eq)]
struct Parts<'a> {
    /// Scheme, user and password.
    before: &'a str,
    /// Each with its port.
    hosts: Vec<String>,
    after: &'a str,
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> anyhow::Result<Self> {
        let (scheme, _) = url.split_once("://").unwrap_or((url, ""));
        let port = match scheme {
            "etcd" => 2379,
            "zookeeper" => 2181,
            "redis" | "redlock" => 6379,
            "postgres" | "postgresql" => 5432,
            "rediss" | "redlocks" => bail!(
                "the partition is made by a proxy, whose name no certificate has: give the lock service without TLS"
            ),
            "redis+sentinel" | "rediss+sentinel" => bail!(
                "sentinels would lead around the proxy that makes the partition: give the server itself, as \
                 redis://host:6379"
            ),
            _ => bail!(
                "this scenario cuts a writer from the lock service, so it needs one on a network: --locks \
                 etcd://..., zookeeper://..., redis://..., redlock://..., or postgres://..."
            ),
        };
        let authority = scheme.len() + "://".len();
        let end = url[authority..]
            .find(['/', '?'])
            .map_or(url.len(), |end| authority + end);
        let hosts = url[authority..end]
            .rfind('@')
            .map_or(authority, |at| authority + at + 1);
        let with_port = |host: &str| match host.rsplit_once(':') {
            Some((_, digits)) if !digits.ends_with(']') => host.to_owned(),
            _ => format!("{host}:{port}"),
        };
        if url[hosts..end].split(',').any(str::is_empty) {
            bail!("the partition is made between hosts, and the URL of the lock service names none");
        }
        Ok(Self {
            before: &url[..hosts],
            hosts: url[hosts..end].split(',').map(with_port).collect(),
            after: &url[end..],
        })
    }

    fn join(&self) -> String {
        format!("{}{}{}", self.before, self.hosts.join(","), self.after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_hosts() {
        for (url, hosts) in [
            ("etcd://a,b:1/x", "a:2379,b:1"),
            ("zookeeper://[::1],c/", "[::1]:2181,c:2181"),
            ("redis://user:p%40ss@h?prefix=a/b", "h:6379"),
            ("postgres://me:secret@db:6432/app?sslmode=disable", "db:6432"),
        ] {
            let parts = Parts::of(url).unwrap();
            assert_eq!(parts.hosts.join(","), hosts, "{url}");
        }
        let mut parts = Parts::of("postgres://me:secret@db/app").unwrap();
        parts.hosts = vec!["127.0.0.1:9".into()];
        assert_eq!(parts.join(), "postgres://me:secret@127.0.0.1:9/app");
    }

    #[test]
    fn says_what_cannot_be_cut() {
        for (url, said) in [
            ("sqlite:file", "--locks"),
            ("rediss://a", "TLS"),
            ("redis+sentinel://a/main", "sentinels"),
            ("postgres:///app?host=/run", "hosts"),
        ] {
            let error = Parts::of(url).unwrap_err().to_string();
            assert!(error.contains(said), "{url}: {error}");
        }
    }
}
