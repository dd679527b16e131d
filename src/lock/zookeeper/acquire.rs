//! An acquisition: a place in the queue, the wait until it is the first, and the look at what was gained.

use std::{sync::Arc, time::Duration};

use futures::future::join;
use zookeeper_client::{Error, EventType};

use super::{
    PERSISTENT, ZookeeperLocks,
    claims::Granted,
    entry::Entry,
    look::Seen,
    place::{Node, Place, is_of},
    queue::{Queue, Turn},
    session::{Session, ends_session, is_broken_connection},
    together::Created,
};
use crate::{
    clock::Moment,
    lock::{Claim, Held, LockError, Request},
};

/// How long to wait for a handover within this process before the server is asked to tell of the end.
const PATIENCE: Duration = Duration::from_millis(20);

/// How often those look at the znode before theirs whom the server does not tell, since it tells so many others.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Why an attempt gave no lock.
enum Stop {
    /// The session ended, or somebody removed our znode: begin again, at the end of the queue.
    Again(Error),
    /// That is the answer.
    Answer(LockError),
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
            holder: request.holder.hash(),
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
            && let Some((first, _)) = self
                .first(session, &request.name)
                .await
                .map_err(|error| self.stop(error))?
        {
            return Err(Stop::Answer(self.busy(request, first.entry.as_ref())));
        }
        let mut place = Place::new(Node::new(session.clone(), lock, self.process));
        let seen = self
            .create(&mut place, request)
            .await
            .map_err(|error| self.stop(error))?;
        let waited = async {
            let mut seen = match seen {
                Some(seen) => seen,
                None => self.look(&place).await?,
            };
            let queue = seen.queue.clone();
            if let Some(busy) = self.wait_turn(&place, queue, request, give_up).await? {
                return Ok(Err(busy));
            }
            // A write of this process a moment ago, such as the release that it waited for, says as much.
            if !session.is_proven() {
                seen = self.look(&place).await?;
            }
            Ok(Ok(seen))
        };
        match waited.await.map_err(|error| self.stop(error))? {
            Ok(seen) => self.held(place, seen, request).await,
            Err(busy) => {
                // In the foreground: who tries again, or gives the lock to another, is not to meet this znode.
                let _ = place.leave().await;
                Err(Stop::Answer(busy))
            }
        }
    }

    /// Creates our znode, and the fence's if it is not there. Looks at it, if it need not look for it.
    async fn create(&self, place: &mut Place, request: &Request) -> Result<Option<Seen>, Error> {
        let session = place.session.clone();
        let data = Entry::new(
            &request.holder.hash(),
            &request.label,
            session.timeout,
            self.advertised.get().cloned(),
        )
        .write();
        let create = async {
            loop {
                match session
                    .create(&place.lock, place.create_path(), data.clone())
                    .await
                {
                    Ok(Created { name, seen }) => {
                        place.name = Some(name);
                        return Ok(seen);
                    }
                    // Never used yet, or reaped as an empty container of Curator's.
                    Err(Error::NoNode) => match session.client.mkdir(&place.lock, &PERSISTENT).await {
                        Err(error) if error != Error::NoNode && !is_broken_connection(&error) => {
                            return Err(error);
                        }
                        _ => {}
                    },
                    Err(error) if is_broken_connection(&error) => {
                        place.name = place.find().await?;
                        if place.name.is_some() {
                            return Ok(None);
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        session.call(create).await
    }

    async fn look(&self, place: &Place) -> Result<Seen, Error> {
        let node = (place.lock.as_str(), place.name.as_deref().unwrap_or_default());
        let seen = place.session.look(&[node]).await?.pop();
        seen.unwrap_or(Err(Error::NoNode))
    }

    /// Waits until our znode is the first; gives the answer if the time runs out before.
    async fn wait_turn(
        &self,
        place: &Place,
        mut queue: Arc<Queue>,
        request: &Request,
        give_up: Moment,
    ) -> Result<Option<LockError>, Error> {
        let (session, name) = (&place.session, place.name.as_deref().unwrap_or_default());
        loop {
            let (before, is_first) = match queue.turn_of(name) {
                Turn::First => return Ok(None),
                Turn::Missing => return Err(Error::NoNode),
                Turn::After(before, is_first) => (format!("{}/{before}", place.lock), is_first),
            };
            let mut handover = self.handovers.expect(&before);
            if is_of(self.process, &before)
                && tokio::time::timeout(PATIENCE.min(give_up.remaining()), handover.handed_over())
                    .await
                    .is_ok()
            {
                return Ok(None);
            }
            loop {
                let room = session.room_to_watch(&before);
                let read = || async {
                    if room.is_none() {
                        return Ok((session.client.get_data(&before).await?.0, None));
                    }
                    let (data, _, watch) = session.client.get_and_watch_data(&before).await?;
                    Ok((data, Some(watch)))
                };
                let answer = tokio::select! {
                    () = handover.handed_over() => return Ok(None),
                    answer = session.read(read) => answer,
                };
                let (data, watch) = match answer {
                    Err(Error::NoNode) if is_first => return Ok(None),
                    Err(Error::NoNode) => break,
                    answer => answer?,
                };
                let entry = Entry::read(&data);
                if let Some(elsewhere) = self.elsewhere(request, entry.as_ref()) {
                    return Ok(Some(elsewhere));
                }
                let changed = async {
                    match watch {
                        Some(watch) => Some(watch.changed().await),
                        None => {
                            tokio::time::sleep(LOOK_AGAIN).await;
                            None
                        }
                    }
                };
                let event = tokio::select! {
                    () = handover.handed_over() => return Ok(None),
                    event = changed => event,
                    () = tokio::time::sleep(give_up.remaining()) => {
                        let first = entry.as_ref().filter(|_| is_first);
                        return Ok(Some(self.busy(request, first)));
                    }
                };
                let Some(event) = event else { continue };
                if event.session_state.is_terminated() {
                    return Err(Error::SessionExpired);
                }
                if is_first && event.event_type == EventType::NodeDeleted {
                    return Ok(None);
                }
                break;
            }
            let children = session.read(|| session.client.list_children(&place.lock)).await?;
            queue = Arc::new(Queue::new(children));
        }
    }

    /// What it means that this one has the lock: that it is held, or [elsewhere](Self::elsewhere).
    fn busy(&self, request: &Request, first: Option<&Entry>) -> LockError {
        self.elsewhere(request, first).unwrap_or_else(|| LockError::Busy {
            expires_in: self.expires_in(&request.name, first),
        })
    }

    /// Whether one in the queue is the holder that asks, who got the lock from another gateway before, and did not hear
    /// of it.
    fn elsewhere(&self, request: &Request, before: Option<&Entry>) -> Option<LockError> {
        let mine = before.filter(|entry| entry.holder() == Some(request.holder.hash()));
        let gateway = self.gateway_of(mine?)?;
        Some(LockError::Elsewhere {
            gateway: Some(gateway),
        })
    }

    /// The lock of our znode, which is the first.
    async fn held(&self, place: Place, seen: Seen, request: &Request) -> Result<Held, Stop> {
        let session = place.session.clone();
        let identity = match seen.identity {
            Some(identity) => identity,
            None => self
                .read_identity(&session)
                .await
                .map_err(|error| self.stop(error))?
                .into(),
        };
        let held = Held {
            identity: self.parse_identity(&identity).map_err(Stop::Answer)?,
            term: session.term(),
            claim: Claim {
                name: request.name.clone(),
                sequence: self.sequence(&seen.stat).map_err(Stop::Answer)?,
                holder: request.holder.hash(),
            },
        };
        let granted = Granted {
            node: place.keep(),
            sequence: held.claim.sequence,
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
