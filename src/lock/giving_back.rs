//! Giving back in the background: what remains to be done when a future or a lease is dropped.
//!
//! Nobody is left who could do it once more, so it is done again and again: a lock that is held by nobody locks everybody
//! out for as long as its TTL.

use std::{fmt, sync::LazyLock, time::Duration};

use tokio_util::task::TaskTracker;

use crate::{clock::Moment, name::FenceName};

/// The pauses before giving back is tried again: at first, and at last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How long one try may take. What it waits for may never come.
const TRY: Duration = Duration::from_secs(15);

/// All of this process. Closed, so that waiting for it ends whenever there is nothing left.
static UNDER_WAY: LazyLock<TaskTracker> = LazyLock::new(|| {
    let tasks = TaskTracker::new();
    tasks.close();
    tasks
});

/// Does it in the background; not at all where no runtime is left to do it.
pub(crate) fn give_back(work: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        UNDER_WAY.spawn_on(work, &runtime);
    }
}

/// Tries until it is done, or `moot`: then what it would end has ended by itself.
pub(crate) async fn until_done<E: fmt::Display, F: Future<Output = Result<(), E>>>(
    name: &FenceName,
    moot: Moment,
    work: impl Fn() -> F,
) {
    let mut pause = PAUSES.0;
    loop {
        let error = match tokio::time::timeout(TRY, work()).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no end within {} s", TRY.as_secs()),
        };
        if moot.has_passed() {
            tracing::warn!(fence = %name, error, "a lock that nobody wanted any more stayed until it expired");
            return;
        }
        tracing::debug!(fence = %name, error, "a lock could not be given back yet");
        tokio::time::sleep(pause.min(moot.remaining())).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Ends once nothing is being given back in this process any more. A program that drops leases, or stops waiting
/// for some, and then ends should wait for this first: what it does not give back lasts until it expires. While a lock
/// service is out of reach that can take as long as its leases last, so wait with a limit.
///
/// # Cancel safety
/// Yes.
pub async fn given_back() {
    UNDER_WAY.wait().await;
}
