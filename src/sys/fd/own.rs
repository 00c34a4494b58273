//! The runtime's own numbers: programs that close every descriptor they do not know
//! (daemons, and whoever starts other programs) leave these open. To them such a number is
//! unused.
//!
//! Lock-free: descriptors are closed in signal handlers, too. A forked child has none.

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};

use super::table;
use crate::sys::syscall::sys;

/// Numbers beyond are not known. (The kernel gives the lowest that is free.)
const KNOWN: usize = 8192;
const WORD: usize = 64;

/// A bit for each number.
static OWN: [AtomicU64; KNOWN / WORD] = [const { AtomicU64::new(0) }; KNOWN / WORD];

#[inline(always)]
fn place(fd: RawFd) -> Option<(&'static AtomicU64, u64)> {
    let at = fd as u32 as usize;
    Some((OWN.get(at / WORD)?, 1 << (at % WORD)))
}

/// Whether it is one of the runtime's.
#[cfg(feature = "hook")]
#[inline(always)]
pub(crate) fn is_own(fd: RawFd) -> bool {
    place(fd).is_some_and(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0)
}

/// It is from here on.
pub(crate) fn keep(fd: RawFd) {
    if let Some((word, bit)) = place(fd) {
        word.fetch_or(bit, Ordering::Relaxed);
    }
}

/// It is no more, and about to be closed.
pub(crate) fn release(fd: RawFd) {
    if let Some((word, bit)) = place(fd) {
        word.fetch_and(!bit, Ordering::Relaxed);
    }
}

/// In a forked child, which has the numbers, but no runtime.
pub(crate) fn forget() {
    for word in &OWN {
        word.store(0, Ordering::Relaxed);
    }
}

/// Calls `act` with each run of numbers between `first` and `last` that has none of the
/// runtime's, in order, until it fails.
#[cfg(feature = "hook")]
pub(crate) fn between<E>(
    first: u32,
    last: u32,
    mut act: impl FnMut(u32, u32) -> Result<(), E>,
) -> Result<(), E> {
    let mut from = first;
    for own in all().filter(|own| (first..=last).contains(own)) {
        if from < own {
            act(from, own - 1)?;
        }
        from = own + 1;
    }
    if from <= last {
        act(from, last)?;
    }
    Ok(())
}

/// All that are, in order.
pub(crate) fn all() -> impl Iterator<Item = u32> {
    OWN.iter().enumerate().flat_map(|(at, word)| {
        let word = word.load(Ordering::Relaxed);
        let bits = (0..WORD).filter(move |bit| word >> bit & 1 != 0);
        bits.map(move |bit| (at * WORD + bit) as u32)
    })
}

/// A descriptor of the runtime's.
#[derive(Debug)]
pub(crate) struct OwnFd(Option<OwnedFd>);

impl OwnFd {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        keep(fd.as_raw_fd());
        Self(Some(fd))
    }

    /// It stays open for ever.
    pub(crate) fn leak(mut self) -> RawFd {
        self.0.take().map_or(-1, IntoRawFd::into_raw_fd)
    }
}

impl AsRawFd for OwnFd {
    #[inline]
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }
}

impl Drop for OwnFd {
    fn drop(&mut self) {
        if let Some(fd) = self.0.take() {
            let fd = fd.into_raw_fd();
            // No reactor had it.
            let _ = table::renew(fd);
            // Before the number may be another's.
            release(fd);
            // SAFETY: ours, and nobody's any more.
            let _ = unsafe { sys!(SYS_close, fd) };
        }
    }
}

#[cfg(all(test, feature = "hook"))]
mod tests {
    use super::*;

    fn runs(first: u32, last: u32) -> Vec<(u32, u32)> {
        let mut runs = Vec::new();
        let done = between::<()>(first, last, |first, last| {
            runs.push((first, last));
            Ok(())
        });
        assert_eq!(done, Ok(()));
        runs
    }

    #[test]
    fn runs_of_numbers_have_none_of_the_runtimes() {
        // Above what other tests have.
        let base = 8000;
        let kept = [base, base + 3, base + 4, base + 70];
        assert_eq!(runs(base - 2, base + 2), [(base - 2, base + 2)]);
        kept.iter().for_each(|&fd| keep(fd as RawFd));
        assert!(kept.iter().all(|&fd| is_own(fd as RawFd)));
        let all = [
            (base - 2, base - 1),
            (base + 1, base + 2),
            (base + 5, base + 69),
            (base + 71, u32::MAX),
        ];
        assert_eq!(runs(base - 2, u32::MAX), all);
        assert_eq!(runs(base, base), []);
        assert_eq!(runs(base + 3, base + 5), [(base + 5, base + 5)]);
        assert_eq!(runs(u32::MAX, u32::MAX), [(u32::MAX, u32::MAX)]);
        kept.iter().for_each(|&fd| release(fd as RawFd));
        assert_eq!(runs(base, base + 80), [(base, base + 80)]);
        assert!(!is_own(-1) && !is_own(RawFd::MAX));
    }
}
