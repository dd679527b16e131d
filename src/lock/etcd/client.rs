//! Calls to the cluster: with a limit in time, tried again while the cluster elects a leader, with errors that
//! name the addresses.

use std::{sync::Arc, time::Duration};

use etcd_client::{
    AlarmAction, AlarmType, ConnectOptions, Error, GetOptions, GetResponse, StatusResponse, Txn, WatchStream,
};
use futures::{StreamExt, stream::FuturesUnordered};

use super::{
    members::Members,
    together::{Answer, Together},
};
use crate::{
    clock::Moment,
    lock::{LOCK_PREFIX, LockError, host},
    name::FenceName,
};

/// Where etcd listens, unless told otherwise.
const PORT: u16 = 2379;

/// How long a call may take, all tries together.
pub(super) const LIMIT: Duration = Duration::from_secs(3);

/// How long a member has to answer before another one is asked as well.
const PATIENCE: Duration = Duration::from_secs(1);

/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// A connection to a cluster. Clones share it.
#[derive(Clone)]
pub(super) struct Client {
    members: Members,
    together: Together,
    shared: Arc<Shared>,
}

struct Shared {
    addresses: Vec<String>,
    prefix: String,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.service())
    }
}

impl Client {
    pub(super) async fn connect(url: &str) -> Result<Self, LockError> {
        let (addresses, prefix) = parse(url)?;
        let options = ConnectOptions::new()
            .with_connect_timeout(Duration::from_secs(2))
            .with_keep_alive(Duration::from_secs(5), Duration::from_secs(3))
            .with_keep_alive_while_idle(true)
            .with_require_leader(true);
        let shared = Arc::new(Shared { addresses, prefix });
        match Members::connect(&shared.addresses, &options).await {
            Ok(members) => Ok(Self {
                together: Together::new(members.clone()),
                members,
                shared,
            }),
            Err(error) => {
                let service = format!("etcd at {}", shared.addresses.join(","));
                Err(LockError::Unexpected {
                    service,
                    detail: said(&error),
                })
            }
        }
    }

    /// What all keys of a fence's queue begin with.
    pub(super) fn queue_key(&self, name: &FenceName) -> String {
        format!("{}/{name}/", self.shared.prefix)
    }

    /// The key of an etcd lease in a fence's queue.
    pub(super) fn lock_key(&self, name: &FenceName, lease: i64) -> String {
        format!("{}/{name}/{lease:x}", self.shared.prefix)
    }

    /// Where our own number for this cluster's history is. Beside the queues, where no fence can be.
    pub(super) fn identity_key(&self) -> String {
        format!("{}-identity", self.shared.prefix)
    }

    /// What is written to see how far the cluster has counted.
    pub(super) fn probe_key(&self) -> String {
        format!("{}-probe", self.shared.prefix)
    }

    /// A transaction that is of one fence alone, together with those of others.
    pub(super) async fn txn_of(&self, fence: &FenceName, txn: Txn) -> Result<Answer, LockError> {
        let call = async |etcd| self.together.txn(etcd, fence, txn.clone()).await;
        let (mut answer, repeated) = self.tried(call).await?;
        answer.repeated |= repeated;
        Ok(answer)
    }

    /// A transaction by itself.
    pub(super) async fn txn(&self, txn: Txn) -> Result<Answer, LockError> {
        self.call(async |etcd| {
            let answer = etcd.kv_client().txn(txn.clone()).await?;
            Ok(Answer::new(&answer))
        })
        .await
    }

    pub(super) async fn get(&self, key: String, options: GetOptions) -> Result<GetResponse, LockError> {
        self.call(async |etcd| etcd.kv_client().get(key.clone(), Some(options.clone())).await)
            .await
    }

    /// Whether a key is there and is the one that was created at that revision.
    pub(super) async fn exists(&self, key: &str, created: i64) -> Result<bool, LockError> {
        let answer = self
            .get(key.to_owned(), GetOptions::new().with_keys_only())
            .await?;
        Ok(answer
            .kvs()
            .first()
            .is_some_and(|kv| kv.create_revision() == created))
    }

