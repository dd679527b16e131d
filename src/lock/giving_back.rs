//! Giving back in the background: what remains to be done when a future or a lease is dropped.

use std::sync::LazyLock;

use tokio_util::task::TaskTracker;

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

/// Ends once nothing is being given back in this process any more. A program that drops leases, or stops waiting
/// for some, and then ends should wait for this first: what it does not give back lasts until it expires.
///
/// # Cancel safety
/// Yes.
pub async fn given_back() {
    UNDER_WAY.wait().await;
}
