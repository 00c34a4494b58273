//! Deferred wake-ups: those that a signal handler asks for, which may have interrupted
//! a change of what they would change.

use super::current::CurrentTask;
use super::ends;
use super::worker::Worker;
use crate::util::no_park::NoPark;

/// Whether a wake-up may be made here and now. Not in a no-park scope, and not where a
/// worker's own code runs: the caller may be a signal handler that has interrupted it.
/// Then it is left to the workers ([`wake_later`]).
#[cfg(all(
    feature = "futex",
    target_env = "gnu",
    not(target_feature = "crt-static")
))]
pub(crate) fn may_wake() -> bool {
    !NoPark::is_active() && (Worker::current().is_none() || CurrentTask::present())
}

/// Has the workers make the wake-ups that were deferred. Lock-free, for signal
/// handlers; leaves errno alone.
#[cfg(all(
    feature = "futex",
    target_env = "gnu",
    not(target_feature = "crt-static")
))]
pub(crate) fn wake_later() {
    ends::log(ends::DEFERRED);
}
