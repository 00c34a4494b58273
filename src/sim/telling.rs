//! Clocks and chance, as programs are told of them.

use std::ffi::{c_int, c_long};
use std::os::fd::RawFd;
use std::time::Duration;

use libc::{timespec, timeval};

use super::part;
use super::world::{Simulated, Skew};
use crate::sched::CurrentTask;
use crate::sys::stat::gives_chance;
use crate::sys::syscall::Answer;

/// What a program's look at the clock takes; it could look for ever otherwise.
const LOOK_NANOS: u64 = 1_000;

/// The monotonic clock at the beginning: programs may reckon back from it.
const BOOTED: Duration = Duration::from_secs(1_000_000);
/// The time of day at the beginning: 2025 begins.
const EPOCH: Duration = Duration::from_secs(1_735_689_600);

impl Simulated {
    /// What a clock shows to who asks; `None`: the kernel's answer is as good.
    fn time(&self, clock: c_int) -> Option<Duration> {
        // The worker's own looks, of which the first run in a process has more, take none.
        let looks = if CurrentTask::present() {
            LOOK_NANOS
        } else {
            0
        };
        let now = Duration::from_nanos(self.takes(looks));
        match clock {
            libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE | libc::CLOCK_TAI => {
                Some(self.time_of_day(now))
            }
            libc::CLOCK_MONOTONIC
            | libc::CLOCK_MONOTONIC_RAW
            | libc::CLOCK_MONOTONIC_COARSE
            | libc::CLOCK_BOOTTIME => Some(BOOTED + now),
            libc::CLOCK_PROCESS_CPUTIME_ID | libc::CLOCK_THREAD_CPUTIME_ID => Some(now),
            _ => None,
        }
    }

    fn time_of_day(&self, now: Duration) -> Duration {
        let skews = self.skews.borrow();
        let skew = self.node().map_or(Skew::default(), |node| skews[node]);
        let gained = (now.as_nanos() as i128 * i128::from(skew.drift)) / 1_000_000_000;
        let ahead = i128::from(skew.offset) + gained;
        let nanos = (EPOCH + now).as_nanos() as i128 + ahead;
        Duration::from_nanos(nanos.clamp(0, i128::from(i64::MAX)) as u64)
    }

    /// Chance for a test's own decisions, or for a program that asks for it.
    pub(super) fn draw(&self) -> u64 {
        self.chance.borrow_mut().draw()
    }

    /// # Safety
    ///
    /// - `len` bytes at `place` may be written.
    unsafe fn fill(&self, place: *mut u8, len: usize) {
        let mut chance = self.chance.borrow_mut();
        for at in (0..len).step_by(8) {
            let word = chance.draw().to_ne_bytes();
            // SAFETY: within the caller's bytes.
            unsafe { word.as_ptr().copy_to(place.add(at), (len - at).min(8)) };
        }
    }

    /// What is read from `/dev/random` and `/dev/urandom`.
    ///
    /// # Safety
    ///
    /// - As for the system call.
    pub(super) unsafe fn random_bytes(&self, number: c_long, args: [usize; 6]) -> Option<Answer> {
        // SAFETY: the caller's buffers.
        let room = unsafe { part::room(number, args) }?;
        if !self.within(|| gives_chance(args[0] as RawFd)) {
            return None;
        }
        let mut given = 0;
        for one in room {
            // SAFETY: as above.
            unsafe { self.fill(one.iov_base.cast(), one.iov_len) };
            given += one.iov_len;
        }
        Some(Ok(given))
    }

    /// Clocks and chance: also for who is no machine's.
    ///
    /// # Safety
    ///
    /// - As for the system call.
    pub(super) unsafe fn tell(&self, number: c_long, args: [usize; 6]) -> Option<Answer> {
        let [a, b, ..] = args;
        // SAFETY: the caller's places.
        unsafe {
            match number {
                libc::SYS_clock_gettime => {
                    let time = self.time(a as c_int)?;
                    std::ptr::with_exposed_provenance_mut::<timespec>(b).write(timespec {
                        tv_sec: time.as_secs() as libc::time_t,
                        tv_nsec: time.subsec_nanos().into(),
                    });
                }
                libc::SYS_gettimeofday if a != 0 => {
                    let time = self.time(libc::CLOCK_REALTIME)?;
                    std::ptr::with_exposed_provenance_mut::<timeval>(a).write(timeval {
                        tv_sec: time.as_secs() as libc::time_t,
                        tv_usec: time.subsec_micros().into(),
                    });
                }
                libc::SYS_getrandom => {
                    self.fill(std::ptr::with_exposed_provenance_mut(a), b);
                    return Some(Ok(b));
                }
                _ => return None,
            }
        }
        Some(Ok(0))
    }
}
