//! What the service is asked without holding anything there: who is first in a queue, and whose history the
//! numbers are from.

use futures::future::join;
use uuid::Uuid;
use zookeeper_client::{Error, Stat};

use super::{
    PERSISTENT, ZookeeperLocks,
    entry::Entry,
    queue::Queue,
    session::{Session, ends_session, is_broken_connection},
};
use crate::{
    lock::{Claim, Identity, Kind, LockError},
    name::FenceName,
    token::Sequence,
};

/// The first in a fence's queue.
pub(super) struct First {
    pub(super) path: String,
    pub(super) stat: Stat,
    /// What fencegate wrote; `None` if somebody else made the znode.
    pub(super) entry: Option<Entry>,
    /// How many wait behind it.
    pub(super) waiting: u64,
}

impl ZookeeperLocks {
    /// Asks in any session, in another one if that turns out to have ended.
    pub(super) async fn ask<T, F>(&self, question: impl Fn(Session) -> F) -> Result<T, LockError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let answer = match question(self.sessions.any().await?).await {
            Err(error) if ends_session(&error) => question(self.sessions.any().await?).await,
            answer => answer,
        };
        answer.map_err(|error| self.sessions.error(error))
    }

    /// The first in a fence's queue, as the leader knows it.
    pub(super) async fn first(&self, session: &Session, name: &FenceName) -> Result<Option<First>, Error> {
        let (client, lock) = (&session.client, self.address().lock_path(name));
        loop {
            let look = || async {
                let (synced, children) = join(client.sync(&lock), client.list_children(&lock)).await;
                synced.and(children)
            };
            let queue = match session.read(look).await {
                Err(Error::NoNode) => return Ok(None),
                children => Queue::new(children?),
            };
            let Some(first) = queue.first() else {
                return Ok(None);
            };
            let path = format!("{lock}/{first}");
            match session.read(|| client.get_data(&path)).await {
                // It ended meanwhile, so there is another one, or none.
                Err(Error::NoNode) => {}
                answer => {
                    let (data, stat) = answer?;
                    return Ok(Some(First {
                        path,
                        stat,
                        entry: Entry::read(&data),
                        waiting: queue.len() as u64 - 1,
                    }));
                }
            }
        }
    }

    /// The first in a fence's queue, if it is this acquisition.
    pub(super) async fn find(&self, claim: &Claim) -> Result<Option<First>, LockError> {
        let ask = |session: Session| async move { self.first(&session, &claim.name).await };
        let first = self.ask(ask).await?;
        Ok(first.filter(|first| {
            let holder = first.entry.as_ref().and_then(Entry::holder);
            first.stat.czxid == claim.sequence.get() && holder == Some(claim.holder)
        }))
    }

    pub(super) fn sequence(&self, stat: &Stat) -> Result<Sequence, LockError> {
        let sequence = Sequence::new(stat.czxid);
        sequence.ok_or_else(|| self.unexpected(&format!("a znode with the czxid {}", stat.czxid)))
    }

    /// The data of the znode of our number, which is made if it is not there.
    pub(super) async fn read_identity(&self, session: &Session) -> Result<Vec<u8>, Error> {
        let path = self.address().identity_path();
        loop {
            match session.read(|| session.client.get_data(&path)).await {
                Err(Error::NoNode) => session.call(self.make_identity(session)).await?,
                answer => return Ok(answer?.0),
            }
        }
    }

    async fn make_identity(&self, session: &Session) -> Result<(), Error> {
        let (client, path) = (&session.client, self.address().identity_path());
        let instance = Uuid::new_v4().to_string();
        let make = async {
            if let Some(folder) = self.address().folder() {
                client.mkdir(folder, &PERSISTENT).await?;
            }
            client.create(&path, instance.as_bytes(), &PERSISTENT).await
        };
        match make.await {
            // Somebody else was first, or nobody knows: a look will tell.
            Err(error) if error != Error::NodeExists && !is_broken_connection(&error) => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) fn parse_identity(&self, data: &[u8]) -> Result<Identity, LockError> {
        let instance = std::str::from_utf8(data).ok().and_then(|text| text.parse().ok());
        let path = self.address().identity_path();
        Ok(Identity {
            kind: Kind::Zookeeper,
            cluster: String::new(),
            instance: instance.ok_or_else(|| self.unexpected(&format!("{path} is no UUID")))?,
        })
    }
}
