//! Locks in ZooKeeper.
//!
//! A lock is a queue of ephemeral sequential znodes, `<prefix>/<fence>/_c_<uuid>-lock-0000000001`, in the order of
//! the numbers at their ends; the first one holds it, and each waits for the one before it. That is the layout
//! of Curator's `InterProcessMutex`, so the two exclude each other, and so do all whose znodes end in ten digits
//! (kazoo's `Lock`, if told of our pattern). Znodes that fencegate made have a JSON object of its own as data.
//!
//! The sequence is the znode's `czxid`, read from the server once it is there: the answer to a creation has it on
//! some servers and not on others. The number at the end of its name has 32 bits, and starts over when the
//! fence's znode was removed.
//!
//! A lease's TTL is the timeout of the session that it shares with others: what was asked for, rounded up to one
//! of a few, within the limits of the server (2 to 20 of its ticks, unless configured). This process ends
//! each lease that is not renewed in that time; if it dies or stalls itself, the server ends the session. Only
//! the process that granted a lease can renew it; any can release it. A gateway that advertises an address writes it
//! into its znodes, and others say to ask there.
//!
//! A lock that is taken and released costs three round trips: create, look, remove. What a process asks at the same
//! time shares them. Where the holder and the next in the queue are of one process, the lock is handed over without any.
//!
//! A fence's name is a znode's name. What ZooKeeper refuses in one (private and supplementary characters), and
//! the percent sign, are written as `%XX`, the bytes of their UTF-8.

mod acquire;
pub(in crate::lock) mod address;
mod claims;
mod entry;
mod handover;
mod look;
mod lookup;
mod place;
mod queue;
mod servers;
mod session;
mod together;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use futures::future::join;
use uuid::Uuid;
use zookeeper_client::{Acls, CreateMode, CreateOptions, Error};

use self::{
    address::Address,
    claims::Claims,
    entry::Entry,
    handover::Handovers,
    place::{Node, Place, is_of},
    session::{Session, Sessions, ends_session},
};
use super::{
    Claim, Held, HolderState, Identity, Kind, LockError, LockService, LockState, Request, Server, Term,
};
use crate::{clock::Moment, name::FenceName, token::Sequence};

const PERSISTENT: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all());

/// The lock service in a ZooKeeper ensemble. Clones share its sessions.
#[derive(Debug, Clone)]
pub struct ZookeeperLocks {
    sessions: Arc<Sessions>,
    claims: Claims,
    handovers: Handovers,
    /// Tells znodes that were made here from those of other processes.
    process: Uuid,
    /// Where the gateway of this process answers.
    advertised: Arc<OnceLock<String>>,
}

impl ZookeeperLocks {
    /// Locks in the ensemble that `url` names: `zookeeper://a:2181,b:2181/prefix`. Nothing is asked of it yet.
    ///
    /// # Errors
    /// [`LockError::Url`] if the URL cannot be used.
    pub fn new(url: &str) -> Result<Self, LockError> {
        Ok(Self {
            sessions: Arc::new(Sessions::new(Address::parse(url)?)),
            claims: Claims::default(),
            handovers: Handovers::default(),
            process: Uuid::new_v4(),
            advertised: Arc::default(),
        })
    }

    fn address(&self) -> &Address {
        self.sessions.address()
    }

    fn error(&self, error: Error) -> LockError {
        self.sessions.error(error)
    }

    fn unexpected(&self, detail: &str) -> LockError {
        LockError::Unexpected {
            service: self.address().service(),
            detail: detail.to_owned(),
        }
    }

    /// Looks whether an acquisition of this process still has its znode, and how long it lasts from now on.
    async fn verify(&self, claim: &Claim, node: &Node) -> Result<Option<Term>, LockError> {
        let (Some(path), session) = (node.path(), &node.session) else {
            return Ok(None);
        };
        let sent = Moment::now();
        // A server that was cut off from its leader shows znodes of sessions that have ended.
        let look = async {
            let (synced, stat) = join(session.client.sync(&path), session.client.check_stat(&path)).await;
            synced.and(stat)
        };
        match session.call(look).await {
            Ok(stat) if stat.is_some_and(|stat| stat.czxid == claim.sequence.get()) => {
                session.prove(sent);
                Ok(Some(Term::new(sent, session.timeout)))
            }
            Ok(_) => Ok(None),
            Err(error) if ends_session(&error) => Ok(None),
            Err(error) => Err(self.error(error)),
        }
    }

