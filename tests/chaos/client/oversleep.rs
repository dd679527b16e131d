//! The worst that can be: a client reads, looks at its clock, and wakes up when somebody else has written, under a newer lease,
//! to write what it had computed. One in each process begins with that, with the fence on and with it off. Luck may
//! bring it about as well, but not under every fault in every run.

use std::{fs::File, io::Write, path::PathBuf, time::Duration};

use sqlx::{Connection, PgConnection};

use super::{Client, Spec, Useless, World, soon, sql};
use crate::record::{LIST, Place, Value};

const LOOK: Duration = Duration::from_millis(20);

impl World {
    /// For the round, which gives the sleepers time.
    fn note_awake(&self, client: &str) {
        let file = File::options().create(true).append(true).open(self.spec.awake());
        writeln!(file.unwrap(), "{client}").unwrap();
    }
}

impl Spec {
    /// Where those are noted who have overslept.
    fn awake(&self) -> PathBuf {
        self.journal.with_extension("awake")
    }

    /// Whether all of this process have.
    pub fn are_awake(&self) -> bool {
        let awake = std::fs::read_to_string(self.awake()).unwrap_or_default();
        awake.lines().count() >= self.histories.iter().filter(|history| !history.is_alone).count()
    }
}

impl Client {
    /// Once, and again where a fault comes between.
    pub(super) async fn oversleep(&mut self) {
        // Those of the two processes do not keep each other waiting.
        let second = self.world.spec.process.as_bytes()[0].is_multiple_of(2);
        let fence = self.history.fences[usize::from(second)].clone();
        while !self.is_to_stop() && self.sleep_through(&fence).await.is_err() {
            self.pause(10, 60).await;
        }
        self.world.note_awake(&self.name);
    }

    async fn sleep_through(&mut self, fence: &str) -> Result<(), Useless> {
        let hold = self.grant(&[fence.to_owned()]).await?;
        let place = Place {
            fence: fence.to_owned(),
            key: LIST.to_owned(),
        };
        let found = self.read(&hold, &place).await?;
        if hold.is_over() {
            return Err(Useless);
        }
        self.until_overwritten(&place, &found).await?;
        let number = self.next();
        let cells = self.computed(vec![place], vec![found], number);
        // With the fence on it is refused, as it has to be.
        let _ = self.write(&hold, number, cells).await;
        self.release(hold).await;
        Ok(())
    }

    /// Looks past everything, which is no part of the history.
    async fn until_overwritten(&self, place: &Place, found: &Option<Value>) -> Result<(), Useless> {
        let mut connection = None;
        while !self.is_to_stop() {
            let there = match &mut connection {
                None => match soon(PgConnection::connect(&self.world.spec.store)).await {
                    Ok(open) => {
                        connection = Some(open);
                        continue;
                    }
                    Err(why) => Err(why),
                },
                Some(open) if self.history.fenced => soon(sql::read(open, place)).await,
                Some(open) => soon(sql::read_plain(open, place)).await,
            };
            match there {
                Ok(there) if there != *found => return Ok(()),
                Ok(_) => {}
                Err(_) => connection = None,
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(Useless)
    }
}
