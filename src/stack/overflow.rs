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
use std::sync::atomic::{AtomicBool, Ordering};

use super::guard::{self, GuardMaker, Hit};
use super::report::{SignalWriter, describe_running};
use super::{GUARD, GuardChoice, poisoned};
use crate::sys::handlers::{self, Info};
use crate::sys::library::stay_loaded;
use crate::sys::mem::{PAGE, Reserve};
use crate::sys::signal::{self, Action, Former, Handler, SignalStack};

#[cfg(test)]
mod tests;

/// The actions that we replaced, in the order of [`signal::FAULTS`].
static FORMER: [Former; 2] = [Former::none(), Former::none()];

/// Whether the handlers are in place.
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// Makes overflows of coroutine stacks be reported, from now on and in the
/// whole process. Further calls do nothing. (No lock: a forked child would find it held.)
pub(crate) fn install() -> io::Result<()> {
    if INSTALLED.load(Ordering::Relaxed) || INSTALLED.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let installed = install_handlers();
    if installed.is_err() {
        INSTALLED.store(false, Ordering::Relaxed);
    }
    installed
}

fn install_handlers() -> io::Result<()> {
    stay_loaded();
    let handlers: [Handler; 2] = [on_fault::<0>, on_fault::<1>];
    for ((signal, handler), former) in signal::FAULTS.into_iter().zip(handlers).zip(&FORMER) {
        let present = Action::of(signal)?;
        // Stored before a handler can look for it.
        let former = former.set(present);
        // SAFETY: `on_fault` calls nothing that is not async-signal-safe, and
        // code is never unloaded.
        unsafe { former.replaced_by(handler).install(signal) }?;
    }
    Ok(())
}

/// Handles the signal `FAULTS[WHICH]`. What is in none of our stacks may have come on a
/// thread of std's, whose signal stack has room for little more than the registers.
unsafe extern "C" fn on_fault<const WHICH: usize>(
    signal: c_int,
    info: *mut Info,
    context: *mut c_void,
) {
    // SAFETY: the kernel gives every SA_SIGINFO handler both.
    unsafe { report_if_ours(&*info, &*context.cast()) };
    let handler = FORMER[WHICH].plain_handler();
    // SAFETY: the kernel's arguments; it was installed until we came.
    unsafe {
        if handler != 0 {
            handlers::call(handler, signal, info, context);
        } else {
            FORMER[WHICH].hand_on(signal, info, context);
        }
    }
}

/// Ends the process with a report if the fault is in a guard, or in a poisoned stack.
fn report_if_ours(info: &Info, context: &handlers::Registers) {
    let Some(mut address) = info.fault_address() else {
        return;
    };
    if info.is_unexplained() {
        // Where the frame of a handler would have had its end.
        address = handlers::stack_pointer(context).wrapping_sub(SignalStack::kernel_share());
    }
    if guard::may_be_of_a_stack(address) {
        report_if_there(address);
    }
}

/// As [`report_if_ours`], by address.
#[inline(never)]
fn report_if_there(address: usize) {
    if let Some(hit) = guard::find(address) {
        report(hit);
        signal::abort();
    }
    if poisoned::report(address) {
        signal::abort();
    }
}

fn report(hit: Hit) {
    let mut out = SignalWriter::new();
    let _ = out.write_str("crore: stack overflow in ");
    let advice = if describe_running(&mut out, Some(hit.limit)) {
        "crore::Builder::new().stack_size(bytes), shared ones with \
         crore::Runtime::builder().shared_stacks(count, bytes)"
    } else {
        // Beside coroutines only generators run on stacks of ours.
        let _ = write!(out, "a generator (guard at {:#x})", hit.guard);
        "crore::generator::Generator::with_stack_size(bytes, body)"
    };
    let _ = writeln!(
        out,
        ": its stack of {} bytes is used up; give it more with {advice}, or move large locals to \
         the heap",
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
    unsafe { GuardMaker::new(GuardChoice::Auto).make(&memory, 0, GUARD) }?;
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
