//! Locks in ZooKeeper.
//!
//! A lock is a queue of ephemeral sequential znodes, `<prefix>/<fence>/_c_<uuid>-lock-0000000001`, in the order of
//! the numbers at their ends; the first one holds it, and each waits for the one before it. That is the layout
//! of Curator's `InterProcessMutex`, so the two exclude each other, and so do all whose znodes end in ten digits
//! (kazoo's `Lock`, if told of our pattern). Znodes that fencegate made have a JSON object of its own as data.
//!
//! The sequence is the znode's `czxid`, read from the server once it is there. The number at the end of its name
//! has 32 bits and starts over when the fence's znode was removed, and the `czxid` that servers before 3.8.2
//! answer a creation with is wrong.
//!
//! A lease's TTL is the timeout of the session that it shares with others: what was asked for, rounded up to one
//! of a few, within the limits of the server (2 to 20 of its ticks, unless configured). This process ends
//! each lease that is not renewed in that time; if it dies or stalls itself, the server ends the session. Only
//! the process that granted a lease can renew it; any can release it.
//!
//! A fence's name is a znode's name. What ZooKeeper refuses in one (private and supplementary characters), and
//! the percent sign, are written as `%XX`, the bytes of their UTF-8.

mod acquire;
mod address;
mod claims;
mod entry;
mod place;
mod queue;
mod session;

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join;
use uuid::Uuid;
use zookeeper_client::{Acls, Client, CreateMode, CreateOptions, Error, Stat};

use self::{
    address::Address,
    claims::Claims,
    entry::Entry,
    place::{Node, Place},
    queue::Queue,
    session::{LIMIT, Session, Sessions, ends_session},
};
use super::{Claim, Held, HolderState, Identity, Kind, LockError, LockService, LockState, Request, Term};
use crate::{clock::Moment, name::FenceName, token::Sequence};

const PERSISTENT: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all());

/// The lock service in a ZooKeeper ensemble. Clones share its sessions.
#[derive(Debug, Clone)]
pub struct ZookeeperLocks {
    sessions: Arc<Sessions>,
    claims: Claims,
}

/// The first in a fence's queue.
struct First {
    path: String,
    sequence: Sequence,
    version: i32,
    /// What fencegate wrote; `None` if somebody else made the znode.
    entry: Option<Entry>,
    /// How many wait behind it.
    waiting: u64,
}

impl ZookeeperLocks {
    /// Locks in the ensemble that `url` names: `zookeeper://a:2181,b:2181/prefix`. Nothing is asked of it yet.
    ///
    /// # Errors
    /// [`LockError::Unexpected`] if the URL cannot be used.
    pub fn new(url: &str) -> Result<Self, LockError> {
        Ok(Self {
            sessions: Arc::new(Sessions::new(Address::parse(url)?)),
            claims: Claims::default(),
        })
    }

    fn address(&self) -> &Address {
        self.sessions.address()
    }

    fn error(&self, error: Error) -> LockError {
        self.sessions.error(error)
    }

    fn sequence(&self, stat: &Stat) -> Result<Sequence, LockError> {
        Sequence::new(stat.czxid).ok_or_else(|| {
            self.sessions
                .unexpected(format!("a znode with the czxid {}", stat.czxid))
        })
    }

    /// The first in a fence's queue, as the leader knows it.
    async fn first(&self, session: &Session, name: &FenceName) -> Result<Option<First>, LockError> {
        let lock = self.address().lock_path(name);
        loop {
            let client = &session.client;
            let look = || async {
                let (synced, children) = join(client.sync(&lock), client.list_children(&lock)).await;
                synced.and(children)
            };
            let queue = match session.read(look).await {
                Err(Error::NoNode) => return Ok(None),
                children => Queue::new(children.map_err(|error| self.error(error))?),
            };
            let Some(first) = queue.first() else {
                return Ok(None);
            };
            let path = format!("{lock}/{first}");
            match session.read(|| client.get_data(&path)).await {
                // It ended meanwhile, so there is another one, or none.
                Err(Error::NoNode) => {}
                Err(error) => return Err(self.error(error)),
                Ok((data, stat)) => {
                    return Ok(Some(First {
                        sequence: self.sequence(&stat)?,
                        version: stat.version,
                        entry: Entry::read(&data),
                        waiting: queue.len() as u64 - 1,
                        path,
                    }));
                }
            }
        }
    }

