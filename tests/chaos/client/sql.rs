//! Through SQL on a plain connection: `fencegate.enter` and the write, or, where the fence is off, the write alone.

use sqlx::{Connection, PgConnection};

use super::{Client, Hold, NO_ANSWER, SOON, Useless, guard, number, soon};
use crate::record::{Answer, Call, Cell, Number, Place, Value};

/// What is there, in the store's own table.
pub(super) async fn read(connection: &mut PgConnection, place: &Place) -> sqlx::Result<Option<Value>> {
    read_from(
        connection,
        "select value from fencegate.record where fence = $1 and key = $2",
        place,
    )
    .await
}

async fn read_from(
    connection: &mut PgConnection,
    statement: &'static str,
    place: &Place,
) -> sqlx::Result<Option<Value>> {
    let read: Option<Vec<u8>> = sqlx::query_scalar(statement)
        .bind(&place.fence)
        .bind(&place.key)
        .fetch_optional(connection)
        .await?;
    Ok(read.map(|bytes| serde_json::from_slice(&bytes).unwrap()))
}

/// Into the store's own table, as the gateway writes; or past the fence, where there is no token.
pub(super) async fn write(
    connection: &mut PgConnection,
    cell: &Cell,
    under: Option<Number>,
) -> sqlx::Result<()> {
    let value = serde_json::to_vec(&cell.value).unwrap();
    let place = &cell.place;
    let statement = match under {
        Some(_) => {
            "insert into fencegate.record as r (fence, key, value, content_type, version, epoch, sequence)
             values ($1, $2, $3, 'application/json', nextval('fencegate.record_version'), $4, $5)
             on conflict (fence, key) do update set value = excluded.value, version = excluded.version,
                 epoch = excluded.epoch, sequence = excluded.sequence, updated_at = clock_timestamp()"
        }
        None => {
            "insert into chaos.plain (fence, key, value) values ($1, $2, $3)
             on conflict (fence, key) do update set value = excluded.value"
        }
    };
    let mut query = sqlx::query(statement)
        .bind(&place.fence)
        .bind(&place.key)
        .bind(value);
    if let Some((epoch, sequence)) = under {
        query = query.bind(epoch).bind(sequence);
    }
    query.execute(connection).await.map(drop)
}

impl Client {
    pub(super) async fn read_by_sql(&mut self, hold: &Hold, place: &Place) -> Result<Option<Value>, String> {
        let mut connection = self.open(hold).await?;
        let read = match self.history.fenced {
            true => soon(read(&mut connection, place)).await?,
            false => soon(read_plain(&mut connection, place)).await?,
        };
        if soon(sqlx::query("rollback").execute(&mut connection))
            .await
            .is_ok()
        {
            self.connection = Some(connection);
        }
        Ok(read)
    }

    pub(super) async fn write_by_sql(&mut self, hold: &Hold, cells: &[Cell]) -> Answer {
        match self.open(hold).await {
            Ok(connection) => self.write_and_commit(connection, hold, cells).await,
            Err(why) => Answer::Refused(why),
        }
    }

    /// Read, compute and write, in one transaction.
    pub(super) async fn change_at_once(&mut self, hold: &Hold, places: Vec<Place>) -> Result<(), Useless> {
        enum Open {
            Guarded(fencegate::Guarded<sqlx::Transaction<'static, sqlx::Postgres>>),
            Plain(PgConnection),
        }
        let fenced = self.history.fenced;
        let mut open = match self.way == super::Way::Guard && fenced {
            true => Open::Guarded(self.begin(hold).await.map_err(|_| Useless)?),
            false => Open::Plain(self.open(hold).await.map_err(|_| Useless)?),
        };
        let mut values = Vec::new();
        for place in &places {
            let asked = self.next();
            self.asks(asked, Call::Read(place.clone()));
            let value = match &mut open {
                Open::Guarded(transaction) => soon(read(transaction, place)).await,
                Open::Plain(connection) if fenced => soon(read(connection, place)).await,
                Open::Plain(connection) => soon(read_plain(connection, place)).await,
            };
            let answer = match &value {
                Ok(value) => Answer::Read(value.as_ref().map(|value| value.op.clone())),
                Err(why) => Answer::Refused(why.clone()),
            };
            self.hears(asked, answer);
            values.push(value.map_err(|_| Useless)?);
        }
        self.compute(hold).await?;
        let asked = self.next();
        let cells = self.computed(places, values, asked);
        let under = if fenced { hold.numbers() } else { Vec::new() };
        let call = Call::Write {
            cells: cells.clone(),
            under,
        };
        self.asks(asked, call);
        let answer = match open {
            Open::Guarded(transaction) => guard::write(transaction, hold, &cells).await,
            Open::Plain(connection) => self.write_and_commit(connection, hold, &cells).await,
        };
        let well = matches!(answer, Answer::Done);
        self.hears(asked, answer);
        if well { Ok(()) } else { Err(Useless) }
    }

    /// In a transaction, in which every fence of the hold is entered, unless the fence is off.
    async fn open(&mut self, hold: &Hold) -> Result<PgConnection, String> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => soon(PgConnection::connect(&self.world.spec.store)).await?,
        };
        soon(sqlx::query("begin").execute(&mut connection)).await?;
        if self.history.fenced {
            for (fence, token) in hold.tokens() {
                let enter = sqlx::query("select fencegate.enter($1, $2)");
                let enter = enter.bind(fence.to_string()).bind(token.expose());
                soon(enter.execute(&mut connection)).await?;
            }
        }
        Ok(connection)
    }

    async fn write_and_commit(
        &mut self,
        mut connection: PgConnection,
        hold: &Hold,
        cells: &[Cell],
    ) -> Answer {
        for cell in cells {
            let token = self
                .history
                .fenced
                .then(|| number(&hold.token(&cell.place.fence)));
            // A connection that is dropped before it was asked to commit does not commit.
            if let Err(why) = soon(write(&mut connection, cell, token)).await {
                return Answer::Refused(why);
            }
        }
        match tokio::time::timeout(SOON, sqlx::query("commit").execute(&mut connection)).await {
            Ok(Ok(_)) => {
                self.connection = Some(connection);
                Answer::Done
            }
            Ok(Err(error)) => Answer::Unknown(error.to_string()),
            Err(_) => Answer::Unknown(NO_ANSWER.into()),
        }
    }
}

pub(super) async fn read_plain(connection: &mut PgConnection, place: &Place) -> sqlx::Result<Option<Value>> {
    read_from(
        connection,
        "select value from chaos.plain where fence = $1 and key = $2",
        place,
    )
    .await
}
