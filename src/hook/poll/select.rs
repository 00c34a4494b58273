//! `select` and `pselect`: as `poll`, over three sets of bits that are both
//! question and answer.

use std::ffi::{c_int, c_ulong};
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use libc::{fd_set, sigset_t, timespec, timeval};

use crate::hook::libc::{hook, next};
use crate::hook::poll::event_loop::{EventLoop, in_coroutine, is_connection};
use crate::hook::poll::wait_set::WaitSet;
use crate::hook::poll::{ask_now, exception, lets_signals_in};
use crate::hook::wait::call::uncancellable;
use crate::hook::wait::clock::{self, after};
use crate::hook::wait::interrupt::with_mask;
use crate::sys::syscall::{Answer, KERNEL_SIGSET_BYTES, sys};

const BITS: usize = c_ulong::BITS as usize;

hook!(
    next_or(select_without_libc(n, read, write, except, limit)),
    Some((cx, n)) = in_coroutine().zip(capped(n)),
    unsafe extern "C-unwind" fn select(
        n: c_int,
        read: *mut fd_set,
        write: *mut fd_set,
        except: *mut fd_set,
        limit: *mut timeval,
    ) -> c_int {
        uncancellable(|| {
            // SAFETY: null or the caller's time.
            let time = match unsafe { limit.as_ref() } {
                None => None,
                Some(limit) => Some(duration(limit).ok_or(libc::EINVAL)?),
            };
            let deadline = time.map(after);
            let sets = [read, write, except].map(<*mut fd_set>::cast);
            // SAFETY: the caller's sets.
            let answer = unsafe {
                select_in_coroutine(
                    EventLoop::new(cx, "select"),
                    n,
                    sets,
                    time,
                    std::ptr::null(),
                )
            };
            // As Linux does: what is left of the time.
            if let Some(at) = deadline {
                let left = at.saturating_duration_since(Instant::now());
                // SAFETY: the caller's time.
                unsafe {
                    (*limit).tv_sec = left.as_secs() as i64;
                    (*limit).tv_usec = left.subsec_micros().into();
                }
            }
            answer
        })
    }
);

hook!(
    next_or(pselect_without_libc(n, [read, write, except], limit, mask)),
    Some((cx, n)) = in_coroutine().zip(capped(n)),
    /// The mask holds while the kernel is asked, not while parked; as for `ppoll`.
    unsafe extern "C-unwind" fn pselect(
        n: c_int,
        read: *mut fd_set,
        write: *mut fd_set,
        except: *mut fd_set,
        limit: *const timespec,
        mask: *const sigset_t,
    ) -> c_int {
        uncancellable(|| {
            let sets = [read, write, except].map(<*mut fd_set>::cast);
            // SAFETY: the caller's time, sets and mask.
            unsafe {
                let limit = clock::limit(limit)?;
                with_mask(mask, |mask| {
                    select_in_coroutine(EventLoop::new(cx, "pselect"), n, sets, limit, mask)
                })
            }
        })
    }
);

/// A time as the kernel takes it: microseconds may be more than a second.
fn duration(time: &timeval) -> Option<Duration> {
    let seconds = Duration::from_secs(time.tv_sec.try_into().ok()?);
    seconds.checked_add(Duration::from_micros(time.tv_usec.try_into().ok()?))
}

/// How many numbers the kernel looks at: no more than its table has places. A
/// caller that says more (`getdtablesize()`, a million) may have smaller sets.
/// `None` if the size of the table can't be told.
fn capped(n: c_int) -> Option<c_int> {
    if n <= libc::FD_SETSIZE as c_int {
        return Some(n);
    }
    table_size()
        .or_else(limit_of_full_table)
        .map(|size| n.min(size))
}

/// The limit of numbers, where none is left below it: so many places there are.
#[cold]
fn limit_of_full_table() -> Option<c_int> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let (us, what, none) = (0, libc::RLIMIT_NOFILE, 0);
    // SAFETY: a place for the limit.
    unsafe { sys!(SYS_prlimit64, us, what, none, &raw mut limit) }.ok()?;
    let places = c_int::try_from(limit.rlim_cur).ok()?;
    // SAFETY: no pointers.
    let last = unsafe { sys!(SYS_fcntl, places - 1, libc::F_GETFD) };
    last.is_ok().then_some(places)
}

/// `FDSize` of the thread.
#[cold]
#[inline(never)]
fn table_size() -> Option<c_int> {
    // It stands in the first few hundred bytes.
    let mut text = [0_u8; 1024];
    let path = c"/proc/thread-self/status".as_ptr();
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    // SAFETY: a path, a buffer, and a descriptor made just now.
    let len = unsafe {
        let fd = sys!(SYS_openat, libc::AT_FDCWD, path, flags, 0).ok()?;
        let len = sys!(SYS_read, fd, text.as_mut_ptr(), text.len());
        let _ = sys!(SYS_close, fd);
        len.ok()?
    };
    let mut lines = text[..len].split(|&byte| byte == b'\n');
    let size = lines.find_map(|line| line.strip_prefix(b"FDSize:"))?;
    std::str::from_utf8(size).ok()?.trim().parse().ok()
}

