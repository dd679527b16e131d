//! Waiting for a condition with a limit, in place of sleeping for a time that is too short on a busy
//! machine and too long on an idle one.

use std::panic::Location;
use std::time::{Duration, Instant};

/// Long enough for anything that a healthy but busy machine does.
pub const PATIENCE: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(10);

/// Asks again and again until the condition holds; fails the test, naming the caller's line, if it does
/// not within the limit.
#[track_caller]
pub fn eventually<C>(limit: Duration, mut condition: C) -> impl Future<Output = ()>
where
    C: AsyncFnMut() -> bool,
{
    let caller = Location::caller();
    async move {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now()).max(PAUSE);
            // A condition that hangs is one that does not hold.
            if let Ok(true) = tokio::time::timeout(left, condition()).await {
                return;
            }
            assert!(
                Instant::now() < end,
                "the condition at {caller} did not hold within {limit:?}"
            );
            tokio::time::sleep(PAUSE).await;
        }
    }
}
