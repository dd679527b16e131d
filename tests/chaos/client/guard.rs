//! Through leases and their transactions.

use fencegate::{GuardError, Guarded, Options};
use sqlx::{Postgres, Transaction};

use super::{Client, Hold, NO_ANSWER, SOON, Useless, number, soon, sql};
use crate::record::{Answer, Call, Cell, Place, Value};

type Open = Guarded<Transaction<'static, Postgres>>;

impl Client {
    pub(super) async fn lease(&mut self, fences: &[String]) -> Result<Hold, Useless> {
        let asked = self.next();
        self.asks(asked, Call::Grant(fences.to_vec()));
        let options = Options {
            ttl: self.world.spec.ttl,
            wait: SOON / 2,
            ..Options::default()
        };
        let locks = &self.world.locks;
        let granted = match fences {
            [fence] => soon(locks.acquire_with(fence.as_str(), options))
                .await
                .map(Hold::Lease),
            fences => {
                let names = fences.iter().map(String::as_str);
                soon(locks.acquire_many(names, options)).await.map(Hold::Leases)
            }
        };
        match granted {
            Ok(hold) => {
                self.hears(asked, Answer::Granted(hold.numbers()));
                Ok(hold)
            }
            Err(why) => {
                self.hears(asked, Answer::Unknown(why));
                Err(Useless)
            }
        }
    }

    pub(super) async fn end_lease(&mut self, hold: Hold) {
        let asked = self.next();
        self.asks(asked, Call::Release(hold.numbers()));
        let released = match hold {
            Hold::Lease(lease) => soon(lease.release()).await,
            Hold::Leases(leases) => soon(leases.release()).await,
            Hold::Tokens(_) => unreachable!("from a gateway"),
        };
        let answer = match released {
            Ok(()) => Answer::Done,
            Err(why) => Answer::Unknown(why),
        };
        self.hears(asked, answer);
    }

    pub(super) async fn begin(&self, hold: &Hold) -> Result<Open, String> {
        match hold {
            Hold::Lease(lease) => soon(lease.begin(&self.world.pool)).await,
            Hold::Leases(leases) => soon(leases.begin(&self.world.pool)).await,
            Hold::Tokens(_) => unreachable!("from a gateway"),
        }
    }

    pub(super) async fn read_guarded(&mut self, hold: &Hold, place: &Place) -> Result<Option<Value>, String> {
        let mut transaction = self.begin(hold).await?;
        let read = soon(sql::read(&mut transaction, place)).await?;
        let _ = soon(transaction.rollback()).await;
        Ok(read)
    }

    pub(super) async fn write_guarded(&mut self, hold: &Hold, cells: &[Cell]) -> Answer {
        match self.begin(hold).await {
            Ok(transaction) => write(transaction, hold, cells).await,
            Err(why) => Answer::Refused(why),
        }
    }
}

/// The rest of a transaction that has passed the guard.
pub(super) async fn write(mut transaction: Open, hold: &Hold, cells: &[Cell]) -> Answer {
    for cell in cells {
        let under = Some(number(&hold.token(&cell.place.fence)));
        if let Err(why) = soon(sql::write(&mut transaction, cell, under)).await {
            return Answer::Refused(why);
        }
    }
    match tokio::time::timeout(SOON, transaction.commit()).await {
        Ok(Ok(())) => Answer::Done,
        Ok(Err(error @ GuardError::LeaseLost)) => Answer::Refused(error.to_string()),
        Ok(Err(error)) => Answer::Unknown(error.to_string()),
        Err(_) => Answer::Unknown(NO_ANSWER.into()),
    }
}
