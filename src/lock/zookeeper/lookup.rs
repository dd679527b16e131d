//! What the service is asked without holding anything there: who is first in a queue, and whose history the
//! numbers are from.

use futures::future::join;
use uuid::Uuid;
use zookeeper_client::{Error, MultiReadResult, Stat};

use super::{
    PERSISTENT, ZookeeperLocks,
    entry::Entry,
    handover,
    queue::Queue,
    session::{Session, ends_session, is_broken_connection},
};
use crate::{
    lock::{Claim, Identity, Kind, LockError},
    name::FenceName,
    token::{HolderHash, Sequence},
};

/// Somebody in a fence's queue.
pub(super) struct Contender {
    pub(super) path: String,
    pub(super) stat: Stat,
    /// What fencegate wrote; `None` if somebody else made the znode.
    pub(super) entry: Option<Entry>,
}

impl Contender {
    /// `None` for other programs'.
    pub(super) fn holder(&self) -> Option<HolderHash> {
        self.entry.as_ref().and_then(Entry::holder)
    }
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

    /// The first in a fence's queue that was not released, and how many wait behind it. What another process has handed over
    /// and not removed yet counts.
    pub(super) async fn first(
        &self,
        session: &Session,
        name: &FenceName,
    ) -> Result<Option<(Contender, usize)>, Error> {
        let lock = self.address().lock_path(name);
        loop {
            let queue = self.queue(session, &lock).await?;
            let mut paths = queue.names().map(|name| format!("{lock}/{name}"));
            let Some(first) = paths.find(|path| !self.handovers.is_released(path)) else {
                return Ok(None);
            };
            // If it ended meanwhile, there is another one, or none.
            if let Some(first) = self.contenders(session, &[first]).await?.pop() {
                return Ok(Some((first, paths.count())));
            }
        }
    }

    /// An acquisition's znode, if it lasts.
    pub(super) async fn find(&self, claim: &Claim) -> Result<Option<Contender>, LockError> {
        let (lock, holder) = (&self.address().lock_path(&claim.name), Some(claim.holder));
        let ask = |session: Session| async move {
            let queue = self.queue(&session, lock).await?;
            let names = queue.names().take(1 + handover::MOST);
            let paths: Vec<_> = names.map(|name| format!("{lock}/{name}")).collect();
            let found = self.contenders(&session, &paths).await?;
            let is_it =
                |found: &Contender| found.stat.czxid == claim.sequence.get() && found.holder() == holder;
            Ok(found.into_iter().find(is_it))
        };
        self.ask(ask).await
    }

    /// A fence's queue, as the leader knows it.
    async fn queue(&self, session: &Session, lock: &str) -> Result<Queue, Error> {
        let client = &session.client;
        let look = || async {
            let (synced, children) = join(client.sync(lock), client.list_children(lock)).await;
            synced.and(children)
        };
        match session.read(look).await {
            Err(Error::NoNode) => Ok(Queue::new(Vec::new())),
            children => Ok(Queue::new(children?)),
        }
    }

    /// Those of them that are there.
    async fn contenders(&self, session: &Session, paths: &[String]) -> Result<Vec<Contender>, Error> {
        let read = || async {
            let mut reader = session.client.new_multi_reader();
            paths.iter().try_for_each(|path| reader.add_get_data(path))?;
            reader.commit().await
        };
        let mut contenders = Vec::new();
        if paths.is_empty() {
            return Ok(contenders);
        }
        for (path, answer) in paths.iter().zip(session.read(read).await?) {
            match answer {
                MultiReadResult::Data { data, stat } => contenders.push(Contender {
                    path: path.clone(),
                    stat,
                    entry: Entry::read(&data),
                }),
                MultiReadResult::Error { err: Error::NoNode } => {}
                MultiReadResult::Error { err } => return Err(err),
                _ => {
                    return Err(Error::UnexpectedError(
                        "another answer than was asked for".to_owned(),
                    ));
                }
            }
        }
        Ok(contenders)
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

    /// The zxid of a write: our number written again, as it is.
    pub(super) async fn probe(&self, session: &Session) -> Result<i64, Error> {
        let (data, path) = (self.read_identity(session).await?, self.address().identity_path());
        let (client, data) = (&session.client, &data[..]);
        Ok(session.call(client.set_data(&path, data, None)).await?.mzxid)
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
