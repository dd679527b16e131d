//! Our znode in a fence's queue, from before it is created until it is surely gone.

use std::time::Duration;

use futures::future::join;
use uuid::Uuid;
use zookeeper_client::Error;

use super::session::Session;
use crate::lock::give_back;

/// The pause after a removal that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// A znode of ours. It is named as Curator names it in "protected" mode, with a UUID in front, so that it can be
/// found when the answer to its creation was lost.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) session: Session,
    /// The fence's znode.
    pub(super) lock: String,
    prefix: String,
    /// Its whole name, once that is known.
    pub(super) name: Option<String>,
}

/// Whether a znode was made by this process: the first half of the UUID is the same for all of those.
pub(super) fn is_of(process: Uuid, path: &str) -> bool {
    let uuid = path
        .rsplit("/_c_")
        .next()
        .and_then(|name| name.get(..36)?.parse::<Uuid>().ok());
    uuid.is_some_and(|uuid| uuid.as_u64_pair().0 == process.as_u64_pair().0)
}

impl Node {
    pub(super) fn new(session: Session, lock: String, process: Uuid) -> Self {
        let uuid = Uuid::from_u64_pair(process.as_u64_pair().0, Uuid::new_v4().as_u64_pair().1);
        Self {
            session,
            lock,
            prefix: format!("_c_{uuid}-lock-"),
            name: None,
        }
    }

    /// The path to create it with; ZooKeeper writes a number behind it.
    pub(super) fn create_path(&self) -> String {
        format!("{}/{}", self.lock, self.prefix)
    }

    /// Where it is, or was; `None` before it was created.
    pub(super) fn path(&self) -> Option<String> {
        self.name.as_ref().map(|name| format!("{}/{name}", self.lock))
    }

    /// Looks for it among the children of the fence's znode.
    pub(super) async fn find(&self) -> Result<Option<String>, Error> {
        let client = &self.session.client;
        // The creation may have gone through a server that is ahead of this one.
        let look = || async {
            let (synced, children) = join(client.sync(&self.lock), client.list_children(&self.lock)).await;
            synced.and(children)
        };
        match self.session.read(look).await {
            Err(Error::NoNode) => Ok(None),
            children => Ok(children?
                .into_iter()
                .find(|child| child.starts_with(&self.prefix))),
        }
    }

    /// Removes it, if it is there.
    pub(super) async fn remove(&self) -> Result<(), Error> {
        let path = match self.path() {
            Some(path) => path,
            None => match self.find().await? {
                Some(name) => format!("{}/{name}", self.lock),
                None => return Ok(()),
            },
        };
        match self.session.call(self.session.delete(path)).await {
            Err(Error::NoNode) => Ok(()),
            result => result,
        }
    }

    /// Removes it, however long that takes. It ends with its session in any case.
    pub(super) async fn remove_surely(self) {
        while !self.session.is_over() {
            match self.remove().await {
                Ok(()) => return,
                Err(error) => {
                    tracing::debug!(lock = self.lock, %error, "a znode could not be removed yet");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Removes a znode in the background when it is dropped, unless it was taken out.
pub(super) struct Place(Option<Node>);

impl Place {
    pub(super) fn new(node: Node) -> Self {
        Self(Some(node))
    }

    /// Leaves the znode where it is.
    pub(super) fn keep(mut self) -> Node {
        self.0.take().expect("it is taken out once, here")
    }

    /// Removes the znode now. What fails goes on in the background.
    pub(super) async fn leave(mut self) -> Result<(), Error> {
        self.remove().await?;
        self.0 = None;
        Ok(())
    }
}

impl std::ops::Deref for Place {
    type Target = Node;

    fn deref(&self) -> &Node {
        self.0.as_ref().expect("it is taken out last")
    }
}

impl std::ops::DerefMut for Place {
    fn deref_mut(&mut self) -> &mut Node {
        self.0.as_mut().expect("it is taken out last")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(node) = self.0.take() {
            give_back(node.remove_surely());
        }
    }
}
