//! An acquisition: a place in the queue, the wait until it is the first, and the look at what was gained.

use futures::future::{join, join3};
use zookeeper_client::{Acls, CreateMode, CreateOptions, Error, EventType, Stat};

use super::{
    ZookeeperLocks,
    claims::Granted,
    entry::Entry,
    place::{Node, Place},
    queue::{Queue, Turn},
    session::{Session, ends_session, is_broken_connection},
};
use crate::{
    clock::Moment,
    lock::{Claim, Held, LockError, Request, Term},
};

const EPHEMERAL: CreateOptions<'static> = CreateMode::EphemeralSequential.with_acls(Acls::anyone_all());
const PERSISTENT: CreateOptions<'static> = super::PERSISTENT;

/// Why an attempt gave no lock.
enum Stop {
    /// The session ended, or somebody removed our znode: begin again, at the end of the queue.
    Again(Error),
    /// That is the answer.
    Answer(LockError),
}

/// What a new znode sees, asked for in one go with its creation.
struct Seen {
    sent: Moment,
    children: Option<Vec<String>>,
    identity: Option<Vec<u8>>,
}

impl ZookeeperLocks {
    /// Acquires, unless the holder has the lock already.
    pub(super) async fn acquire_for_holder(&self, request: &Request) -> Result<Held, LockError> {
        let give_up = Moment::now() + request.wait;
        let holder = request.holder.hash();
        let asking = self.claims.ask(&request.name, holder);
        let Ok(_asking) = tokio::time::timeout(request.wait.max(super::session::LIMIT), asking).await else {
            return Err(LockError::Busy { expires_in: None });
        };
        if let Some(held) = self.acquired_before(request).await? {
            return Ok(held);
        }
        let mut again = false;
        loop {
            let session = self.sessions.for_ttl(request.ttl).await?;
            match self.attempt(&session, request, give_up).await {
                Ok(held) => return Ok(held),
                Err(Stop::Answer(error)) => return Err(error),
                // A session that had ended unnoticed is no reason to fail, but two in a row are.
                Err(Stop::Again(error)) if again && give_up.has_passed() => return Err(self.error(error)),
                Err(Stop::Again(_)) => again = true,
            }
        }
    }

    /// The acquisition that the same holder asked for before, if it lasts.
    async fn acquired_before(&self, request: &Request) -> Result<Option<Held>, LockError> {
        let Some(Granted { node, sequence, .. }) = self.claims.get(&request.name, request.holder.hash())
        else {
            return Ok(None);
        };
        let claim = Claim {
            name: request.name.clone(),
            sequence,
            holder: request.holder.clone(),
        };
        let (term, identity) = join(self.verify(&claim, &node), self.read_identity(&node.session)).await;
        match term? {
            Some(term) if self.claims.extend(&claim, term) => Ok(Some(Held {
                claim,
                term,
                identity: self.parse_identity(&identity.map_err(|error| self.error(error))?)?,
            })),
            // Expired meanwhile: its znode is being removed.
            Some(_) => Ok(None),
            None => {
                self.claims.take(&claim);
                Ok(None)
            }
        }
    }

    async fn attempt(&self, session: &Session, request: &Request, give_up: Moment) -> Result<Held, Stop> {
        let lock = self.address().lock_path(&request.name);
        if request.wait.is_zero()
            && let Some(first) = self
                .first(session, &request.name)
                .await
                .map_err(|error| self.stop(error))?
        {
            let expires_in = self.expires_in(&request.name, first.entry.as_ref());
            return Err(Stop::Answer(LockError::Busy { expires_in }));
        }
        let mut place = Place::new(Node::new(session.clone(), lock));
        let mut seen = self
            .create(&mut place, request)
            .await
            .map_err(|error| self.stop(error))?;
        if let Some(busy) = self
            .wait_turn(&place, &mut seen, request, give_up)
            .await
            .map_err(|error| self.stop(error))?
        {
            // In the foreground: who tries again, or gives the lock to another, is not to meet this znode.
            let _ = place.leave().await;
            return Err(Stop::Answer(busy));
        }
        self.held(place, seen, request).await
    }

