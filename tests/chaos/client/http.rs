//! Through the gateways.

use fencegate::{
    FenceName, RecordKey,
    client::{AcquireOptions, ClientError, IdempotencyKey, Transaction, WriteOptions},
    store::{Condition, Value as Bytes},
};

use super::{Client, Hold, Leased, NO_ANSWER, SOON, Useless, number, soon};
use crate::record::{Answer, Call, Cell, Place, Value};

const JSON: &str = "application/json";

impl Client {
    pub(super) async fn lease_by_http(&mut self, fence: &str) -> Result<Leased, Useless> {
        let name: FenceName = fence.parse().unwrap();
        let asked = self.next();
        self.asks(asked, Call::Grant(vec![fence.into()]));
        let options = AcquireOptions {
            ttl: Some(self.world.spec.ttl),
            wait: Some(SOON / 2),
            ..AcquireOptions::default()
        };
        match soon(self.world.gateways[self.home].grant(&name, &options)).await {
            Ok(granted) => {
                let answer = Answer::Granted(vec![(fence.into(), number(&granted.token))]);
                self.hears(asked, answer);
                Ok((name, granted.token, granted.deadline))
            }
            Err(why) => {
                self.hears(asked, Answer::Unknown(why));
                self.home = (self.home + 1) % self.world.gateways.len();
                Err(Useless)
            }
        }
    }

    pub(super) async fn renew_by_http(&mut self, tokens: &mut [Leased]) -> Result<(), Useless> {
        for (fence, token, deadline) in tokens {
            let asked = self.next();
            self.asks(asked, Call::Renew(fence.to_string(), number(token)));
            match soon(self.world.gateways[self.home].renew(fence, token)).await {
                Ok(renewed) => {
                    *deadline = renewed.deadline;
                    self.hears(asked, Answer::Done);
                }
                Err(why) => {
                    self.hears(asked, Answer::Unknown(why));
                    return Err(Useless);
                }
            }
        }
        Ok(())
    }

    pub(super) async fn release_by_http(&mut self, tokens: Vec<Leased>) {
        for (fence, token, _) in tokens {
            let asked = self.next();
            self.asks(asked, Call::Release(vec![(fence.to_string(), number(&token))]));
            let answer = match soon(self.world.gateways[self.home].release(&fence, &token)).await {
                Ok(()) => Answer::Done,
                Err(why) => Answer::Unknown(why),
            };
            self.hears(asked, answer);
        }
    }

    /// With the token or without: a holder's reads find the same.
    pub(super) async fn read_by_http(&mut self, hold: &Hold, place: &Place) -> Result<Option<Value>, String> {
        let gateway = self.any_gateway();
        let (fence, key) = names(place);
        let read = match self.rng.percent(60) {
            true => soon(gateway.read_under(&fence, &hold.token(&place.fence), &key)).await?,
            false => soon(gateway.read(&fence, &key)).await?,
        };
        Ok(read.map(|record| serde_json::from_slice(&record.value.bytes).unwrap()))
    }

    /// Mostly under an idempotency key, and again under the same one where the answer is lost.
    pub(super) async fn write_by_http(&mut self, hold: &Hold, cells: &[Cell]) -> Answer {
        let with_key = if self.history.is_alone { 30 } else { 65 };
        let once = self.rng.percent(with_key).then(IdempotencyKey::random);
        let mut lost = None;
        for _ in 0..if once.is_some() { 3 } else { 1 } {
            let gateway = self.any_gateway();
            let asked = async {
                match cells {
                    [cell] => {
                        let (fence, key) = names(&cell.place);
                        let token = hold.token(&cell.place.fence);
                        let once = once.clone();
                        let options = WriteOptions {
                            once,
                            ..WriteOptions::default()
                        };
                        gateway
                            .put(&fence, &token, &key, bytes(cell), options)
                            .await
                            .map(drop)
                    }
                    cells => {
                        let mut transaction = Transaction::new();
                        for cell in cells {
                            let (fence, key) = names(&cell.place);
                            let token = hold.token(&cell.place.fence);
                            transaction = transaction.under(&fence, &token).put(
                                &fence,
                                &key,
                                bytes(cell),
                                Condition::Always,
                            );
                        }
                        gateway.transact(&transaction, once.as_ref()).await.map(drop)
                    }
                }
            };
            match tokio::time::timeout(SOON, asked).await {
                Ok(Ok(())) => return Answer::Done,
                Ok(Err(error)) if is_unknown(&error) => lost = Some(error.to_string()),
                // Once it is lost, only a token that is dead says that it has not happened, and never will.
                Ok(Err(error)) if lost.is_none() || error.is_fenced() => {
                    return Answer::Refused(error.to_string());
                }
                Ok(Err(_)) => {}
                Err(_) => lost = Some(NO_ANSWER.into()),
            }
            self.pause(0, 60).await;
        }
        Answer::Unknown(lost.unwrap_or_default())
    }

    fn any_gateway(&mut self) -> fencegate::client::Client {
        let gateways = &self.world.gateways;
        gateways[self.rng.below(gateways.len() as u64) as usize].clone()
    }
}

fn is_unknown(error: &ClientError) -> bool {
    error.is_outcome_unknown()
}

fn names(place: &Place) -> (FenceName, RecordKey) {
    (place.fence.parse().unwrap(), place.key.parse().unwrap())
}

fn bytes(cell: &Cell) -> Bytes {
    Bytes {
        bytes: serde_json::to_vec(&cell.value).unwrap(),
        content_type: JSON.into(),
    }
}
