//! The table of rejections.

use std::time::Duration;

use sqlx::{PgPool, Row, postgres::PgRow};
use time::OffsetDateTime;

use super::super::StoreError;
use crate::{
    database::postgres as database,
    name::FenceName,
    rejections::{Noted, Rejection},
};

pub(super) async fn note(pool: &PgPool, noted: &[Noted]) -> Result<(), StoreError> {
    let Some(first) = noted.first() else { return Ok(()) };
    let now = OffsetDateTime::now_utc();
    let texts = |of: fn(&Noted) -> String| noted.iter().map(of).collect::<Vec<_>>();
    let numbers = |of: &dyn Fn(&Noted) -> i64| noted.iter().map(of).collect::<Vec<_>>();
    // It counts, so it is not asked twice; the connection that it is begun on lives.
    let mut transaction = database::begin(pool).await?;
    sqlx::query("select fencegate.record_rejections($1, $2, $3, $4, $5, $6, $7, $8)")
        .persistent(false)
        .bind(first.source.as_str())
        .bind(texts(|noted| noted.who.clone()))
        .bind(texts(|noted| noted.fence.to_string()))
        .bind(texts(|noted| noted.reason.as_str().to_owned()))
        .bind(texts(|noted| noted.presented.clone()))
        .bind(noted.iter().map(|noted| noted.mark.clone()).collect::<Vec<_>>())
        .bind(numbers(&|noted| {
            (now - noted.at).whole_milliseconds().max(0) as i64
        }))
        .bind(numbers(&|noted| i64::try_from(noted.count).unwrap_or(i64::MAX)))
        .execute(&mut *transaction)
        .await?;
    Ok(transaction.commit().await?)
}

pub(super) async fn newest(
    pool: &PgPool,
    fence: Option<&FenceName>,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<Rejection>, StoreError> {
    let rows = database::rows(pool, || {
        sqlx::query(
            "select id, at, fence, reason, presented, mark,
                    (extract(epoch from late) * 1000)::bigint as late_ms, source, who, relation, count
               from fencegate.rejection where ($1::text is null or fence = $1) and id < $2
              order by id desc limit $3",
        )
        .bind(fence.map(FenceName::as_str))
        .bind(before.unwrap_or(i64::MAX))
        .bind(i64::from(limit))
    })
    .await?;
    rows.iter().map(read).collect()
}

fn read(row: &PgRow) -> Result<Rejection, StoreError> {
    let late: Option<i64> = row.try_get("late_ms")?;
    Ok(Rejection {
        id: row.try_get("id")?,
        at: row.try_get("at")?,
        fence: row.try_get("fence")?,
        reason: row.try_get("reason")?,
        presented: row.try_get("presented")?,
        mark: row.try_get("mark")?,
        late: late.map(|ms| Duration::from_millis(ms.max(0).unsigned_abs())),
        source: row.try_get("source")?,
        who: row.try_get("who")?,
        relation: row.try_get("relation")?,
        count: row.try_get("count")?,
    })
}
