//! Signals: handlers, alternate stacks, and the few calls a handler may make.
//!
//! Everything here that takes part in handling a signal is async-signal-safe:
//! no allocation, no locks, no call that the hooks could catch. What a fault
//! means is decided higher up, in `stack::overflow`.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::{io, ptr};

use super::handlers::{self, Info};
use super::signal_mask::SignalMask;
use super::syscall::{sys, tid};

#[cfg(not(target_env = "gnu"))]
use libc::sigaction;
#[cfg(target_env = "gnu")]
unsafe extern "C" {
    /// libc's own: the other name is a hook, for handlers of the program.
    #[link_name = "__sigaction"]
    fn sigaction(signal: c_int, new: *const libc::sigaction, old: *mut libc::sigaction) -> c_int;
}

/// The fault signals that a touched guard page raises: `SIGSEGV` on Linux;
/// `SIGBUS` is raised for some mappings and on other systems.
pub(crate) const FAULTS: [c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// What a handler looks like: signal, what happened, the registers.
pub(crate) type Handler = unsafe extern "C" fn(c_int, *mut Info, *mut c_void);

/// What a signal does: the default, nothing, or a handler.
#[derive(Clone, Copy)]
pub(crate) struct Action(libc::sigaction);

impl Action {
    /// The present action of `signal`.
    pub(crate) fn of(signal: c_int) -> io::Result<Self> {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: no new action; the old one is written to our local.
        check(unsafe { sigaction(signal, ptr::null(), action.as_mut_ptr()) })?;
        // SAFETY: filled in by the call, and all zeros are valid anyway.
        let mut action = unsafe { action.assume_init() };
        action.sa_sigaction = handlers::present(signal, action.sa_sigaction);
        Ok(Self(action))
    }

    /// Whether it is a function, and not the default or nothing.
    pub(crate) fn is_handler(&self) -> bool {
        ![libc::SIG_DFL, libc::SIG_IGN].contains(&self.0.sa_sigaction)
    }

    /// Whether it is this function.
    pub(crate) fn runs(&self, handler: Handler) -> bool {
        self.0.sa_sigaction == handler as *const () as usize
    }

    /// An action that runs `handler` on the alternate stack and otherwise
    /// behaves like this one: it blocks the same signals meanwhile.
    pub(crate) fn replaced_by(&self, handler: Handler) -> Self {
        let mut action = *self;
        action.0.sa_sigaction = handler as *const () as usize;
        action.0.sa_flags =
            libc::SA_SIGINFO | libc::SA_ONSTACK | (self.0.sa_flags & libc::SA_RESTART);
        action
    }

    /// As [`Action::replaced_by`], and calls that are interrupted go on. No other
    /// signal comes meanwhile: a stack of std's has room for one signal frame, not
    /// for two on top of each other.
    pub(crate) fn restarting(&self, handler: Handler) -> Self {
        let mut action = self.replaced_by(handler);
        action.0.sa_flags |= libc::SA_RESTART;
        // SAFETY: the action's own set.
        unsafe {
            libc::sigfillset(&raw mut action.0.sa_mask);
            // What a thread's own calls raise, where simulations watch them.
            libc::sigdelset(&raw mut action.0.sa_mask, libc::SIGSYS);
        }
        action
    }

    /// Makes this the action of `signal`.
    ///
    /// # Safety
    ///
    /// - A handler in it is async-signal-safe and can be called until it is
    ///   replaced.
    pub(crate) unsafe fn install(&self, signal: c_int) -> io::Result<()> {
        // SAFETY: a valid action; its handler is the caller's promise.
        check(unsafe { sigaction(signal, &self.0, ptr::null_mut()) })
    }

    /// Does to a signal that we caught what this action would have done, had
    /// it been the installed one. To be called last in a handler.
    ///
    /// # Safety
    ///
    /// - The arguments are those which the kernel gave the running handler.
    /// - This action was once installed for `signal`.
    pub(crate) unsafe fn hand_on(&self, signal: c_int, info: *mut Info, context: *mut c_void) {
        // SAFETY: the kernel's, by the first point.
        let is_fault = unsafe { &*info }.fault_address().is_some();
        match self.0.sa_sigaction {
            // The kernel does not ignore faults either: it kills.
            libc::SIG_IGN if !is_fault => {}
            libc::SIG_DFL | libc::SIG_IGN => {
                restore_default(signal);
                if !is_fault {
                    // A fault happens again by itself when we return; a sent
                    // signal must be sent again. It is blocked until then.
                    // SAFETY: no pointers.
                    let _ = unsafe { sys!(SYS_tgkill, libc::getpid(), tid(), signal) };
                }
            }
            handler => {
                if self.0.sa_flags & libc::SA_RESETHAND != 0 {
                    restore_default(signal);
                }
                if self.0.sa_flags & libc::SA_NODEFER != 0 {
                    unblock(signal);
                }
                // SAFETY: it was installed; the kernel's arguments.
                unsafe { handlers::call(handler, signal, info, context) };
            }
        }
    }
}

/// The action that was there before ours; set once, if at all.
///
/// A handler of ours may come on any thread, on a signal stack that the processor's
/// registers fill but for a few hundred bytes: std's own. So what is done on the way to
/// a former handler keeps to small functions that call few others, whose frames are small
/// in debug builds, too.
pub(crate) struct Former(AtomicPtr<Action>);

impl Former {
    pub(crate) const fn none() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// Remembers an action for ever, unless there is one.
    pub(crate) fn set(&self, action: Action) -> &'static Action {
        let fresh = Box::into_raw(Box::new(action));
        let (ours, none) = (Ordering::AcqRel, ptr::null_mut());
        match self
            .0
            .compare_exchange(none, fresh, ours, Ordering::Acquire)
        {
            // SAFETY: just made, and never freed from here on.
            Ok(_) => unsafe { &*fresh },
            Err(other) => {
                // SAFETY: `fresh` was not published; `other` is never freed.
                unsafe {
                    drop(Box::from_raw(fresh));
                    &*other
                }
            }
        }
    }

    pub(crate) fn get(&self) -> Option<&'static Action> {
        // SAFETY: null, or never freed.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }

    /// The handler of an action that asks for nothing else but to call it, for
    /// [`handlers::call`]; else 0.
    pub(crate) fn plain_handler(&self) -> usize {
        let action = self.0.load(Ordering::Acquire);
        if action.is_null() {
            return 0;
        }
        // SAFETY: never freed.
        let (handler, flags) = unsafe { ((*action).0.sa_sigaction, (*action).0.sa_flags) };
        let is_plain = handler != libc::SIG_DFL
            && handler != libc::SIG_IGN
            && flags & (libc::SA_RESETHAND | libc::SA_NODEFER) == 0;
        if is_plain { handler } else { 0 }
    }

    /// As [`Action::hand_on`], where there is an action.
    ///
    /// # Safety
    ///
    /// As there.
    pub(crate) unsafe fn hand_on(&self, signal: c_int, info: *mut Info, context: *mut c_void) {
        if let Some(action) = self.get() {
            // SAFETY: forwarded.
            unsafe { action.hand_on(signal, info, context) };
        }
    }

    /// Whether there is an action, and it is a handler.
    pub(crate) fn is_handler(&self) -> bool {
        let action = self.0.load(Ordering::Acquire);
        if action.is_null() {
            return false;
        }
        // SAFETY: never freed.
        let handler = unsafe { (*action).0.sa_sigaction };
        handler != libc::SIG_DFL && handler != libc::SIG_IGN
    }
}