    /// Creates our znode, and the fence's if it is not there.
    async fn create(&self, place: &mut Place, request: &Request) -> Result<Seen, Error> {
        let session = place.session.clone();
        let data = Entry::new(
            &request.holder.hash(),
            &request.label,
            session.timeout,
            self.process,
        )
        .write();
        let (path, lock, identity) = (
            place.create_path(),
            place.lock.clone(),
            self.address().identity_path(),
        );
        let client = &session.client;
        let create = async {
            loop {
                let sent = Moment::now();
                let (created, children, identity) = join3(
                    client.create(&path, &data, &EPHEMERAL),
                    client.list_children(&lock),
                    client.get_data(&identity),
                )
                .await;
                match created {
                    Ok((_, number)) => {
                        place.name = Some(place.numbered(number));
                        let (children, identity) = (children.ok(), identity.ok().map(|(data, _)| data));
                        return Ok(Seen {
                            sent,
                            children,
                            identity,
                        });
                    }
                    // Never used yet, or reaped as an empty container of Curator's.
                    Err(Error::NoNode) => match client.mkdir(&lock, &PERSISTENT).await {
                        Err(error) if error != Error::NoNode && !is_broken_connection(&error) => {
                            return Err(error);
                        }
                        _ => {}
                    },
                    Err(error) if is_broken_connection(&error) => {
                        place.name = place.find().await?;
                        if place.name.is_some() {
                            return Ok(Seen {
                                sent,
                                children: None,
                                identity: None,
                            });
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        session.call(create).await
    }

    /// Waits until our znode is the first; gives the answer if the time runs out before.
    async fn wait_turn(
        &self,
        place: &Place,
        seen: &mut Seen,
        request: &Request,
        give_up: Moment,
    ) -> Result<Option<LockError>, Error> {
        let (client, name) = (&place.session.client, place.name.as_deref().unwrap_or_default());
        loop {
            let children = match seen.children.take() {
                Some(children) => children,
                None => place.session.read(|| client.list_children(&place.lock)).await?,
            };
            let queue = Queue::new(children);
            let (before, is_first) = match queue.turn_of(name) {
                Turn::First => return Ok(None),
                Turn::Missing => return Err(Error::NoNode),
                Turn::After(before, is_first) => (format!("{}/{before}", place.lock), is_first),
            };
            let (data, watch) = match place.session.read(|| client.get_and_watch_data(&before)).await {
                Err(Error::NoNode) if is_first => return Ok(None),
                Err(Error::NoNode) => continue,
                watch => watch.map(|(data, _, watch)| (data, watch))?,
            };
            // What was seen at the creation is old by the time the wait is over.
            seen.identity = None;
            let event = tokio::select! {
                event = watch.changed() => event,
                () = tokio::time::sleep(give_up.remaining()) => {
                    let entry = if is_first { Entry::read(&data) } else { None };
                    let expires_in = self.expires_in(&request.name, entry.as_ref());
                    return Ok(Some(LockError::Busy { expires_in }));
                }
            };
            if event.session_state.is_terminated() {
                return Err(Error::SessionExpired);
            }
            if is_first && event.event_type == EventType::NodeDeleted {
                return Ok(None);
            }
        }
    }

    /// When it was asked, our znode's stat, and the identity if there is one.
    async fn look(
        &self,
        session: &Session,
        path: &str,
        seen: Seen,
    ) -> Result<(Moment, Option<Stat>, Option<Vec<u8>>), Error> {
        let client = &session.client;
        if seen.identity.is_some() {
            // There was no wait: the leader knew the session when it created the znode.
            let stat = session.read(|| client.check_stat(path)).await?;
            return Ok((seen.sent, stat, seen.identity));
        }
        let identity_path = self.address().identity_path();
        let look = || async {
            let sent = Moment::now();
            // A server that was cut off from its leader shows znodes of sessions that have ended.
            let (synced, stat, identity) = join3(
                client.sync(path),
                client.check_stat(path),
                client.get_data(&identity_path),
            )
            .await;
            synced?;
            let identity = match identity {
                Err(Error::NoNode) => None,
                identity => Some(identity?.0),
            };
            Ok((sent, stat?, identity))
        };
        session.read(look).await
    }

    /// The lock of our znode, which is the first.
    async fn held(&self, place: Place, seen: Seen, request: &Request) -> Result<Held, Stop> {
        let session = place.session.clone();
        let path = place.path().unwrap_or_default();
        let (sent, stat, identity) = self
            .look(&session, &path, seen)
            .await
            .map_err(|error| self.stop(error))?;
        let Some(stat) = stat else {
            return Err(Stop::Again(Error::NoNode));
        };
        let sequence = self.sequence(&stat).map_err(Stop::Answer)?;
        let identity = match identity {
            Some(data) => data,
            None => self
                .read_identity(&session)
                .await
                .map_err(|error| self.stop(error))?,
        };
        let held = Held {
            identity: self.parse_identity(&identity).map_err(Stop::Answer)?,
            term: Term::new(sent, session.timeout),
            claim: Claim {
                name: request.name.clone(),
                sequence,
                holder: request.holder.clone(),
            },
        };
        let granted = Granted {
            node: place.keep(),
            sequence,
            term: held.term,
        };
        self.claims.insert(&request.name, request.holder.hash(), granted);
        Ok(held)
    }

    fn stop(&self, error: Error) -> Stop {
        if ends_session(&error) || error == Error::NoNode {
            Stop::Again(error)
        } else {
            Stop::Answer(self.error(error))
        }
    }
}