/// `select` without libc.
///
/// # Safety
///
/// - As for `select`.
unsafe fn select_without_libc(
    n: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    limit: *mut timeval,
) -> c_int {
    // SAFETY: the caller's sets and time.
    unsafe {
        // Microseconds may be more than a second; what is left goes back.
        let mut time = limit.as_ref().map(|limit| timespec {
            tv_sec: limit.tv_sec + limit.tv_usec / 1_000_000,
            tv_nsec: limit.tv_usec % 1_000_000 * 1000,
        });
        let place = time
            .as_mut()
            .map_or(std::ptr::null_mut(), std::ptr::from_mut);
        let answer = sys!(SYS_pselect6, n, read, write, except, place, 0);
        if let Some(left) = time {
            (*limit).tv_sec = left.tv_sec;
            (*limit).tv_usec = left.tv_nsec / 1000;
        }
        next::answer(answer) as c_int
    }
}

/// `pselect` without libc.
///
/// # Safety
///
/// - As for `pselect`.
unsafe fn pselect_without_libc(
    n: c_int,
    [read, write, except]: [*mut fd_set; 3],
    limit: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    let mask: [usize; 2] = [mask.expose_provenance(), KERNEL_SIGSET_BYTES];
    // SAFETY: the caller's sets, time and mask. The kernel writes the rest of the
    // time back, C's pselect does not.
    unsafe {
        let mut copy = limit.as_ref().copied();
        let limit = copy
            .as_mut()
            .map_or(std::ptr::null_mut(), std::ptr::from_mut);
        next::answer(sys!(
            SYS_pselect6,
            n,
            read,
            write,
            except,
            limit,
            mask.as_ptr()
        )) as c_int
    }
}

/// The caller's three sets: each null, or as many words as `n` bits take.
type Sets = [*mut c_ulong; 3];

/// # Safety
///
/// - As for `pselect`.
unsafe fn select_in_coroutine(
    event_loop: EventLoop,
    n: c_int,
    sets: Sets,
    limit: Option<Duration>,
    mask: *const sigset_t,
) -> Answer {
    let words = usize::try_from(n).map_err(|_| libc::EINVAL)?.div_ceil(BITS);
    // SAFETY: the caller's sets, for this and all below.
    let asked = sets.map(|set| match set.is_null() {
        true => Vec::new(),
        // SAFETY: as just said.
        false => unsafe { std::slice::from_raw_parts(set, words) }.to_vec(),
    });
    let [read, write, except] = &asked;
    let members = |set| members(set).filter(|&fd| fd < n);
    let mark = |set: *mut c_ulong, fd: RawFd| {
        let at = fd as usize;
        // SAFETY: the set holds the bit, which was read from it.
        unsafe { *set.add(at / BITS) |= 1 << (at % BITS) };
    };
    // SAFETY: the caller's sets and mask.
    let ask = || match ask_now(mask, || unsafe { select_now(n, sets, mask) }) {
        Ok(0) => {
            let told = members(except).filter(|&fd| exception(event_loop.cx(), fd) != 0);
            Ok(told.map(|fd| mark(sets[2], fd)).count())
        }
        answer => answer,
    };
    let deadline = match event_loop.first(limit, &mut { ask }) {
        Ok(deadline) => deadline,
        Err(answer) => return answer,
    };
    // SAFETY: the caller's mask.
    let waits = match unsafe { lets_signals_in(mask) } {
        true => WaitSet::Special,
        false => WaitSet::of(members(read), members(write), members(except)),
    };
    let ask_again = || {
        for (set, asked) in sets.iter().zip(&asked).filter(|(set, _)| !set.is_null()) {
            // SAFETY: as many words as were read from it.
            unsafe { std::ptr::copy_nonoverlapping(asked.as_ptr(), *set, asked.len()) };
        }
        ask()
    };
    event_loop.wait(&waits, deadline, ask_again, || {
        // The kernel has just said that there is none, so all are empty.
        let mut broken = 0;
        for (set, asked) in sets.iter().zip([read, write]) {
            for fd in members(asked).filter(|&fd| is_connection(fd)) {
                mark(*set, fd);
                broken += 1;
            }
        }
        broken
    })
}

/// # Safety
///
/// - As for `pselect`.
unsafe fn select_now(n: c_int, [read, write, except]: Sets, mask: *const sigset_t) -> Answer {
    let mask: [usize; 2] = [mask.expose_provenance(), KERNEL_SIGSET_BYTES];
    // SAFETY: the caller's sets and mask; the kernel takes the mask as a
    // pointer and a size behind one pointer.
    unsafe {
        sys!(
            SYS_pselect6,
            n,
            read,
            write,
            except,
            &raw const clock::ZERO,
            mask.as_ptr()
        )
    }
}

/// The numbers in a set.
fn members(set: &[c_ulong]) -> impl Iterator<Item = RawFd> {
    set.iter().enumerate().flat_map(|(at, word)| {
        (0..BITS)
            .filter(move |bit| word >> bit & 1 != 0)
            .map(move |bit| (at * BITS + bit) as RawFd)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_counted_through_all_words() {
        let set = [1 << 3 | 1 << 63, 0, 1 | 1 << 5];
        assert!(members(&set).eq([3, 63, 128, 133]));
    }
}