fn restore_default(signal: c_int) {
    // SAFETY: SIG_DFL with nothing masked; all zeros are a valid sigaction.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = libc::SIG_DFL;
        sigaction(signal, &action, ptr::null_mut());
    }
}

fn unblock(signal: c_int) {
    SignalMask::current().without(signal).replace();
}

/// Ends the process by `SIGABRT`, past any handler of it.
pub(crate) fn abort() -> ! {
    restore_default(libc::SIGABRT);
    unblock(libc::SIGABRT);
    std::process::abort()
}

/// The name of the calling thread, as the kernel knows it: 15 bytes at most.
pub(crate) fn thread_name(buffer: &mut [u8; 16]) -> &str {
    // SAFETY: writes at most 16 bytes to the buffer, a zero among them.
    unsafe { libc::prctl(libc::PR_GET_NAME, buffer.as_mut_ptr()) };
    let name = buffer.split(|&byte| byte == 0).next().unwrap_or_default();
    std::str::from_utf8(name).unwrap_or("(not UTF-8)")
}

/// The stack on which this thread's `SA_ONSTACK` handlers run.
#[derive(Clone, Copy)]
pub(crate) struct SignalStack(libc::stack_t);

impl SignalStack {
    /// The memory `[base, base + len)` as a signal stack.
    pub(crate) fn new(base: *mut u8, len: usize) -> Self {
        Self(libc::stack_t {
            ss_sp: base.cast(),
            ss_flags: 0,
            ss_size: len,
        })
    }

    /// What this thread uses at present.
    pub(crate) fn current() -> io::Result<Self> {
        let mut stack = MaybeUninit::<libc::stack_t>::zeroed();
        // SAFETY: sets nothing; the present one is written to our local.
        unsafe { sys!(SYS_sigaltstack, 0, stack.as_mut_ptr()) }
            .map_err(io::Error::from_raw_os_error)?;
        // SAFETY: filled in by the call, and all zeros are valid anyway.
        Ok(Self(unsafe { stack.assume_init() }))
    }

