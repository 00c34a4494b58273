//! `recvmmsg` and `sendmmsg`: several messages with one call.

use std::ffi::{c_int, c_uint};
use std::time::Instant;

use libc::{mmsghdr, timespec};

use crate::driver::Direction;
use crate::hook::libc::hook;
use crate::hook::net::message::{finish, with};
use crate::hook::wait::call::{On, cancellable_on, in_coroutine};
use crate::hook::wait::clock::{self, after};
use crate::hook::wait::retry::{Mode, WaitContext, until_done};
use crate::hook::wait::transfer::Buffers;
use crate::sched::CurrentTask;
use crate::sys::ready::error_waits;
use crate::sys::syscall::{Answer, Errno, sys};

/// Not a flag of the kernel's: messages after the first need not be there.
const WAITFORONE: c_int = libc::MSG_WAITFORONE;

hook!(
    next_or(SYS_recvmmsg),
    Some(cx) = in_coroutine(),
    unsafe extern "C-unwind" fn recvmmsg(
        fd: c_int,
        messages: *mut mmsghdr,
        count: c_uint,
        flags: c_int,
        limit: *mut timespec,
    ) -> c_int {
        cancellable_on(cx, On::Socket(fd, Direction::Read, flags), || {
            // SAFETY: null or the caller's time.
            let deadline = unsafe { clock::limit(limit) }?.map(after);
            // SAFETY: the caller's messages.
            let answer = unsafe { receive(cx, fd, messages, count, flags, deadline) };
            if let (Some(at), true) = (deadline, answer.is_ok()) {
                let left = at.saturating_duration_since(Instant::now());
                // SAFETY: the caller's time: the kernel, too, leaves the rest there.
                unsafe {
                    (*limit).tv_sec = left.as_secs() as i64;
                    (*limit).tv_nsec = left.subsec_nanos().into();
                }
            }
            answer
        })
    }
);

/// The deadline is looked at after each message only, as the kernel does.
///
/// # Safety
///
/// - `messages` points at `count` messages.
unsafe fn receive(
    cx: CurrentTask,
    fd: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
    deadline: Option<Instant>,
) -> Answer {
    let none = std::ptr::null_mut::<timespec>();
    let now = |done: usize, mode| {
        let (rest, left) = (messages.wrapping_add(done), count as usize - done);
        let flags = with(flags & !WAITFORONE, mode);
        // SAFETY: the caller's messages from `done` on.
        unsafe { sys!(SYS_recvmmsg, fd, rest, left, flags, none) }
    };
    if flags & libc::MSG_DONTWAIT != 0 || count == 0 {
        return now(0, Mode::NoWait);
    }
    let mut context = WaitContext::new(fd, Direction::Read);
    let mut done = 0;
    loop {
        match until_done(cx, &mut context, true, |mode| {
            if done > 0 && error_waits(fd) {
                // Stays there for the next call.
                return Ok(0);
            }
            now(done, mode)
        }) {
            Ok(0) => return Ok(done),
            Ok(more) => done += more,
            Err(_) if done > 0 => return Ok(done),
            Err(code) => return Err(code),
        }
        let late = deadline.is_some_and(|at| Instant::now() >= at);
        if done >= count as usize || flags & WAITFORONE != 0 || late {
            return Ok(done);
        }
    }
}

hook!(
    next_or(SYS_sendmmsg),
    Some(cx) = in_coroutine(),
    unsafe extern "C-unwind" fn sendmmsg(
        fd: c_int,
        messages: *mut mmsghdr,
        count: c_uint,
        flags: c_int,
    ) -> c_int {
        // SAFETY: the caller's messages.
        cancellable_on(cx, On::Socket(fd, Direction::Write, flags), || unsafe {
            send(cx, fd, messages, count, flags)
        })
    }
);

/// # Safety
///
/// - `messages` points at `count` messages.
unsafe fn send(
    cx: CurrentTask,
    fd: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
) -> Answer {
    let now = |done: usize| {
        let (rest, left) = (messages.wrapping_add(done), count as usize - done);
        // SAFETY: the caller's messages from `done` on.
        unsafe { sys!(SYS_sendmmsg, fd, rest, left, flags | libc::MSG_DONTWAIT) }
    };
    if flags & libc::MSG_DONTWAIT != 0 || count == 0 {
        return now(0);
    }
    let mut context = WaitContext::new(fd, Direction::Write);
    let mut done = 0;
    while done < count as usize {
        // An error after some is nobody's, as the kernel has it.
        match until_done(cx, &mut context, true, |_| now(done)) {
            Ok(0) => break,
            Ok(more) => done += more,
            Err(_) if done > 0 => break,
            Err(code) => return Err(code),
        }
        // A stream may have taken a part of the last message only.
        // SAFETY: a message that the kernel has just filled in.
        let last = unsafe { &mut *messages.add(done - 1) };
        if !complete(last) {
            // SAFETY: the caller's message.
            let taken: Result<usize, Errno> =
                unsafe { finish(cx, fd, &last.msg_hdr, last.msg_len as usize, flags) };
            last.msg_len = taken.unwrap_or(last.msg_len as usize) as c_uint;
            if !complete(last) {
                break;
            }
        }
    }
    Ok(done)
}

/// All bytes of a message were taken.
fn complete(message: &mmsghdr) -> bool {
    let buffers = Buffers::new(message.msg_hdr.msg_iov, message.msg_hdr.msg_iovlen);
    // SAFETY: the caller's message, which the kernel has just read.
    message.msg_len as usize >= unsafe { buffers.total() }
}
