//! Transactions of several fences in one: what one process asks of etcd at the same time costs it one request, one
//! entry of its log, and one turn of its database.
//!
//! etcd compares for all of a transaction before it does any of it, for what is nested in it as well. So there is one of
//! each fence at most: what is compared is its fence's own, or the identity, which is written by itself.

use std::{
    collections::{HashSet, VecDeque},
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use etcd_client::{Client, Error, Txn, TxnOp, TxnOpResponse, TxnResponse};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

use super::{
    client::{LIMIT, may_pass},
    members::Members,
};
use crate::name::FenceName;

/// The most in one; etcd allows 128 unless told otherwise.
const MOST: usize = 64;
/// How many requests may be under way before what comes is gathered. Few wait for nobody.
const UNDER_WAY: usize = 4;
/// How long a request counts as under way: a member that hangs must not hold the others up.
const AT_MOST: Duration = Duration::from_millis(200);

/// What a transaction came to.
#[derive(Debug)]
pub(in crate::lock) struct Answer {
    pub(super) cluster: u64,
    /// The revision of what it wrote, if it wrote.
    pub(super) revision: i64,
    pub(super) succeeded: bool,
    pub(super) responses: Vec<TxnOpResponse>,
    /// Whether it was asked for more than once, and may be done once more, later.
    pub(super) repeated: bool,
}

impl Answer {
    pub(super) fn new(answer: &TxnResponse) -> Self {
        Self::within(answer, answer)
    }

    /// Of one that was nested in another.
    fn within(outer: &TxnResponse, answer: &TxnResponse) -> Self {
        let header = outer.header();
        Self {
            cluster: header.map_or(0, |header| header.cluster_id()),
            revision: header.map_or(0, |header| header.revision()),
            succeeded: answer.succeeded(),
            responses: answer.op_responses(),
            repeated: false,
        }
    }
}

struct Item {
    fence: FenceName,
    txn: Txn,
    answer: oneshot::Sender<Result<Answer, Error>>,
}

impl Item {
    /// `repeated` if it was sent before, and may be done yet.
    async fn send(mut self, etcd: Client, repeated: bool) {
        let txn = std::mem::take(&mut self.txn);
        let answer = etcd.kv_client().txn(txn).await;
        self.tell(answer.map(|answer| Answer {
            repeated,
            ..Answer::new(&answer)
        }));
    }

    fn tell(self, answer: Result<Answer, Error>) {
        // Whoever asked may have gone.
        let _ = self.answer.send(answer);
    }
}

/// Sends transactions, those that come while others are under way together. Clones share it.
#[derive(Clone)]
pub(super) struct Together {
    members: Members,
    places: Arc<Semaphore>,
    /// To the task that sends. It ends with the runtime of whoever came first, and then there is another one.
    queue: Arc<Mutex<Option<mpsc::UnboundedSender<Item>>>>,
}

impl Together {
    pub(super) fn new(members: Members) -> Self {
        Self {
            members,
            places: Arc::new(Semaphore::new(UNDER_WAY)),
            queue: Arc::default(),
        }
    }

    /// Whoever calls may do so again if there is no answer: the transaction may then be done already, or twice.
    ///
    /// # Cancel safety
    /// It may or may not be done.
    pub(super) async fn txn(&self, etcd: &Client, fence: &FenceName, txn: Txn) -> Result<Answer, Error> {
        // Whoever waits for a place gets it first.
        if let Ok(place) = self.places.try_acquire() {
            let mut etcd = etcd.kv_client();
            let answer = under_way(place, etcd.txn(txn)).await?;
            return Ok(Answer::new(&answer));
        }
        let (answer, answered) = oneshot::channel();
        let item = Item {
            fence: fence.clone(),
            txn,
            answer,
        };
        let gone = || Error::IoError(std::io::Error::other("the task that sends has ended"));
        self.queue().send(item).map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    fn queue(&self) -> mpsc::UnboundedSender<Item> {
        let mut queue = self
            .queue
            .lock()
            .expect("nothing panics while it holds the queue");
        match &*queue {
            Some(queue) if !queue.is_closed() => queue.clone(),
            _ => {
                let (sender, items) = mpsc::unbounded_channel();
                tokio::spawn(run(self.members.clone(), self.places.clone(), items));
                queue.insert(sender).clone()
            }
        }
    }
}

/// Waits for an answer, and gives the place up when there is one or it takes too long.
async fn under_way<T>(place: impl Send, answer: impl Future<Output = T>) -> T {
    let mut answer = pin!(answer);
    match timeout(AT_MOST, &mut answer).await {
        Ok(answer) => answer,
        Err(_) => {
            drop(place);
            answer.await
        }
    }
}

async fn run(members: Members, places: Arc<Semaphore>, mut queue: mpsc::UnboundedReceiver<Item>) {
    let mut waiting = VecDeque::new();
    loop {
        if waiting.is_empty() {
            match queue.recv().await {
                Some(item) => waiting.push_back(item),
                None => return,
            }
        }
        let place = places.clone().acquire_owned().await.expect("it is never closed");
        while let Ok(item) = queue.try_recv() {
            waiting.push_back(item);
        }
        let batch = gather(&mut waiting);
        let sent = send(members.present().1.clone(), batch);
        // Whoever asked has given up by then.
        tokio::spawn(under_way(place, timeout(LIMIT, sent)));
    }
}

/// Takes the next ones of different fences. Whoever asked for one and has gone needs no answer.
fn gather(waiting: &mut VecDeque<Item>) -> Vec<Item> {
    let (mut batch, mut fences, mut later) = (Vec::new(), HashSet::new(), VecDeque::new());
    while let Some(item) = waiting.pop_front() {
        if item.answer.is_closed() {
            continue;
        }
        if batch.len() < MOST && fences.insert(item.fence.clone()) {
            batch.push(item);
        } else {
            later.push_back(item);
        }
    }
    *waiting = later;
    batch
}

async fn send(etcd: Client, mut batch: Vec<Item>) {
    if batch.len() > 1 {
        let all: Vec<_> = batch.iter().map(|item| TxnOp::txn(item.txn.clone())).collect();
        match etcd.kv_client().txn(Txn::new().and_then(all)).await {
            Ok(answer) => {
                for (item, response) in batch.into_iter().zip(answer.op_responses()) {
                    if let TxnOpResponse::Txn(own) = response {
                        item.tell(Ok(Answer::within(&answer, &own)));
                    }
                }
            }
            // One of them may be what cannot be done, and is to fail alone.
            Err(error) => {
                let repeated = may_pass(&error);
                for item in batch {
                    tokio::spawn(timeout(LIMIT, item.send(etcd.clone(), repeated)));
                }
            }
        }
    } else if let Some(item) = batch.pop() {
        item.send(etcd, false).await;
    }
}