    /// The first in a fence's queue, if it is this acquisition.
    async fn find(&self, session: &Session, claim: &Claim) -> Result<Option<First>, LockError> {
        let first = self.first(session, &claim.name).await?;
        Ok(first.filter(|first| {
            let holder = first.entry.as_ref().and_then(Entry::holder);
            first.sequence == claim.sequence && holder == Some(claim.holder.hash())
        }))
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
                Ok(Some(Term::new(sent, session.timeout)))
            }
            Ok(_) => Ok(None),
            Err(error) if ends_session(&error) => Ok(None),
            Err(error) => Err(self.error(error)),
        }
    }

    async fn read_identity(&self, session: &Session) -> Result<Identity, LockError> {
        let path = self.address().identity_path();
        loop {
            match session.read(|| session.client.get_data(&path)).await {
                Err(Error::NoNode) => self.make_identity(&session.client).await?,
                Err(error) => return Err(self.error(error)),
                Ok((data, _)) => return self.parse_identity(&data),
            }
        }
    }

    async fn make_identity(&self, client: &Client) -> Result<(), LockError> {
        let make = async {
            if let Some(folder) = self.address().folder() {
                client.mkdir(folder, &PERSISTENT).await?;
            }
            let instance = Uuid::new_v4().to_string();
            client
                .create(&self.address().identity_path(), instance.as_bytes(), &PERSISTENT)
                .await
        };
        match tokio::time::timeout(LIMIT, make)
            .await
            .unwrap_or(Err(Error::Timeout))
        {
            // Somebody else was first. If the connection broke, a look will tell.
            Ok(_) | Err(Error::NodeExists | Error::ConnectionLoss) => Ok(()),
            Err(error) => Err(self.error(error)),
        }
    }

    fn parse_identity(&self, data: &[u8]) -> Result<Identity, LockError> {
        let instance = std::str::from_utf8(data).ok().and_then(|text| text.parse().ok());
        let path = self.address().identity_path();
        Ok(Identity {
            kind: Kind::Zookeeper,
            cluster: String::new(),
            instance: instance.ok_or_else(|| self.sessions.unexpected(format!("{path} is no UUID")))?,
        })
    }
}

#[async_trait]
impl LockService for ZookeeperLocks {
    fn kind(&self) -> Kind {
        Kind::Zookeeper
    }

    async fn identity(&self) -> Result<Identity, LockError> {
        self.read_identity(&self.sessions.any().await?).await
    }

    async fn acquire(&self, request: &Request) -> Result<Held, LockError> {
        self.acquire_for_holder(request).await
    }

    async fn renew(&self, claim: &Claim) -> Result<Term, LockError> {
        let Some(granted) = self.claims.of(claim) else {
            if self.find(&self.sessions.any().await?, claim).await?.is_some()
                && self.claims.of(claim).is_none()
            {
                let detail = "this lease was granted by another process, which alone can renew it".to_owned();
                return Err(self.sessions.unexpected(detail));
            }
            return Err(LockError::Lost);
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
        if let Some(granted) = self.claims.take(claim) {
            return match Place::new(granted.node).leave().await {
                Err(error) if ends_session(&error) => Ok(()),
                left => left.map_err(|error| self.error(error)),
            };
        }
        let session = self.sessions.any().await?;
        let Some(first) = self.find(&session, claim).await? else {
            return Ok(());
        };
        match session
            .call(session.client.delete(&first.path, Some(first.version)))
            .await
        {
            Ok(()) | Err(Error::NoNode) => Ok(()),
            Err(error) => Err(self.error(error)),
        }
    }

    async fn inspect(&self, name: &FenceName) -> Result<LockState, LockError> {
        let Some(first) = self.first(&self.sessions.any().await?, name).await? else {
            return Ok(LockState {
                holder: None,
                waiting: Some(0),
            });
        };
        Ok(LockState {
            waiting: Some(first.waiting),
            holder: Some(HolderState {
                sequence: first.sequence,
                holder: first.entry.as_ref().and_then(Entry::holder),
                expires_in: self.expires_in(name, first.entry.as_ref()).unwrap_or_default(),
                label: first.entry.map(|entry| entry.label).unwrap_or_default(),
            }),
        })
    }

    async fn confirm(&self, name: &FenceName, sequence: Sequence) -> Result<Option<Identity>, LockError> {
        let session = self.sessions.any().await?;
        let identity = self.read_identity(&session).await?;
        let first = self.first(&session, name).await?;
        let foreign = first.is_some_and(|first| first.sequence == sequence && first.entry.is_none());
        Ok(foreign.then_some(identity))
    }
}

impl ZookeeperLocks {
    /// How long a lock lasts that is not renewed: what is left of one that this process granted, at most the TTL
    /// of others', unknown for those that other programs took.
    fn expires_in(&self, name: &FenceName, entry: Option<&Entry>) -> Option<std::time::Duration> {
        let entry = entry?;
        let granted = entry.holder().and_then(|holder| self.claims.get(name, holder));
        Some(granted.map_or(entry.ttl(), |granted| granted.term.deadline.remaining()))
    }
}
