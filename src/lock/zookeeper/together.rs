//! Creations and removals of znodes: what one process asks of a session at the same time goes together, in one
//! transaction and a look at all that it created.
//!
//! All znodes of a transaction have the same czxid, so that it creates one of each fence at most. It does all or
//! nothing: if ZooKeeper refuses it, each is asked for alone, and has its own answer. If its answer is lost, nobody
//! knows of any.

use std::collections::HashMap;

use futures::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use tokio::sync::oneshot;
use zookeeper_client::{
    Acls, Client, CreateMode, CreateOptions, Error, MultiWriteError, MultiWriteResult::Create,
};

use super::{look::Seen, session::Session};
use crate::clock::Moment;

const EPHEMERAL: CreateOptions<'static> = CreateMode::EphemeralSequential.with_acls(Acls::anyone_all());

/// The most in one transaction.
const MOST: usize = 64;

/// A znode that is there.
#[derive(Debug)]
pub(super) struct Created {
    pub(super) name: String,
    /// What was seen once it was there, if the look succeeded.
    pub(super) seen: Option<Seen>,
}

/// What is asked of a session, and has not been sent.
#[derive(Debug, Default)]
pub(super) struct Writes {
    waiting: Vec<Item>,
    /// Whether somebody sends. Only one does: so all stay in step, and the server's log is written twice for all their
    /// cycles; with more, each waits for what others write.
    sending: bool,
}

impl Writes {
    /// Answers whether the sending is to begin.
    fn wait(&mut self, item: Item) -> bool {
        self.waiting.push(item);
        !std::mem::replace(&mut self.sending, true)
    }
}

#[derive(Debug)]
enum Item {
    Create {
        /// The fence's znode.
        lock: String,
        path: String,
        data: Vec<u8>,
        answer: oneshot::Sender<Result<Created, Error>>,
    },
    Delete {
        path: String,
        answer: oneshot::Sender<Result<(), Error>>,
    },
}

impl Item {
    /// Whoever asked is gone: it is not to be sent any more.
    fn is_moot(&self) -> bool {
        match self {
            Self::Create { answer, .. } => answer.is_closed(),
            Self::Delete { answer, .. } => answer.is_closed(),
        }
    }

    fn fail(self, error: Error) {
        // Whoever asked may have gone.
        match self {
            Self::Create { answer, .. } => drop(answer.send(Err(error))),
            Self::Delete { answer, .. } => drop(answer.send(Err(error))),
        }
    }

    /// It was done. A creation is answered later, with what a look shows.
    fn done(self, name: Option<String>) -> Option<Unseen> {
        match (self, name) {
            (Self::Create { lock, answer, .. }, Some(name)) => Some(Unseen { lock, name, answer }),
            (Self::Delete { answer, .. }, None) => {
                let _ = answer.send(Ok(()));
                None
            }
            (item, _) => {
                item.fail(Error::UnexpectedError(
                    "another answer than was asked for".to_owned(),
                ));
                None
            }
        }
    }
}

/// A znode that is there, and was not looked at yet.
struct Unseen {
    lock: String,
    name: String,
    answer: oneshot::Sender<Result<Created, Error>>,
}

impl Session {
    /// Creates a znode in a fence's queue, and looks at it.
    ///
    /// # Cancel safety
    /// It may or may not be created, but not any more by the time that this is dropped: what is sent then comes later.
    pub(super) async fn create(&self, lock: &str, path: String, data: Vec<u8>) -> Result<Created, Error> {
        let (answer, answered) = oneshot::channel();
        let item = Item::Create {
            lock: lock.to_owned(),
            path,
            data,
            answer,
        };
        self.ask(item, answered).await
    }

    /// Removes a znode.
    ///
    /// # Cancel safety
    /// It may or may not be removed.
    pub(super) async fn delete(&self, path: String) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        self.ask(Item::Delete { path, answer }, answered).await
    }

    async fn ask<T>(&self, item: Item, answered: oneshot::Receiver<Result<T, Error>>) -> Result<T, Error> {
        let mut asked = Asked {
            session: self,
            answered,
        };
        if self.writes().wait(item) {
            tokio::spawn(send(self.clone()));
        }
        let answer = (&mut asked.answered).await;
        // Without one, the sender's runtime has ended.
        answer.unwrap_or(Err(Error::ConnectionLoss))
    }
}

/// Somebody who waits for an answer.
struct Asked<'a, T> {
    session: &'a Session,
    answered: oneshot::Receiver<T>,
}

impl<T> Drop for Asked<'_, T> {
    fn drop(&mut self) {
        self.answered.close();
        // Whoever sends looks whether this is closed, and sends, before he lets go: it was sent by now, or never is.
        drop(self.session.writes());
    }
}

/// Whoever sends. If it ends half way, with the runtime of whoever asked first, all that was asked has no answer, as if
/// the connection had broken, and whoever asks next sends.
struct Sending(Option<Session>);

impl Drop for Sending {
    fn drop(&mut self) {
        if let Some(session) = &self.0 {
            let mut writes = session.writes();
            writes.sending = false;
            writes.waiting.clear();
        }
    }
}