    /// The gateway of another process, if it says where it is. One that says to be at this process's own address is none:
    /// it has ended, or was told a wrong address.
    fn gateway_of(&self, entry: &Entry) -> Option<String> {
        let gateway = entry.gateway.clone()?;
        (self.advertised.get() != Some(&gateway)).then_some(gateway)
    }

    /// How long a lock lasts that is not renewed: what is left of one that this process granted, at most the TTL
    /// of others', unknown for those that other programs took.
    fn expires_in(&self, name: &FenceName, entry: Option<&Entry>) -> Option<Duration> {
        let entry = entry?;
        let granted = entry.holder().and_then(|holder| self.claims.get(name, holder));
        Some(granted.map_or(entry.ttl(), |granted| granted.term.deadline.remaining()))
    }
}

#[async_trait]
impl LockService for ZookeeperLocks {
    fn kind(&self) -> Kind {
        Kind::Zookeeper
    }

    fn advertise(&self, gateway: &str) {
        // The first one stays: what it was granted names that one.
        let _ = self.advertised.set(gateway.to_owned());
    }

    async fn identity(&self) -> Result<Identity, LockError> {
        let ask = |session: Session| async move { self.read_identity(&session).await };
        self.parse_identity(&self.ask(ask).await?)
    }

    async fn count(&self) -> Result<Option<i64>, LockError> {
        let ask = |session: Session| async move { self.probe(&session).await };
        self.ask(ask).await.map(Some)
    }

    async fn servers(&self) -> Vec<Server> {
        self.ask_servers().await
    }

    async fn acquire(&self, request: &Request) -> Result<Held, LockError> {
        self.acquire_for_holder(request).await
    }

    async fn renew(&self, claim: &Claim) -> Result<Term, LockError> {
        let Some(granted) = self.claims.of(claim) else {
            return match self.find(claim).await? {
                Some(found) if !is_of(self.process, &found.path) => Err(LockError::Elsewhere {
                    gateway: found.entry.as_ref().and_then(|entry| self.gateway_of(entry)),
                }),
                // What this process granted, and does not know any more, has expired.
                _ => Err(LockError::Lost),
            };
        };
        match self.verify(claim, &granted.node).await? {
            Some(term) if self.claims.extend(claim, term) => Ok(term),
            Some(_) => Err(LockError::Lost),
            None => {
                self.claims.take(claim);
                Err(LockError::Lost)
            }
        }
    }

    async fn release(&self, claim: &Claim) -> Result<(), LockError> {
        let left = match self.claims.take(claim) {
            Some(granted) => {
                let _until_it_is_gone = granted.node.path().map(|path| self.handovers.release(path));
                Place::new(granted.node).leave().await
            }
            None => match self.find(claim).await? {
                Some(found) => {
                    let session = self.sessions.any().await?;
                    session
                        .call(session.client.delete(&found.path, Some(found.stat.version)))
                        .await
                }
                None => Ok(()),
            },
        };
        match left {
            Err(error) if error != Error::NoNode && !ends_session(&error) => Err(self.error(error)),
            _ => Ok(()),
        }
    }

    async fn inspect(&self, name: &FenceName) -> Result<LockState, LockError> {
        let ask = |session: Session| async move { self.first(&session, name).await };
        let Some((first, waiting)) = self.ask(ask).await? else {
            return Ok(LockState {
                holder: None,
                waiting: Some(0),
            });
        };
        Ok(LockState {
            waiting: Some(waiting as u64),
            holder: Some(HolderState {
                sequence: self.sequence(&first.stat)?,
                holder: first.holder(),
                expires_in: self.expires_in(name, first.entry.as_ref()).unwrap_or_default(),
                label: first.entry.map(|entry| entry.label).unwrap_or_default(),
            }),
        })
    }

    async fn confirm(&self, name: &FenceName, sequence: Sequence) -> Result<Option<Identity>, LockError> {
        let ask = |session: Session| async move {
            let identity = self.read_identity(&session).await?;
            Ok((identity, self.first(&session, name).await?))
        };
        match self.ask(ask).await? {
            (identity, Some((first, _))) if first.stat.czxid == sequence.get() && first.entry.is_none() => {
                self.parse_identity(&identity).map(Some)
            }
            _ => Ok(None),
        }
    }
}
