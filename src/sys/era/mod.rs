//! The era of a thread: as long as it lasts, what frames that are kept refer to is there.
//!
//! A suspended generator may refer to its coroutine and, by `LocalKey::with`, to any
//! thread-local. An era ends when the thread becomes a worker (whose slots may lie where
//! an earlier one's did), and when destructors of thread-locals begin to run: at the end
//! of the thread or of a coroutine that has its own, or in `exit`.
//!
//! glibc calls those destructors from a list, the newest first. Once frames are suspended
//! [`Mark::renew`] puts one of ours in front of all that are there, if none is: so it runs
//! before any that the frames may refer to. Where the list is not known
//! ([`is_noticed`]) nothing may be left suspended that lives as long as a thread-local.

use std::cell::Cell;

#[cfg_attr(target_env = "gnu", path = "glibc.rs")]
#[cfg_attr(not(target_env = "gnu"), path = "absent.rs")]
mod list;

struct Era {
    number: Cell<u32>,
    /// How often destructors of thread-locals have begun.
    ends: Cell<u32>,
    /// The node of the last mark, until it is called; 0: none.
    mark: Cell<usize>,
}

thread_local! {
    static ERA: Era = const {
        Era { number: Cell::new(0), ends: Cell::new(0), mark: Cell::new(0) }
    };
}

/// Which era it is on this thread.
#[inline(always)]
pub(crate) fn number() -> u32 {
    ERA.with(|era| era.number.get())
}

/// How often destructors of thread-locals have begun here: of these eras each is the last
/// in which frames that are suspended may run.
pub(crate) fn ends() -> u32 {
    ERA.with(|era| era.ends.get())
}

/// The thread becomes another worker.
pub(crate) fn worker_begins() {
    ERA.with(|era| era.number.set(era.number.get() + 1));
}

/// Whether destructors of thread-locals are noticed before they run.
pub(crate) fn is_noticed() -> bool {
    list::is_known()
}

/// Called as the first of the destructors that were there when it was registered.
extern "C" fn end(_: *mut std::ffi::c_void) {
    ERA.with(|era| {
        era.number.set(era.number.get() + 1);
        era.ends.set(era.ends.get() + 1);
        era.mark.set(0);
    });
}

/// The list of destructors as it was when frames were suspended: its first node is ours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark(usize);

impl Mark {
    pub(crate) const NONE: Self = Self(0);

    /// Before frames are left suspended.
    #[inline(always)]
    pub(crate) fn renew(&mut self) {
        let first = list::first();
        if first != self.0 {
            self.0 = in_front(first);
        }
    }
}

/// The node of a mark that is in front of all destructors.
#[cold]
#[inline(never)]
fn in_front(first: usize) -> usize {
    let mark = ERA.with(|era| era.mark.get());
    if first == mark {
        return mark;
    }
    list::register(end);
    let mark = list::first();
    ERA.with(|era| era.mark.set(mark));
    mark
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    struct Sees(u32);
    impl Drop for Sees {
        fn drop(&mut self) {
            assert_eq!(ends(), self.0);
        }
    }

    thread_local! {
        static FIRST: Sees = const { Sees(2) };
        static SECOND: Sees = const { Sees(1) };
        static THIRD: Sees = const { Sees(0) };
    }

    #[test]
    fn a_mark_is_called_before_all_that_were_there() {
        assert!(is_noticed());
        let all = || {
            let mut marks = [Mark::NONE; 2];
            FIRST.with(|_| marks[0].renew());
            SECOND.with(|_| marks[0].renew());
            let last = marks[0];
            // Nothing has come in between.
            marks.iter_mut().for_each(Mark::renew);
            assert!(marks.iter().all(|mark| mark.0 == last.0 && mark.0 != 0));
            THIRD.with(|_| assert_eq!(ends(), 0));
        };
        // One that fails aborts.
        thread::spawn(all).join().unwrap();
    }
}
