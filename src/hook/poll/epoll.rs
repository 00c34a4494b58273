//! `epoll_wait`, `epoll_pwait`, `epoll_pwait2`: another runtime's event loop,
//! inside a coroutine.
//!
//! Asked without waiting; if there is nothing, the coroutine parks until the
//! epoll itself is readable, and asks again. Our own reactor waits on the
//! worker's stack, where no coroutine runs, and so passes straight through.

use std::ffi::c_int;
use std::time::Duration;

use libc::{epoll_event, sigset_t, timespec};

use crate::driver::Condition;
use crate::hook::libc::hook;
use crate::hook::poll::event_loop::{EventLoop, in_coroutine, is_connection};
use crate::hook::poll::wait_set::WaitSet;
use crate::hook::poll::{let_signals_in, lets_signals_in};
use crate::hook::wait::call::uncancellable;
use crate::hook::wait::clock;
use crate::hook::wait::interrupt::with_mask;
use crate::sys::epoll_interest;
use crate::sys::syscall::{Answer, KERNEL_SIGSET_BYTES, sys};

hook!(
    next_or(sys!(
        SYS_epoll_pwait,
        epoll,
        events,
        most,
        timeout,
        0,
        KERNEL_SIGSET_BYTES
    )),
    Some(cx) = in_coroutine(),
    unsafe extern "C-unwind" fn epoll_wait(
        epoll: c_int,
        events: *mut epoll_event,
        most: c_int,
        timeout: c_int,
    ) -> c_int {
        let (limit, no_mask) = (millis(timeout), std::ptr::null());
        // SAFETY: the caller's place for events.
        uncancellable(|| unsafe {
            wait_in_coroutine(
                EventLoop::new(cx, "epoll_wait"),
                epoll,
                events,
                most,
                limit,
                no_mask,
            )
        })
    }
);

hook!(
    next_or(sys!(
        SYS_epoll_pwait,
        epoll,
        events,
        most,
        timeout,
        mask,
        KERNEL_SIGSET_BYTES
    )),
    Some(cx) = in_coroutine(),
    /// The mask holds while the kernel is asked, not while parked; as for `ppoll`.
    unsafe extern "C-unwind" fn epoll_pwait(
        epoll: c_int,
        events: *mut epoll_event,
        most: c_int,
        timeout: c_int,
        mask: *const sigset_t,
    ) -> c_int {
        let limit = millis(timeout);
        // SAFETY: the caller's place for events, and mask.
        uncancellable(|| unsafe {
            with_mask(mask, |mask| {
                let event_loop = EventLoop::new(cx, "epoll_pwait");
                wait_in_coroutine(event_loop, epoll, events, most, limit, mask)
            })
        })
    }
);

hook!(
    next_or(sys!(
        SYS_epoll_pwait2,
        epoll,
        events,
        most,
        limit,
        mask,
        KERNEL_SIGSET_BYTES
    )),
    Some(cx) = in_coroutine(),
    /// As [`epoll_pwait`].
    unsafe extern "C-unwind" fn epoll_pwait2(
        epoll: c_int,
        events: *mut epoll_event,
        most: c_int,
        limit: *const timespec,
        mask: *const sigset_t,
    ) -> c_int {
        // SAFETY: the caller's time, place for events, and mask.
        uncancellable(|| unsafe {
            let limit = clock::limit(limit)?;
            with_mask(mask, |mask| {
                let event_loop = EventLoop::new(cx, "epoll_pwait2");
                wait_in_coroutine(event_loop, epoll, events, most, limit, mask)
            })
        })
    }
);

/// Negative: no limit.
fn millis(timeout: c_int) -> Option<Duration> {
    u64::try_from(timeout).ok().map(Duration::from_millis)
}

/// # Safety
///
/// - As for `epoll_pwait`.
unsafe fn wait_in_coroutine(
    event_loop: EventLoop,
    epoll: c_int,
    events: *mut epoll_event,
    most: c_int,
    limit: Option<Duration>,
    mask: *const sigset_t,
) -> Answer {
    // SAFETY: the caller's place for events, and mask, for every call.
    let ask = || unsafe {
        sys!(
            SYS_epoll_pwait,
            epoll,
            events,
            most,
            0,
            mask,
            KERNEL_SIGSET_BYTES
        )
    };
    let deadline = match event_loop.first(limit, &mut { ask }) {
        Ok(deadline) => deadline,
        Err(answer) => return answer,
    };
    // SAFETY: the caller's mask.
    let signals = unsafe { lets_signals_in(mask) };
    let ask_again = || {
        if signals {
            // `epoll_pwait` itself does not, when it may not wait.
            // SAFETY: the caller's mask.
            unsafe { let_signals_in(mask) }?;
        }
        ask()
    };
    let waits = match signals {
        true => WaitSet::Special,
        false => WaitSet::One([(epoll, Condition::PollRead)]),
    };
    event_loop.wait(&waits, deadline, ask_again, || {
        let interest = epoll_interest::read(epoll);
        let mut broken = 0;
        for mut event in interest
            .filter(|one| is_connection(one.fd))
            .map(|one| one.event)
        {
            event.events &= WANTED;
            if event.events != 0 && broken < most as usize {
                // SAFETY: one of the caller's `most` places.
                unsafe { events.add(broken).write(event) };
                broken += 1;
            }
        }
        broken
    })
}

/// What a connection that ends is said to be ready for.
const WANTED: u32 = (libc::EPOLLIN | libc::EPOLLRDNORM | libc::EPOLLOUT | libc::EPOLLWRNORM) as u32;
