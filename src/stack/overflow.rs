//! Stack overflow: the handler of `SIGSEGV` and `SIGBUS` reports which coroutine
//! used up its stack and what to do, then ends the process by `SIGABRT`, as for
//! an ordinary thread.
//!
//! The handlers are the process's and stay. A fault in a poisoned stack (see
//! [`poisoned`]) ends the same way with a message of its own. A fault that is in
//! none of our stacks goes on to the former handler: that of Rust's standard
//! library, which reports overflows of ordinary threads; a crash reporter's; the
//! default.
//!
//! A handler needs a stack of its own, as the faulting one is full: a worker
//! holds an [`AltStack`] while it runs coroutines.

use std::ffi::{c_int, c_void};
use std::fmt::{self, Write};
use std::io;
use std::marker::PhantomData;
use std::mem;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::guard::{self, GuardMaker, Hit};
use super::report::{SignalWriter, describe_running};
use super::{GUARD, GuardChoice, poisoned};
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
    if address.is_some_and(poisoned::report) {
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

/// Bytes of a signal stack besides what the kernel puts there: for us, the
/// describer, and handlers we hand on to, in debug builds too.
const HANDLER_ROOM: usize = 16 * 1024;

/// Holds a signal stack that is large enough, on this thread. The former one,
/// or none, comes back when it is dropped.
#[derive(Debug)]
pub(crate) struct AltStack {
    /// What we made; nothing if the thread had one that will do.
    made: Option<AltStackMemory>,
    /// A signal stack is its thread's: not `Send`.
    _of_this_thread: PhantomData<*mut ()>,
}

/// ```text
///   | guard | memory of the signal stack |
/// ```
struct AltStackMemory {
    memory: Reserve,
    former: SignalStack,
}

impl fmt::Debug for AltStackMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AltStackMemory")
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
    let made = AltStackMemory { memory, former };
    // SAFETY: the memory above the guard is used for nothing else; `AltStack`
    // puts the former stack back before it unmaps it, or keeps it for ever.
    unsafe { made.stack().install() }?;
    Ok(AltStack {
        made: Some(made),
        _of_this_thread: PhantomData,
    })
}

impl AltStackMemory {
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
                // SAFETY: its owner installed it for as long as the thread lives,
                // or until the owner itself replaces it.
                unsafe { made.former.install() }.is_ok()
            }
            // Code that replaced ours by none is done with it. Code that
            // replaced it by another may put it back later.
            Ok(now) => now.len() == 0,
            Err(_) => false,
        };
        if !unused {
            mem::forget(made);
        }
    }
}
