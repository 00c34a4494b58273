//! Signals that others have sent to a thread that is a coroutine and that it has not taken:
//! as the kernel keeps them, one of each kind, and of those for real-time every one.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use libc::siginfo_t;

use crate::sys::syscall::{Answer, sys};
use crate::util::no_park::NoParkMutex;

/// The first of those that are kept one by one.
const REAL_TIME: c_int = 32;

/// A signal on its way to a thread, with the value that `pthread_sigqueue` gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SentSignal {
    pub(crate) signal: c_int,
    pub(crate) value: Option<usize>,
}

/// The kernel's `siginfo_t` of a signal that a program has sent.
#[repr(C)]
struct SentInfo {
    signal: c_int,
    errno: c_int,
    code: c_int,
    _pad: c_int,
    pid: c_int,
    uid: u32,
    value: usize,
    _rest: [u64; 12],
}

const _: () = assert!(size_of::<SentInfo>() == size_of::<siginfo_t>());

impl SentSignal {
    /// As `sigwaitinfo` gives it, in which libc takes one by `tgkill` for one to the process.
    pub(crate) fn info(self) -> siginfo_t {
        let info = SentInfo {
            signal: self.signal,
            errno: 0,
            code: match self.value {
                Some(_) => libc::SI_QUEUE,
                None => libc::SI_USER,
            },
            _pad: 0,
            pid: std::process::id() as c_int,
            // SAFETY: no preconditions.
            uid: unsafe { libc::getuid() },
            value: self.value.unwrap_or(0),
            _rest: [0; 12],
        };
        // SAFETY: of the same size, and any bytes are a valid one.
        unsafe { std::mem::transmute::<SentInfo, siginfo_t>(info) }
    }

    /// Sends it to a thread of the kernel's, of this process.
    pub(super) fn send(self, tid: u32) -> Answer {
        let (process, info) = (std::process::id(), self.info());
        // SAFETY: no pointers; a live description.
        unsafe {
            match self.value {
                None => sys!(SYS_tgkill, process, tid, self.signal),
                Some(_) => sys!(
                    SYS_rt_tgsigqueueinfo,
                    process,
                    tid,
                    self.signal,
                    &raw const info
                ),
            }
        }
    }
}

/// Those of one thread.
#[derive(Debug, Default)]
pub(super) struct PendingSignals {
    /// A bit for each that is there.
    kinds: AtomicU64,
    sent: NoParkMutex<Sent>,
}

/// By signal the values, the oldest first.
#[derive(Debug, Default)]
struct Sent {
    values: BTreeMap<c_int, VecDeque<Option<usize>>>,
    count: usize,
}

fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

/// How many signals the kernel would keep (`RLIMIT_SIGPENDING`; it counts those of all the
/// user's processes).
fn most() -> usize {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let (us, what, none) = (0, libc::RLIMIT_SIGPENDING, ptr::null::<libc::rlimit>());
    // SAFETY: no new limit; a place for the present one.
    let asked = unsafe { sys!(SYS_prlimit64, us, what, none, &raw mut limit) };
    asked.map_or(usize::MAX, |_| limit.rlim_cur as usize)
}

impl PendingSignals {
    /// A thread says who it is (`Thread::task`) and then looks here; who sends comes here
    /// (`add`) and then asks who it is. All `SeqCst`: one of the two sees the other.
    pub(super) fn kinds(&self) -> u64 {
        self.kinds.load(Ordering::SeqCst)
    }

    /// # Errors
    ///
    /// `EAGAIN`: there are too many, and it has a value, which would be lost.
    pub(super) fn add(&self, one: SentSignal) -> Result<(), c_int> {
        let mut sent = self.sent.lock();
        let is_there = self.kinds() & bit(one.signal) != 0;
        if is_there && one.signal < REAL_TIME {
            return Ok(());
        }
        if is_there && sent.count >= most() {
            return one.value.map_or(Ok(()), |_| Err(libc::EAGAIN));
        }
        sent.values
            .entry(one.signal)
            .or_default()
            .push_back(one.value);
        sent.count += 1;
        self.kinds.fetch_or(bit(one.signal), Ordering::SeqCst);
        Ok(())
    }

    /// Takes one that is in `set`: of those with the lowest number the first.
    pub(super) fn take(&self, set: u64) -> Option<SentSignal> {
        if self.kinds() & set == 0 {
            return None;
        }
        let mut sent = self.sent.lock();
        let among = self.kinds() & set;
        let signal = among.trailing_zeros() as c_int + 1;
        let values = sent.values.get_mut(&signal)?;
        let value = values.pop_front()?;
        if values.is_empty() {
            sent.values.remove(&signal);
            self.kinds.fetch_and(!bit(signal), Ordering::AcqRel);
        }
        sent.count -= 1;
        Some(SentSignal { signal, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_each_kind_is_kept_and_all_for_real_time() {
        let pending = PendingSignals::default();
        let one = |signal, value| SentSignal {
            signal,
            value: Some(value),
        };
        for (signal, value) in [(40, 1), (10, 2), (40, 3), (10, 4), (12, 5)] {
            pending.add(one(signal, value)).unwrap();
        }
        assert_eq!(pending.kinds(), bit(10) | bit(12) | bit(40));
        assert_eq!(pending.take(bit(11)), None);
        assert_eq!(pending.take(!bit(10)), Some(one(12, 5)));
        let all: Vec<_> = std::iter::from_fn(|| pending.take(u64::MAX)).collect();
        assert_eq!(all, [one(10, 2), one(40, 1), one(40, 3)]);
        assert_eq!(pending.kinds(), 0);
    }

    /// As the kernel keeps no more than that.
    #[test]
    fn there_is_an_end_of_those_that_are_kept() {
        let pending = PendingSignals::default();
        let most = most().min(1 << 20);
        let one = |value| SentSignal { signal: 40, value };
        let kept = (0..most).map(|value| pending.add(one(Some(value))));
        assert!(kept.into_iter().all(|added| added.is_ok()));
        if most < 1 << 20 {
            assert_eq!(pending.add(one(Some(7))), Err(libc::EAGAIN));
            assert_eq!(pending.add(one(None)), Ok(()));
        }
        for value in 0..most {
            assert_eq!(pending.take(u64::MAX), Some(one(Some(value))));
        }
        assert_eq!(pending.take(u64::MAX), None);
    }
}
