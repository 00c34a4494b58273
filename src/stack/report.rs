//! Fatal reports: text written to standard error by a signal handler.
//!
//! Lives here: the writer, which neither allocates nor locks, and the function
//! that names the running coroutine. That function is set from above, since
//! stacks know of no coroutines.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::{mem, ptr};

use crate::sys::report::write_stderr;

/// Writes which coroutine runs on this thread, or was interrupted there by the handler that
/// asks, as in "coroutine 'conn' (id 1:42:7), spawned at src/x.rs:10:5". `false` if none
/// was, or if it is not the one on whose stack the address lies.
///
/// Called by a signal handler: it must not allocate, lock, or touch a
/// thread-local that may need initialising.
pub(crate) type Describer = fn(&mut SignalWriter, stack: Option<usize>) -> bool;

static DESCRIBER: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

/// Sets the function that names the running coroutine.
pub(crate) fn set_describer(describer: Describer) {
    DESCRIBER.store(describer as *mut (), Ordering::Release);
}

/// As [`Describer`].
pub(super) fn describe_running(out: &mut SignalWriter, stack: Option<usize>) -> bool {
    let describer = DESCRIBER.load(Ordering::Acquire);
    if describer.is_null() {
        return false;
    }
    // SAFETY: only `set_describer` stores here, and it stores this type.
    let describer = unsafe { mem::transmute::<*mut (), Describer>(describer) };
    describer(out, stack)
}

/// Text to standard error from within a signal handler: one system call, unless
/// the text is very long.
pub(crate) struct SignalWriter {
    buffer: [u8; 512],
    len: usize,
}

impl SignalWriter {
    pub(crate) fn new() -> Self {
        Self {
            buffer: [0; 512],
            len: 0,
        }
    }

    pub(crate) fn flush(&mut self) {
        write_stderr(&self.buffer[..mem::take(&mut self.len)]);
    }
}

impl Write for SignalWriter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut text = text.as_bytes();
        while !text.is_empty() {
            if self.len == self.buffer.len() {
                self.flush();
            }
            let room = &mut self.buffer[self.len..];
            let fits = room.len().min(text.len());
            let (now, later) = text.split_at(fits);
            room[..fits].copy_from_slice(now);
            self.len += fits;
            text = later;
        }
        Ok(())
    }
}
