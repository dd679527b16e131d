//! The scenario `duplicate-token`: a Redis server forgets its last writes, as after a fail-over to a replica that did
//! not have them yet, and gives the same number to a second holder.
//!
//! A grant tells Redis the fence's mark, so that a counter that was lost goes on above it. For two holders to get one
//! number all the same, B has to look up the mark before A's grant has raised it: so A's grant is held up until then.

use anyhow::Context;
use redis::Client;
use url::Url;

use super::{
    Outcome,
    event::{Happening, Who},
    stage::Stage,
    stories::outcome,
    writer::Order,
};
use fencegate::{FenceName, connect::LOCK_PREFIX};

/// Plays it.
pub(super) async fn play(stage: &Stage) -> anyhow::Result<Outcome> {
    stage.a.seals.lock();
    let mut a = stage.start_a()?;
    let has_asked = |happening: &Happening| matches!(happening, Happening::Asks);
    a.until(has_asked).await?;
    stage.a.seals.reached().await;
    stage.note(Who::Demo, Happening::HeldUp);
    let mut b = stage.start_b()?;
    b.until(has_asked).await?;
    stage.b.looks.reached().await;
    stage.a.seals.unlock();
    a.until(|happening| matches!(happening, Happening::Read { .. }))
        .await?;

    forget(stage.servers.locks_url(), &stage.fence).await?;
    let how = "DEL of A's lock and of the counter".to_owned();
    stage.note(Who::Demo, Happening::LostWrites { how });
    b.finish().await?;
    a.order(Order::Write).await?;
    a.finish().await?;
    outcome(stage, &a, &b).await
}

/// Takes the fence's lock and its counter away, and nothing else.
async fn forget(url: &str, fence: &FenceName) -> anyhow::Result<()> {
    let (server, prefix) = server(url)?;
    let mut connection = Client::open(server)
        .context("the URL of the Redis server")?
        .get_multiplexed_async_connection()
        .await
        .context("connecting to the Redis server")?;
    let keys = [format!("{prefix}/{fence}"), format!("{prefix}//sequence/{fence}")];
    let _: i64 = redis::cmd("DEL").arg(&keys).query_async(&mut connection).await?;
    Ok(())
}

/// The server as its own clients name it, and the prefix of our keys.
fn server(url: &str) -> anyhow::Result<(String, String)> {
    let mut server = Url::parse(url).context("the URL of the Redis server")?;
    let prefix = server
        .query_pairs()
        .find_map(|(name, value)| (name == "prefix").then(|| value.trim_matches('/').to_owned()));
    server.set_query(None);
    Ok((
        server.to_string(),
        prefix.unwrap_or_else(|| LOCK_PREFIX.to_owned()),
    ))
}
