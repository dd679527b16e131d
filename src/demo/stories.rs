//! What happens in each scenario. Each is played twice, with the guard and without; both are the same but for that.

use anyhow::{Context, bail};

use super::{
    Late, Outcome, Scenario,
    child::Child,
    event::{Happening, Who},
    proxy::Detour,
    stage::Stage,
    writer::Order,
};
use fencegate::lock::Kind;

/// Plays a scenario.
pub(super) async fn play(
    scenario: Scenario,
    stage: &Stage,
    detour: Option<&Detour>,
) -> anyhow::Result<Outcome> {
    match (scenario, detour) {
        (Scenario::Pause, _) => pause(stage).await,
        (Scenario::Partition, Some(detour)) => partition(stage, detour).await,
        (Scenario::Partition, None) => bail!("a partition without a way that can be cut"),
        (Scenario::Clock, _) => clock(stage).await,
        #[cfg(feature = "postgres")]
        (Scenario::Crash, _) => super::crash::play(stage).await,
        #[cfg(feature = "redis")]
        (Scenario::DuplicateToken, _) => super::forgetting::play(stage).await,
        #[allow(
            unreachable_patterns,
            reason = "a build with every service has every scenario"
        )]
        _ => bail!("this build has no such service"),
    }
}

fn has_read(happening: &Happening) -> bool {
    matches!(happening, Happening::Read { .. })
}

/// A is stopped between reading and writing, until its lease is over and B has written.
async fn pause(stage: &Stage) -> anyhow::Result<Outcome> {
    let mut a = stage.start_a()?;
    a.until(has_read).await?;
    a.stop().await?;
    stage.note(Who::Demo, Happening::Stopped);
    // It cannot see this before it is woken.
    a.order(Order::Write).await?;
    let mut b = stage.start_b()?;
    b.finish().await?;
    stage.note(Who::Demo, Happening::Woken);
    a.wake()?;
    a.finish().await?;
    outcome(stage, &a, &b).await
}

/// A's way to the lock service is cut, so A cannot renew; its way to the store is not.
async fn partition(stage: &Stage, detour: &Detour) -> anyhow::Result<Outcome> {
    let mut a = stage.start_a()?;
    a.until(has_read).await?;
    detour.cut();
    stage.note(Who::Demo, Happening::Cut);
    a.order(Order::Renew).await?;
    let mut b = stage.start_b()?;
    let noticed = a.until(|happening| matches!(happening, Happening::NotRenewed { .. }));
    let (noticed, done) = tokio::join!(noticed, b.finish());
    noticed?;
    done?;
    a.order(Order::Write).await?;
    a.until(|happening| matches!(happening, Happening::Wrote { .. } | Happening::Refused { .. }))
        .await?;
    detour.mend();
    stage.note(Who::Demo, Happening::Mended);
    a.finish().await?;
    outcome(stage, &a, &b).await
}

/// The lock service lets A's lock go long before its time.
async fn clock(stage: &Stage) -> anyhow::Result<Outcome> {
    let mut a = stage.start_a()?;
    a.until(has_read).await?;
    let claim = stage.holding.claim().context("A holds the lock")?;
    // The same as an expiry does to the service's state, and to nothing else: the token stays as it is.
    stage.own.service().release(&claim).await?;
    let how = let_go(stage.own.service().kind()).to_owned();
    stage.note(Who::Demo, Happening::ClockJumped { how });
    let mut b = stage.start_b()?;
    b.finish().await?;
    a.order(Order::Write).await?;
    a.finish().await?;
    outcome(stage, &a, &b).await
}

/// How a lock service lets a lock go.
fn let_go(kind: Kind) -> &'static str {
    match kind {
        Kind::Etcd => "its key and its etcd lease are gone",
        Kind::Zookeeper => "its znode is deleted",
        Kind::Redis => "its key is deleted",
        Kind::Redlock => "deleted on every instance",
        _ => "its row says that nobody holds it",
    }
}

/// What came of A's late write, and of everybody's updates.
pub(super) async fn outcome(stage: &Stage, a: &Child, b: &Child) -> anyhow::Result<Outcome> {
    let late = a.happened().iter().find_map(|happening| match happening {
        Happening::Refused { problem, .. } => Some(Late::Refused(problem.clone())),
        Happening::Wrote { .. } => Some(Late::Accepted),
        _ => None,
    });
    Ok(Outcome {
        acknowledged: acknowledged([a, b]),
        kept: stage.ledger().await?.into_iter().collect(),
        late: late.context("A never tried to write")?,
    })
}

/// The entries of which their writers were told that they are written.
pub(super) fn acknowledged(writers: [&Child; 2]) -> Vec<String> {
    let happened = writers.into_iter().flat_map(Child::happened);
    let added = happened.filter_map(|happening| match happening {
        Happening::Wrote { added, .. } => Some(added.clone()),
        _ => None,
    });
    added.collect()
}