/// Sends what waits, until nothing does.
async fn send(session: Session) {
    let mut sending = Sending(Some(session.clone()));
    loop {
        // Those who have just been answered come first, so that what they ask next goes along.
        for _ in 0..2 {
            tokio::task::yield_now().await;
        }
        let (sent, mut transactions) = (Moment::now(), Vec::new());
        let answers: Vec<_> = {
            let mut writes = session.writes();
            transactions.extend(gather(std::mem::take(&mut writes.waiting)));
            if transactions.is_empty() {
                writes.sending = false;
                drop(writes);
                sending.0 = None;
                return;
            }
            transactions
                .iter()
                .map(|items| commit(&session.client, items))
                .collect()
        };
        let answers = join_all(answers).await;
        let mut unseen = Vec::new();
        for (items, answer) in transactions.into_iter().zip(answers) {
            match answer {
                Ok(names) => {
                    session.prove(sent);
                    unseen.extend(
                        items
                            .into_iter()
                            .zip(names)
                            .filter_map(|(item, name)| item.done(name)),
                    );
                }
                Err(MultiWriteError::OperationFailed { .. }) if items.len() > 1 => {
                    unseen.extend(one_by_one(&session, items).await);
                }
                Err(error) => {
                    let error = Error::from(error);
                    items.into_iter().for_each(|item| item.fail(error.clone()));
                }
            }
        }
        // Whoever asked and has gone looks for its znode to remove it.
        unseen.retain(|node| !node.answer.is_closed());
        while !unseen.is_empty() {
            let some = unseen.split_off(unseen.len().saturating_sub(MOST));
            look(session.clone(), some).await;
        }
    }
}

/// Divides into transactions what waits, in its order.
fn gather(waiting: Vec<Item>) -> Vec<Vec<Item>> {
    let mut transactions: Vec<Vec<Item>> = Vec::new();
    // The first transaction in which a fence is not yet.
    let mut next: HashMap<String, usize> = HashMap::new();
    let mut room = 0;
    for item in waiting {
        if item.is_moot() {
            continue;
        }
        let fence = match &item {
            Item::Create { lock, .. } => Some(next.entry(lock.clone()).or_default()),
            Item::Delete { .. } => None,
        };
        let mut at = fence.as_ref().map_or(room, |next| room.max(**next));
        while transactions.get(at).is_some_and(|items| items.len() >= MOST) {
            at += 1;
        }
        if let Some(next) = fence {
            *next = at + 1;
        }
        if at == transactions.len() {
            transactions.push(Vec::new());
        }
        transactions[at].push(item);
        while transactions.get(room).is_some_and(|items| items.len() >= MOST) {
            room += 1;
        }
    }
    transactions
}

type Answer = Result<Vec<Option<String>>, MultiWriteError>;

/// Sends it at once; the names of what it creates.
fn commit<'a>(client: &'a Client, items: &'a [Item]) -> BoxFuture<'a, Answer> {
    if let [item] = items {
        return single(client, item).map(|answer| Ok(vec![answer?])).boxed();
    }
    let mut writer = client.new_multi_writer();
    let add = |item: &Item| match item {
        Item::Create { path, data, .. } => writer.add_create(path, data, &EPHEMERAL),
        Item::Delete { path, .. } => writer.add_delete(path, None),
    };
    if let Err(source) = items.iter().try_for_each(add) {
        return async move { Err(MultiWriteError::OperationFailed { index: 0, source }) }.boxed();
    }
    let answer = writer.commit();
    let name = |result| match result {
        Create { path, .. } => path.rsplit('/').next().map(str::to_owned),
        _ => None,
    };
    async move { Ok(answer.await?.into_iter().map(name).collect()) }.boxed()
}

/// Sends it at once; the name of what it creates.
fn single<'a>(client: &'a Client, item: &'a Item) -> BoxFuture<'a, Result<Option<String>, Error>> {
    match item {
        Item::Create { path, data, .. } => {
            let answer = client.create(path, data, &EPHEMERAL);
            async move {
                let (_, number) = answer.await?;
                let name = path.rsplit('/').next().unwrap_or_default();
                Ok(Some(format!("{name}{number}")))
            }
            .boxed()
        }
        Item::Delete { path, .. } => {
            let answer = client.delete(path, None);
            answer.map(|answer| answer.map(|()| None)).boxed()
        }
    }
}

/// Asks for each alone, at the same time.
async fn one_by_one(session: &Session, items: Vec<Item>) -> Vec<Unseen> {
    let (sent, mut wanted) = (Moment::now(), Vec::new());
    let answers: Vec<_> = {
        let _writes = session.writes();
        wanted.extend(items.into_iter().filter(|item| !item.is_moot()));
        wanted.iter().map(|item| single(&session.client, item)).collect()
    };
    let answers = join_all(answers).await;
    let done = wanted
        .into_iter()
        .zip(answers)
        .filter_map(|(item, answer)| match answer {
            Ok(name) => {
                session.prove(sent);
                item.done(name)
            }
            Err(error) => {
                item.fail(error);
                None
            }
        });
    done.collect()
}

async fn look(session: Session, unseen: Vec<Unseen>) {
    let nodes = unseen
        .iter()
        .map(|node| (node.lock.as_str(), node.name.as_str()))
        .collect::<Vec<_>>();
    let mut seen = session.look(&nodes).await.unwrap_or_default().into_iter();
    for Unseen { name, answer, .. } in unseen {
        let seen = seen.next().and_then(Result::ok);
        let _ = answer.send(Ok(Created { name, seen }));
    }
}