    /// Makes this thread use it.
    ///
    /// # Safety
    ///
    /// - The memory is writable and used by nothing else until this thread
    ///   uses another signal stack or ends.
    pub(crate) unsafe fn install(&self) -> io::Result<()> {
        // SAFETY: the memory is the caller's promise.
        let done = unsafe { sys!(SYS_sigaltstack, &raw const self.0, 0) };
        done.map(drop).map_err(io::Error::from_raw_os_error)
    }

    /// Whether the thread runs on it.
    pub(crate) fn is_in_use(&self) -> bool {
        self.0.ss_flags & libc::SS_ONSTACK != 0
    }

    /// Lowest address.
    pub(crate) fn base(&self) -> *mut u8 {
        self.0.ss_sp.cast()
    }

    /// Bytes; zero where there is no signal stack.
    pub(crate) fn len(&self) -> usize {
        if self.0.ss_flags & libc::SS_DISABLE != 0 {
            0
        } else {
            self.0.ss_size
        }
    }

    /// What the kernel itself may put onto a signal stack on this processor:
    /// the registers, with all vector state.
    pub(crate) fn kernel_share() -> usize {
        // SAFETY: no preconditions; zero where the kernel does not tell.
        let told = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) } as usize;
        told.max(libc::MINSIGSTKSZ)
    }
}

fn check(result: c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::in_child;
    use std::os::unix::process::ExitStatusExt;
    use std::sync::OnceLock;

    static FORMER: OnceLock<Action> = OnceLock::new();

    unsafe extern "C" fn pass(signal: c_int, info: *mut Info, context: *mut c_void) {
        // SAFETY: the kernel's arguments; `FORMER` was installed before.
        unsafe { FORMER.get().unwrap().hand_on(signal, info, context) };
    }

    unsafe extern "C" fn exit_41(_: c_int) {
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(41) }
    }

    unsafe extern "C" fn exit_42_at_8(_: c_int, info: *mut Info, _: *mut c_void) {
        // SAFETY: the kernel's info; then the process ends at once.
        unsafe {
            libc::_exit(if (*info).fault_address() == Some(8) {
                42
            } else {
                1
            })
        }
    }

    /// Puts `handler` with `flags` before ours.
    fn with_former(handler: usize, flags: c_int) {
        // SAFETY: handlers above only, which end the process; zeros are valid.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler;
            action.sa_flags = flags;
            Action(action).install(libc::SIGSEGV).unwrap();
        }
        let former = Action::of(libc::SIGSEGV).unwrap();
        assert!(FORMER.set(former).is_ok());
        // SAFETY: `pass` does what the former one does.
        unsafe { former.replaced_by(pass).install(libc::SIGSEGV) }.unwrap();
    }

    fn fault() {
        // SAFETY: there is nothing at 8: it faults, and the child dies of it.
        unsafe { ptr::without_provenance_mut::<u8>(8).write_volatile(1) };
    }

    fn send() {
        // SAFETY: the child's own affair.
        unsafe { libc::raise(libc::SIGSEGV) };
    }

    macro_rules! child {
        ($name:literal, $body:expr) => {
            in_child(concat!(module_path!(), "::", $name), $body).status
        };
    }

    #[test]
    fn default_dies_of_a_fault() {
        let status = child!("default_dies_of_a_fault", || {
            with_former(libc::SIG_DFL, 0);
            fault();
        });
        assert_eq!(status.signal(), Some(libc::SIGSEGV));
    }

    #[test]
    fn default_dies_of_a_sent_signal() {
        let status = child!("default_dies_of_a_sent_signal", || {
            with_former(libc::SIG_DFL, 0);
            send();
        });
        assert_eq!(status.signal(), Some(libc::SIGSEGV));
    }

    #[test]
    fn ignore_dies_of_a_fault_only() {
        let name = concat!(module_path!(), "::ignore_dies_of_a_fault_only");
        let output = in_child(name, || {
            with_former(libc::SIG_IGN, 0);
            send();
            eprintln!("alive");
            fault();
        });
        assert!(String::from_utf8_lossy(&output.stderr).contains("alive"));
        assert_eq!(output.status.signal(), Some(libc::SIGSEGV));
    }

    #[test]
    fn plain_handler_is_called() {
        let status = child!("plain_handler_is_called", || {
            with_former(
                exit_41 as *const () as usize,
                libc::SA_NODEFER | libc::SA_RESETHAND,
            );
            fault();
        });
        assert_eq!(status.code(), Some(41));
    }

    #[test]
    fn siginfo_handler_is_called_with_the_address() {
        let status = child!("siginfo_handler_is_called_with_the_address", || {
            with_former(exit_42_at_8 as *const () as usize, libc::SA_SIGINFO);
            fault();
        });
        assert_eq!(status.code(), Some(42));
    }
}
