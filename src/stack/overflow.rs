//! What happens when a coroutine runs out of its stack: a message that names
//! it and says what to do, then `SIGABRT`, as for an ordinary thread.
//!
//! The handler is process-wide and stays. A fault in a stack that is closed
//! (see [`closed`]) ends the same way with a message of its own. Faults that
//! are not in one of our places go on to whoever handled them before: Rust's standard library, which
//! reports overflows of ordinary threads; a crash reporter; the default.
//!
//! A handler needs a stack of its own, as the faulting one is full: a worker
//! holds an [`AltStack`] while it runs coroutines.

use std::ffi::{c_int, c_void};
use std::fmt::{self, Write};
use std::io;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::{mem, ptr};

use super::guard::{self, GuardMaker, Hit};
use super::{GUARD, GuardChoice, closed};
use crate::sys::mem::{PAGE, Reserve};
use crate::sys::signal::{self, Action, Handler, Info, SignalStack};

#[cfg(test)]
mod tests;

/// The actions that we replaced, in the order of [`signal::FAULTS`].
static FORMER: [OnceLock<Action>; 2] = [OnceLock::new(), OnceLock::new()];

/// Whether the handlers are in place.
static INSTALLED: Mutex<bool> = Mutex::new(false);

/// Makes overflows of coroutine stacks be reported, from now on and in the
/// whole process. Further calls do nothing.
pub(crate) fn install() -> io::Result<()> {
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if *installed {
        return Ok(());
    }
    let handlers: [Handler; 2] = [on_fault::<0>, on_fault::<1>];
    for ((signal, handler), former) in signal::FAULTS.into_iter().zip(handlers).zip(&FORMER) {
        let present = Action::of(signal)?;
        // Stored before a handler can look for it.
        let former = former.get_or_init(|| present);
        // SAFETY: `on_fault` calls nothing that is not async-signal-safe, and
        // code is never unloaded.
        unsafe { former.replaced_by(handler).install(signal) }?;
    }
    *installed = true;
    Ok(())
}

/// Handles the signal `FAULTS[WHICH]`.
unsafe extern "C" fn on_fault<const WHICH: usize>(
    signal: c_int,
    info: *mut Info,
    context: *mut c_void,
) {
    // SAFETY: the kernel gives every SA_SIGINFO handler a valid siginfo.
    let address = unsafe { &*info }.fault_address();
    if let Some(hit) = address.and_then(guard::find) {
        report(hit);
        signal::abort();
    }
    if address.is_some_and(closed::report) {
        signal::abort();
    }
    if let Some(former) = FORMER[WHICH].get() {
        // SAFETY: the kernel's arguments; it was installed until we came.
        signal::keep_errno(|| unsafe { former.hand_on(signal, info, context) });
    }
}

fn report(hit: Hit) {
    let mut out = SignalWriter::new();
    let _ = out.write_str("crore: stack overflow in ");
    if !describe_running(&mut out) {
        let _ = write!(out, "a coroutine (guard page at {:#x})", hit.guard);
    }
    let _ = writeln!(
        out,
        ": its stack of {} bytes is used up; give it more with \
         crore::Builder::new().stack_size(bytes), shared ones with \
         crore::Runtime::builder().shared_stacks(count, bytes), or move large locals to the heap",
        hit.size
    );
    out.flush();
}

/// Writes which coroutine runs on this thread, as in "coroutine 'conn' (id
/// 1:42:7), spawned at src/x.rs:10:5". `false` if none does.
///
/// Called by a signal handler: it must not allocate, lock, or touch a
/// thread-local that may need initialising.
pub(crate) type Describer = fn(&mut SignalWriter) -> bool;

static DESCRIBER: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

/// Sets who puts a name to the running coroutine.
pub(crate) fn set_describer(describer: Describer) {
    DESCRIBER.store(describer as *mut (), Ordering::Release);
}

/// As [`Describer`].
pub(super) fn describe_running(out: &mut SignalWriter) -> bool {
    let describer = DESCRIBER.load(Ordering::Acquire);
    if describer.is_null() {
        return false;
    }
    // SAFETY: only `set_describer` stores here, and it stores this type.
    let describer = unsafe { mem::transmute::<*mut (), Describer>(describer) };
    describer(out)
}

/// Text to standard error from within a signal handler: no allocation, no
/// lock, and one system call unless the text is very long.
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
        signal::write_stderr(&self.buffer[..mem::take(&mut self.len)]);
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

/// Bytes of a signal stack besides what the kernel puts there: for us, the
/// describer, and handlers we hand on to, in debug builds too.
const HANDLER_ROOM: usize = 16 * 1024;

/// Holds a signal stack that is large enough, on this thread. The former one,
/// or none, comes back when it is dropped.
#[derive(Debug)]
pub(crate) struct AltStack {
    /// What we made; nothing if the thread had one that will do.
    made: Option<Made>,
    /// A signal stack is its thread's: not `Send`.
    _of_this_thread: PhantomData<*mut ()>,
}

/// ```text
///   | guard | memory of the signal stack |
/// ```
struct Made {
    memory: Reserve,
    former: SignalStack,
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Made")
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}

/// Makes sure that this thread can handle an overflow of its stack.
///
/// The main thread and those of `std::thread` have a signal stack, but only as
/// large as the kernel itself needs; threads made by C code have none.
///
/// # Errors
///
/// No memory, or the thread is handling a signal on its signal stack.
pub(crate) fn ensure_alt_stack() -> io::Result<AltStack> {
    let needed = SignalStack::kernel_share() + HANDLER_ROOM;
    let former = SignalStack::current()?;
    if former.len() >= needed {
        return Ok(AltStack {
            made: None,
            _of_this_thread: PhantomData,
        });
    }
    let memory = Reserve::new(GUARD + needed.next_multiple_of(PAGE))?;
    // SAFETY: nobody knows the memory yet.
    unsafe { GuardMaker::new(GuardChoice::Auto).make(&memory, 0) }?;
    let made = Made { memory, former };
    // SAFETY: the memory above the guard is used for nothing else, and `Made`
    // puts the former stack back before it unmaps it.
    unsafe { made.stack().install() }?;
    Ok(AltStack {
        made: Some(made),
        _of_this_thread: PhantomData,
    })
}

impl Made {
    fn stack(&self) -> SignalStack {
        SignalStack::new(
            self.memory.base().wrapping_add(GUARD),
            self.memory.len() - GUARD,
        )
    }
}

impl Drop for AltStack {
    fn drop(&mut self) {
        let Some(made) = self.made.take() else { return };
        let unused = match SignalStack::current() {
            Ok(now) if now.base() == made.stack().base() => {
                // SAFETY: its owner had installed it for as long as the thread
                // lives, or until the owner itself replaces it.
                unsafe { made.former.install() }.is_ok()
            }
            // Who replaced ours by none is done with it. Who replaced it by
            // another may put it back later.
            Ok(now) => now.len() == 0,
            Err(_) => false,
        };
        if !unused {
            mem::forget(made);
        }
    }
}
