//! A clock for deadlines: it never jumps, and it counts the time that the machine was suspended.
//!
//! [`std::time::Instant`] stops while a laptop or a virtual machine sleeps; a lease does not.

use std::time::Duration;

/// A moment on the clock of this boot of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// Now.
    pub fn now() -> Self {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;
        let now = rustix::time::clock_gettime(CLOCK);
        Self(Duration::new(now.tv_sec as u64, now.tv_nsec as u32))
    }

    /// How long from now until then; zero once it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_sub(Self::now().0)
    }

    /// Whether it has passed.
    pub fn has_passed(self) -> bool {
        self.remaining().is_zero()
    }

    /// How long ago it was; zero if it is yet to come.
    pub fn elapsed(self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

/// The boot of this machine, and how long it has been running: a clock that all its processes share.
///
/// Where the system does not name its boots, the time since 1970 stands in.
pub fn boot() -> (&'static str, Duration) {
    static BOOT: std::sync::LazyLock<Option<String>> = std::sync::LazyLock::new(|| {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(id.trim().to_owned())
    });
    match &*BOOT {
        Some(id) => (id, Moment::now().0),
        None => (
            "",
            std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default(),
        ),
    }
}
