//! The look at znodes of ours: how they stand in their queues, and whose history counted them.

use std::{collections::HashMap, sync::Arc};

use futures::future::{OptionFuture, join};
use zookeeper_client::{
    Error,
    MultiReadResult::{self, Children, Data},
    Stat,
};

use super::{queue::Queue, session::Session};
use crate::clock::Moment;

/// What an acquisition knows of its znode.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) stat: Stat,
    pub(super) identity: Option<Arc<[u8]>>,
    /// Those that contend with it.
    pub(super) queue: Arc<Queue>,
}

impl Session {
    /// Reads znodes, by the fence's and their names, their queues and the identity in one request.
    ///
    /// The identity is read before a znode is the first, yet it is of the history that counted the znode: no
    /// other one knows its session.
    pub(super) async fn look(&self, nodes: &[(&str, &str)]) -> Result<Vec<Result<Seen, Error>>, Error> {
        let paths: Vec<_> = nodes
            .iter()
            .map(|(lock, name)| format!("{lock}/{name}"))
            .collect();
        // Of the locks, each once.
        let mut locks: Vec<&str> = Vec::new();
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        for (lock, _) in nodes {
            numbers.entry(lock).or_insert_with(|| {
                locks.push(lock);
                locks.len() - 1
            });
        }
        let read = || async {
            let sent = Moment::now();
            let mut reader = self.client.new_multi_reader();
            reader.add_get_data(self.identity())?;
            for path in &paths {
                reader.add_get_data(path)?;
            }
            for lock in &locks {
                reader.add_get_children(lock)?;
            }
            // A server that was cut off from its leader shows znodes of sessions that have ended.
            let sync = (!self.is_proven()).then(|| self.client.sync(self.identity()));
            let (synced, answers) = join(OptionFuture::from(sync), reader.commit()).await;
            if let Some(synced) = synced {
                synced?;
                self.prove(sent);
            }
            answers
        };
        let answers = self.read(read).await?;
        if answers.len() != 1 + paths.len() + locks.len() {
            return Err(other());
        }
        let mut answers = answers.into_iter();
        let identity = match answers.next() {
            Some(Data { data, .. }) => Some(Arc::from(data)),
            _ => None,
        };
        let stats: Vec<_> = answers.by_ref().take(paths.len()).map(stat).collect();
        let queues: Vec<_> = answers.map(queue).collect();
        let seen = nodes.iter().zip(stats).map(|((lock, _), stat)| {
            Ok(Seen {
                stat: stat?,
                identity: identity.clone(),
                queue: queues[numbers[lock]].clone()?,
            })
        });
        Ok(seen.collect())
    }
}

fn stat(answer: MultiReadResult) -> Result<Stat, Error> {
    match answer {
        Data { stat, .. } => Ok(stat),
        MultiReadResult::Error { err } => Err(err),
        _ => Err(other()),
    }
}

fn queue(answer: MultiReadResult) -> Result<Arc<Queue>, Error> {
    match answer {
        Children { children } => Ok(Arc::new(Queue::new(children))),
        MultiReadResult::Error { err } => Err(err),
        _ => Err(other()),
    }
}

fn other() -> Error {
    Error::UnexpectedError("other answers than were asked for".to_owned())
}
