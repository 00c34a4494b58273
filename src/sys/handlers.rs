//! Signal handlers of the program: each runs behind [`enter`], which tells it from
//! the coroutine that it has interrupted. To its calls no coroutine runs, so they are
//! those of a thread, and none of them suspends it.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::{mem, ptr};

use super::mem::PAGE;
use crate::util::gate::{HOOK_GATE, HookGate, Interrupted};

/// The kernel's `siginfo_t`.
#[repr(transparent)]
pub(crate) struct Info(libc::siginfo_t);

impl Info {
    /// The address whose access faulted; `None` if somebody sent the signal.
    pub(crate) fn fault_address(&self) -> Option<usize> {
        // Codes of `kill`, `tgkill`, `sigqueue` are zero or negative, and the
        // address field holds a process id then.
        // SAFETY: the kernel fills in the address for every fault signal.
        (self.0.si_code > 0).then(|| unsafe { self.0.si_addr() }.addr())
    }

    /// Why it came (`si_code`).
    #[cfg(all(feature = "sim", target_arch = "x86_64"))]
    pub(crate) fn code(&self) -> c_int {
        self.0.si_code
    }

    /// Whether the kernel does not say what has faulted: for one, that it found no room on
    /// the stack for a handler's frame.
    pub(crate) fn is_unexplained(&self) -> bool {
        const SI_KERNEL: c_int = 0x80;
        self.0.si_code == SI_KERNEL
    }
}

/// What was interrupted.
pub(crate) type Registers = libc::ucontext_t;

type ProgramHandler = unsafe extern "C" fn(c_int, *mut Info, *mut c_void);

/// The program's handlers, by signal.
static HANDLERS: [AtomicUsize; 65] = [const { AtomicUsize::new(0) }; 65];

/// What is told of each handler that has returned: an `fn(c_int, c_int)`, or null.
static TOLD: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

/// From here on `told` is called when a handler has returned, with the signal and the
/// kernel's word on who sent it (`si_code`). It is async-signal-safe.
#[allow(dead_code, reason = "where threads are coroutines")]
pub(crate) fn tell(told: fn(c_int, c_int)) {
    TOLD.store(told as *mut (), Ordering::Release);
}

/// How many handlers have run, and come back; it wraps.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// Another number than before, if a handler has run on any thread since.
#[cfg(feature = "hook")]
pub(crate) fn count() -> u32 {
    COUNT.load(Ordering::Acquire)
}

/// What the kernel calls.
unsafe extern "C" fn enter(signal: c_int, info: *mut Info, context: *mut c_void) {
    // SAFETY: stored by `replace`; the kernel's arguments.
    unsafe { call(handler_of(signal), signal, info, context) };
    // SAFETY: as above.
    unsafe { has_returned(signal, info) };
}

/// Tells of it. A function of its own: there may be little room while the handler runs.
///
/// # Safety
///
/// - The kernel's arguments.
#[inline(never)]
unsafe fn has_returned(signal: c_int, info: *mut Info) {
    let told = TOLD.load(Ordering::Acquire);
    if !told.is_null() {
        // SAFETY: stored by `tell`; the caller's.
        unsafe { mem::transmute::<*mut (), fn(c_int, c_int)>(told)(signal, (*info).0.si_code) };
    }
}

fn handler_of(signal: c_int) -> usize {
    HANDLERS[signal as usize].load(Ordering::Acquire)
}

/// Calls a handler of the program's, as the kernel would have. It may be on a signal
/// stack with little room: see [`Interrupted`].
///
/// # Safety
///
/// - The address is a handler's. The kernel gave the rest to the caller.
pub(crate) unsafe fn call(handler: usize, signal: c_int, info: *mut Info, context: *mut c_void) {
    let mut before = Interrupted::NOTHING;
    let gate = HOOK_GATE.try_with(ptr::from_ref).unwrap_or(ptr::null());
    // SAFETY: the thread's own gate, the kernel's context.
    let outermost = unsafe { begin(&*gate, &*context.cast(), &mut before) };
    // SAFETY: the kernel gives each handler all three, whatever it takes; called as it
    // would have.
    unsafe { mem::transmute::<usize, ProgramHandler>(handler)(signal, info, context) };
    COUNT.fetch_add(1, Ordering::Release);
    if outermost {
        // SAFETY: the thread's own gate.
        unsafe { end(&*gate, &before) };
    }
}

/// Notes the handler whose frames begin where `before` lies, unless it has interrupted
/// another one; and says whether it did.
fn begin(gate: &HookGate, context: &Registers, before: &mut Interrupted) -> bool {
    Interrupted::before(gate, before);
    let from = stack_pointer(context);
    if before.is_handler(gate, from, is_on_signal_stack(context, from)) {
        return false;
    }
    Interrupted::begin(gate, from, ptr::from_ref(before).addr());
    true
}