    /// A new etcd lease, and the TTL that was granted.
    pub(super) async fn grant(&self, ttl: Duration) -> Result<(i64, Duration), LockError> {
        let seconds = i64::try_from(ttl.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
        let answer = self
            .call(async |etcd| etcd.lease_client().grant(seconds, None).await)
            .await?;
        Ok((answer.id(), Duration::from_secs(answer.ttl().unsigned_abs())))
    }

    /// Makes an etcd lease last its TTL again; `false` if it is over.
    pub(super) async fn keep_alive(&self, lease: i64) -> Result<bool, LockError> {
        self.call(|etcd| {
            let mut etcd = etcd.lease_client();
            async move {
                match etcd.keep_alive(lease).await {
                    Ok(_) => Ok(true),
                    Err(Error::LeaseKeepAliveError(text)) if text == "lease not found" => Ok(false),
                    Err(error) => Err(error),
                }
            }
        })
        .await
    }

    pub(super) async fn revoke(&self, lease: i64) -> Result<(), LockError> {
        let revoked = self.call(|etcd| {
            let mut etcd = etcd.lease_client();
            async move { etcd.revoke(lease).await.map(drop) }
        });
        match revoked.await {
            Err(LockError::Lost) => Ok(()),
            revoked => revoked,
        }
    }

    /// How long an etcd lease has, unless it is kept alive; zero if it is over.
    pub(super) async fn time_to_live(&self, lease: i64) -> Result<Duration, LockError> {
        let answer = self
            .call(async |etcd| etcd.lease_client().time_to_live(lease, None).await)
            .await?;
        Ok(Duration::from_secs(answer.ttl().max(0).unsigned_abs()))
    }

    /// The members that the URL names, as host:port.
    pub(super) fn addresses(&self) -> &[String] {
        &self.shared.addresses
    }

    /// What the member that is asked says of itself.
    pub(super) async fn status(&self) -> Result<StatusResponse, LockError> {
        self.call(async |etcd| etcd.maintenance_client().status().await)
            .await
    }

    /// How many members the cluster has.
    pub(super) async fn members(&self) -> Result<usize, LockError> {
        let answer = self
            .call(async |etcd| etcd.cluster_client().member_list().await)
            .await?;
        Ok(answer.members().len())
    }

    /// What the cluster raises an alarm about.
    pub(super) async fn alarms(&self) -> Result<Vec<String>, LockError> {
        let answer = self
            .call(async |etcd| {
                let mut etcd = etcd.maintenance_client();
                etcd.alarm(AlarmAction::Get, AlarmType::None, None).await
            })
            .await?;
        let alarms = answer.alarms().iter().map(|alarm| format!("{:?}", alarm.alarm()));
        Ok(alarms.collect())
    }

    /// Watches a key from now on.
    pub(super) async fn watch(&self, key: &str) -> Result<Watch, LockError> {
        let stream = self
            .call(async |etcd| {
                let mut stream = etcd.watch_client().watch(key, None).await?;
                // The first answer says that the watch stands.
                match stream.message().await? {
                    Some(answer) if answer.created() && !answer.canceled() => Ok(stream),
                    _ => Err(Error::WatchError("a watch was refused".into())),
                }
            })
            .await?;
        Ok(Watch {
            stream,
            client: self.clone(),
        })
    }

    /// Calls until there is an answer or the time is up. Every call that goes through here may be repeated, and done
    /// twice at the same time. [`LockError::Lost`] stands for an etcd lease that is over.
    async fn call<'a, T, F>(&'a self, call: impl Fn(&'a etcd_client::Client) -> F) -> Result<T, LockError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        Ok(self.tried(call).await?.0)
    }

    /// The same; and whether there was more than one try, of which another may be done yet.
    ///
    /// A member that does not answer may be slow or hang, so it is waited for while another one is asked.
    async fn tried<'a, T, F>(
        &'a self,
        call: impl Fn(&'a etcd_client::Client) -> F,
    ) -> Result<(T, bool), LockError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let limit = Moment::now() + LIMIT;
        let patience = if self.members.are_several() {
            PATIENCE
        } else {
            LIMIT
        };
        let mut tries = FuturesUnordered::new();
        let mut repeated = false;
        loop {
            let (number, etcd) = self.members.present();
            let answer = call(etcd);
            tries.push(async move { (number, answer.await) });
            let answer = tokio::time::timeout(patience.min(limit.remaining()), tries.next()).await;
            let (number, error) = match answer {
                Ok(Some((_, Ok(answer)))) => return Ok((answer, repeated)),
                Ok(Some((number, Err(error)))) => (number, Some(error)),
                Ok(None) | Err(_) => (number, None),
            };
            repeated = true;
            let Some(error) = error else {
                self.members.leave(number);
                if limit.has_passed() {
                    return Err(self.unavailable(format!("no answer within {LIMIT:?}")));
                }
                continue;
            };
            if code(&error) == Some(NOT_FOUND) {
                return Err(LockError::Lost);
            }
            if !may_pass(&error) {
                return Err(LockError::Unexpected {
                    service: self.service(),
                    detail: said(&error),
                });
            }
            if is_full(&said(&error)) || limit.remaining() <= PAUSE {
                return Err(self.unavailable(said(&error)));
            }
            self.members.leave(number);
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn service(&self) -> String {
        format!("etcd at {}", self.shared.addresses.join(","))
    }

    fn unavailable(&self, detail: String) -> LockError {
        LockError::Unavailable {
            service: self.service(),
            detail,
        }
    }

    /// Whether a deletion may succeed where something else failed so.
    pub(super) fn may_delete(error: &LockError) -> bool {
        match error {
            LockError::Unavailable { detail, .. } => is_full(detail),
            _ => true,
        }
    }

    pub(super) fn unexpected(&self, detail: &str) -> LockError {
        LockError::Unexpected {
            service: self.service(),
            detail: detail.into(),
        }
    }
}

/// A watch on one key.
pub(super) struct Watch {
    stream: WatchStream,
    client: Client,
}

impl Watch {
    /// Ends when the key is deleted.
    ///
    /// # Cancel safety
    /// Yes.
    pub(super) async fn deleted(&mut self) -> Result<(), LockError> {
        loop {
            match self.stream.message().await {
                Ok(Some(answer)) if answer.canceled() => {
                    return Err(self
                        .client
                        .unavailable(format!("a watch ended: {}", answer.cancel_reason())));
                }
                Ok(Some(answer)) => {
                    if answer
                        .events()
                        .iter()
                        .any(|event| event.event_type() == etcd_client::EventType::Delete)
                    {
                        return Ok(());
                    }
                }
                Ok(None) => return Err(self.client.unavailable("a watch ended".into())),
                Err(error) => return Err(self.client.unavailable(error.to_string())),
            }
        }
    }
}

/// gRPC's numbers of its status codes.
const NOT_FOUND: i32 = 5;
const CANCELLED: i32 = 1;
const UNKNOWN: i32 = 2;
const DEADLINE_EXCEEDED: i32 = 4;
const RESOURCE_EXHAUSTED: i32 = 8;
const ABORTED: i32 = 10;
const UNAVAILABLE: i32 = 14;

fn code(error: &Error) -> Option<i32> {
    match error {
        Error::GRpcStatus(status) => Some(status.code() as i32),
        _ => None,
    }
}

/// Errors of a cluster that is electing a leader or starting, or of the way to it.
pub(super) fn may_pass(error: &Error) -> bool {
    match (error, code(error)) {
        (_, Some(code)) => [
            CANCELLED,
            UNKNOWN,
            DEADLINE_EXCEEDED,
            RESOURCE_EXHAUSTED,
            ABORTED,
            UNAVAILABLE,
        ]
        .contains(&code),
        (Error::TransportError(_) | Error::IoError(_), _) => true,
        (Error::WatchError(_) | Error::LeaseKeepAliveError(_), _) => true,
        _ => false,
    }
}

/// Whether etcd's disk is full, as its administrator has to be told: it takes deletions then, and nothing else.
fn is_full(said: &str) -> bool {
    said.contains("database space exceeded")
}

/// `etcd://a:2379,b:2379/prefix` to addresses and prefix.
pub(in crate::lock) fn parse(url: &str) -> Result<(Vec<String>, String), LockError> {
    let wrong = |detail: &str| LockError::Url {
        service: "etcd",
        detail: format!("{detail}: write etcd://host:2379,host:2379/prefix"),
    };
    let rest = url
        .strip_prefix("etcd://")
        .ok_or_else(|| wrong("it begins with something else"))?;
    let (hosts, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if hosts.contains('@') {
        return Err(wrong("user names are not supported yet"));
    }
    let address = |text: &str| {
        let (host, port) = host::read(text)?;
        Some(format!("{host}:{}", port.unwrap_or(PORT)))
    };
    let addresses: Option<Vec<String>> = hosts.split(',').map(address).collect();
    let addresses = addresses.ok_or_else(|| wrong("a host is missing, or cannot be read"))?;
    let prefix = prefix.trim_end_matches('/');
    if prefix.contains("//") || prefix.chars().any(char::is_control) {
        return Err(wrong("its path has an empty part, or a control character"));
    }
    Ok((
        addresses,
        if prefix.is_empty() {
            LOCK_PREFIX.to_owned()
        } else {
            prefix.to_owned()
        },
    ))
}

/// What an error says, without the layers between: what the server said, or why there was none.
fn said(error: &Error) -> String {
    let Error::GRpcStatus(status) = error else {
        return error.to_string();
    };
    let mut innermost = std::error::Error::source(status);
    while let Some(inner) = innermost.and_then(std::error::Error::source) {
        innermost = Some(inner);
    }
    match innermost {
        Some(inner) => format!("{}: {inner}", status.message()),
        None => status.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_urls() {
        assert_eq!(
            parse("etcd://a").unwrap(),
            (vec!["a:2379".into()], LOCK_PREFIX.into())
        );
        assert_eq!(
            parse("etcd://a:1,b:2/team/locks/").unwrap(),
            (vec!["a:1".into(), "b:2".into()], "team/locks".into())
        );
        assert_eq!(
            parse("etcd://[::1],[::1]:1//x").unwrap(),
            (vec!["[::1]:2379".into(), "[::1]:1".into()], "/x".into())
        );
        for url in [
            "etcd:",
            "etcd://",
            "etcd://a,,b",
            "etcd://u:p@a/x",
            "etcd:///x",
            "etcd://a:",
            "etcd://a:+1",
            "etcd://a b",
            "etcd://::1",
            "etcd://a/x//y",
        ] {
            assert!(parse(url).is_err(), "{url}");
        }
    }
}