fn is_on_signal_stack(context: &Registers, from: usize) -> bool {
    let stack = &context.uc_stack;
    from.wrapping_sub(stack.ss_sp as usize) < stack.ss_size
}

/// The handler returns.
fn end(gate: &HookGate, before: &Interrupted) {
    Interrupted::end(gate, ptr::from_ref(before).addr(), before);
}

/// The stack pointer of what was interrupted.
pub(crate) fn stack_pointer(context: &Registers) -> usize {
    #[cfg(target_arch = "x86_64")]
    return context.uc_mcontext.gregs[libc::REG_RSP as usize] as usize;
    #[cfg(target_arch = "aarch64")]
    return context.uc_mcontext.sp as usize;
}

/// The address that is installed instead of a handler's.
#[cfg(target_arch = "x86_64")]
fn entry() -> usize {
    enter as *const () as usize
}

/// The same. Here the kernel gives only those handlers all arguments that are installed with
/// `SA_SIGINFO`. The frame that the others lie in is there for all, where the stack ends.
#[cfg(target_arch = "aarch64")]
fn entry() -> usize {
    crore_enter_handler as *const () as usize
}

#[cfg(target_arch = "aarch64")]
const _: () = assert!(size_of::<Info>() == 128);

#[cfg(target_arch = "aarch64")]
std::arch::global_asm!(
    ".pushsection .text.crore_enter_handler,\"ax\",@progbits",
    ".balign 16",
    ".globl crore_enter_handler",
    ".hidden crore_enter_handler",
    ".type crore_enter_handler, @function",
    "crore_enter_handler:",
    ".cfi_startproc",
    "mov x1, sp",
    "add x2, sp, #128",
    "b {enter}",
    ".cfi_endproc",
    ".size crore_enter_handler, . - crore_enter_handler",
    ".popsection",
    enter = sym enter,
);

#[cfg(target_arch = "aarch64")]
unsafe extern "C" {
    /// [`enter`], told where the kernel has put what it wants to know.
    fn crore_enter_handler();
}

/// Whether this is a handler's address. Others have meanings: `SIG_DFL`, `SIG_IGN`,
/// `SIG_HOLD`, `SIG_ERR`.
fn is_handler(address: usize) -> bool {
    address >= PAGE && address != libc::SIG_ERR
}

/// Makes this the program's handler of a signal, if it is one: what to install instead,
/// and the handler before.
pub(crate) fn replace(signal: c_int, handler: usize) -> (usize, usize) {
    let Some(place) = usize::try_from(signal).ok().and_then(|at| HANDLERS.get(at)) else {
        return (handler, 0);
    };
    if !is_handler(handler) || handler == entry() {
        return (handler, place.load(Ordering::Acquire));
    }
    (entry(), place.swap(handler, Ordering::AcqRel))
}

/// It was not installed after all.
pub(crate) fn put_back(signal: c_int, before: usize) {
    if let Some(place) = usize::try_from(signal).ok().and_then(|at| HANDLERS.get(at)) {
        place.store(before, Ordering::Release);
    }
}

/// The program's handler, where what is installed stands for it.
pub(crate) fn meant(installed: usize, program: usize) -> usize {
    if installed == entry() {
        program
    } else {
        installed
    }
}

/// As [`meant`], for the present handler.
pub(crate) fn present(signal: c_int, installed: usize) -> usize {
    if installed == entry() {
        handler_of(signal)
    } else {
        installed
    }
}

#[cfg(all(test, feature = "hook", not(target_feature = "crt-static")))]
mod tests {
    use crate::sys::testing::{LEAST_HANDLER_ROOM, handler_bytes, in_child, note_context};

    fn send<const SIGNAL: i32>() {
        // SAFETY: a handler is there.
        unsafe { libc::raise(SIGNAL) };
    }

    /// On whatever stack it comes: a handler of std's has no more room.
    #[test]
    fn a_handler_of_the_programs_needs_little_more_stack() {
        let name = concat!(
            module_path!(),
            "::a_handler_of_the_programs_needs_little_more_stack"
        );
        let output = in_child(name, || {
            for signal in [libc::SIGUSR1, libc::SIGUSR2] {
                // SAFETY: it does what handlers may; zeros are valid.
                unsafe {
                    let mut action: libc::sigaction = std::mem::zeroed();
                    action.sa_sigaction = note_context as *const () as usize;
                    action.sa_flags = libc::SA_ONSTACK | libc::SA_SIGINFO;
                    assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
                }
            }
            let used = handler_bytes([send::<{ libc::SIGUSR1 }>, send::<{ libc::SIGUSR2 }>]);
            assert!(
                used.iter().all(|&used| used < LEAST_HANDLER_ROOM),
                "{used:?}"
            );
        });
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
    }
}
