//! System calls that pass the hooks: those that code makes by itself, and those of
//! functions of libc's that are not hooked.
//!
//! Linux' Syscall User Dispatch (5.11, x86-64) turns each system call of a thread into a
//! signal, `SIGSYS`, but for those of one range of addresses. That range is
//! where this crate makes its own calls (`own_call.rs`). The handler tells the thread's world of a call
//! and makes it there; what can't be made in a handler is redirected to the range, or
//! done to the frame that the handler returns to. Threads and processes that are started
//! meanwhile are not watched.

use std::ffi::{c_int, c_long, c_void};
use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::{self, with_exposed_provenance, with_exposed_provenance_mut};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::handlers::{self, Info, Registers};
use super::own_call::{crore_signal_return, crore_system_call, crore_system_call_end};
use super::simulated;
use super::syscall::{KERNEL_SIGSET_BYTES, sys, to_io, trap};

const PR_SET_SYSCALL_USER_DISPATCH: c_int = 59;
const OFF: c_int = 0;
const ON: c_int = 1;
/// `SYS_USER_DISPATCH`, in `si_code`.
const BY_DISPATCH: c_int = 2;

/// The kernel's `struct sigaction`, which is not libc's.
#[repr(C)]
#[derive(Clone, Copy)]
struct KernelAction {
    handler: usize,
    flags: usize,
    restorer: usize,
    mask: u64,
}

const RESTORER: usize = 0x0400_0000;
const BIT: u64 = 1 << (libc::SIGSYS - 1);

/// What the program, or a filter of its own, does with `SIGSYS`.
static FORMER: AtomicUsize = AtomicUsize::new(libc::SIG_DFL);

/// The calling thread's calls are told to its world until this is dropped.
pub(crate) struct WatchedCalls(PhantomData<*mut ()>);

impl WatchedCalls {
    /// # Errors
    ///
    /// The kernel can't: it is older than 5.11, or an emulator.
    pub(crate) fn begin() -> io::Result<Self> {
        install()?;
        let begin = crore_system_call as *const () as usize;
        let len = crore_system_call_end as *const () as usize - begin;
        // SAFETY: no byte that decides, so the kernel writes and reads nothing of ours.
        let done = unsafe { sys!(SYS_prctl, PR_SET_SYSCALL_USER_DISPATCH, ON, begin, len, 0) };
        to_io(done).map(|_| Self(PhantomData))
    }
}

impl Drop for WatchedCalls {
    fn drop(&mut self) {
        // SAFETY: as above.
        let _ = unsafe { sys!(SYS_prctl, PR_SET_SYSCALL_USER_DISPATCH, OFF, 0, 0, 0) };
    }
}

/// A call for a handler that is blocked ends the process: so no handler blocks it, nor
/// does the thread.
fn install() -> io::Result<()> {
    for signal in 1..=64 {
        let mut action = present(signal);
        if action.mask & BIT != 0 && action.handler > libc::SIG_IGN {
            action.mask &= !BIT;
            // SAFETY: the present handler.
            let _ = unsafe { set_action(signal, &raw const action, ptr::null_mut()) };
        }
    }
    let mask = BIT;
    // SAFETY: a set of ours.
    let open = unsafe {
        let size = KERNEL_SIGSET_BYTES;
        sys!(
            SYS_rt_sigprocmask,
            libc::SIG_UNBLOCK,
            &raw const mask,
            0,
            size
        )
    };
    to_io(open)?;
    let ours = KernelAction {
        handler: on_call as *const () as usize,
        flags: (libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER) as usize | RESTORER,
        restorer: crore_signal_return as *const () as usize,
        mask: 0,
    };
    let mut former = KernelAction { handler: 0, ..ours };
    // SAFETY: the handler lives as long as this code, and is async-signal-safe.
    to_io(unsafe { set_action(libc::SIGSYS, &raw const ours, &raw mut former) })?;
    if former.handler != ours.handler {
        FORMER.store(former.handler, Ordering::Relaxed);
    }
    Ok(())
}

fn present(signal: c_int) -> KernelAction {
    let mut action = MaybeUninit::<KernelAction>::zeroed();
    // SAFETY: nothing new, a place of ours; zeros are an action, too.
    unsafe {
        let _ = set_action(signal, ptr::null(), action.as_mut_ptr());
        action.assume_init()
    }
}

/// # Safety
///
/// - As for the system call.
unsafe fn set_action(
    signal: c_int,
    new: *const KernelAction,
    old: *mut KernelAction,
) -> super::syscall::Answer {
    // SAFETY: forwarded.
    unsafe { sys!(SYS_rt_sigaction, signal, new, old, KERNEL_SIGSET_BYTES) }
}

/// A system call as the handler finds it, and where its result goes.
struct CaughtCall<'a> {
    number: c_long,
    args: [usize; 6],
    frame: &'a mut Registers,
}

/// What `SIGSYS` runs.
unsafe extern "C" fn on_call(signal: c_int, info: *mut Info, context: *mut c_void) {
    // SAFETY: the kernel's, and nobody else's while this runs.
    let (code, frame) = unsafe { ((*info).code(), &mut *context.cast::<Registers>()) };
    if code != BY_DISPATCH {
        let former = FORMER.load(Ordering::Relaxed);
        if former > libc::SIG_IGN {
            // SAFETY: it was installed; the kernel's arguments.
            unsafe { handlers::call(former, signal, info, context) };
        }
        return;
    }
    let register = |which: c_int| frame.uc_mcontext.gregs[which as usize] as usize;
    let number = register(libc::REG_RAX) as c_long;
    let args = [
        libc::REG_RDI,
        libc::REG_RSI,
        libc::REG_RDX,
        libc::REG_R10,
        libc::REG_R8,
        libc::REG_R9,
    ]
    .map(register);
    if let Some(world) = simulated::world() {
        world.passed(number, args, frame);
    }
    let call = CaughtCall {
        number,
        args,
        frame,
    };
    // SAFETY: the program's own call.
    unsafe { call.make() };
}

impl CaughtCall<'_> {
    /// # Safety
    ///
    /// - As for the call. `frame` is where it was made.
    unsafe fn make(mut self) {
        let [a, b, c, d, e, f] = self.args;
        // SAFETY: the program's call, and its places.
        let answer = unsafe {
            match self.number {
                // The frame that is to be left is where the stack pointer is.
                libc::SYS_rt_sigreturn => return self.redirect(),
                libc::SYS_clone if b != 0 => return self.start_on(b, |call, sp| call.args[1] = sp),
                libc::SYS_clone3 if clone3_stack(a).is_some() => return self.start_by_clone3(),
                // A child on this very stack would overwrite it: it has a copy.
                libc::SYS_clone => {
                    let copies = a & !(libc::CLONE_VM as usize);
                    trap(self.number, [copies, b, c, d, e, f])
                }
                libc::SYS_vfork => {
                    let flags = libc::CLONE_VFORK | libc::SIGCHLD;
                    trap(libc::SYS_clone, [flags as usize, 0, 0, 0, 0, 0])
                }
                libc::SYS_rt_sigprocmask => self.set_mask(),
                libc::SYS_sigaltstack => self.set_stack(),
                libc::SYS_rt_sigaction => self.set_handler(),
                _ => trap(self.number, self.args),
            }
        };
        self.set(libc::REG_RAX, answer as usize);
    }

    fn get(&self, which: c_int) -> usize {
        self.frame.uc_mcontext.gregs[which as usize] as usize
    }

    fn set(&mut self, which: c_int, value: usize) {
        self.frame.uc_mcontext.gregs[which as usize] = value as libc::greg_t;
    }

    /// The call is made where this crate makes its own.
    fn redirect(&mut self) {
        self.set(libc::REG_RIP, crore_system_call as *const () as usize);
    }

    /// A child that begins on another stack, and its parent, each find there where to go on.
    ///
    /// # Safety
    ///
    /// - As for the call, whose child's stack ends at `top`.
    unsafe fn start_on(&mut self, top: usize, tell: impl FnOnce(&mut Self, usize)) {
        let behind = self.get(libc::REG_RIP);
        let own = self.get(libc::REG_RSP);
        for place in [top, own] {
            // SAFETY: the free ends of two stacks.
            unsafe { with_exposed_provenance_mut::<usize>(place - 8).write(behind) };
        }
        tell(self, top - 8);
        self.set(libc::REG_RSP, own - 8);
        self.set(libc::REG_RSI, self.args[1]);
        self.redirect();
    }

    /// # Safety
    ///
    /// - As for the call.
    unsafe fn start_by_clone3(&mut self) {
        let place = with_exposed_provenance_mut::<libc::clone_args>(self.args[0]);
        // SAFETY: the caller's arguments.
        unsafe {
            let top = ((*place).stack + (*place).stack_size) as usize;
            self.start_on(top, |_, _| (*place).stack_size -= 8);
        }
    }

    /// What the thread blocks when the handler has returned.
    ///
    /// # Safety
    ///
    /// - As for the call.
    unsafe fn set_mask(&mut self) -> isize {
        let [how, new, old, ..] = self.args;
        let mask = (&raw mut self.frame.uc_sigmask).cast::<u64>();
        // SAFETY: the frame's mask, the caller's places.
        unsafe {
            let now = mask.read();
            if old != 0 {
                with_exposed_provenance_mut::<u64>(old).write_unaligned(now);
            }
            if new == 0 {
                return 0;
            }
            let set = with_exposed_provenance::<u64>(new).read_unaligned();
            let then = match how as c_int {
                libc::SIG_BLOCK => now | set,
                libc::SIG_UNBLOCK => now & !set,
                libc::SIG_SETMASK => set,
                _ => return -libc::EINVAL as isize,
            };
            mask.write(then & !BIT);
        }
        0
    }

    /// The signal stack when the handler has returned, which is on the present one.
    ///
    /// # Safety
    ///
    /// - As for the call.
    unsafe fn set_stack(&mut self) -> isize {
        let [new, old, ..] = self.args;
        let now = self.frame.uc_stack;
        // SAFETY: the caller's places, or null.
        unsafe {
            if let Some(new) = with_exposed_provenance::<libc::stack_t>(new).as_ref() {
                self.frame.uc_stack = *new;
            }
            if let Some(old) = with_exposed_provenance_mut::<libc::stack_t>(old).as_mut() {
                *old = now;
            }
        }
        0
    }

    /// No handler blocks `SIGSYS`, whose own stays.
    ///
    /// # Safety
    ///
    /// - As for the call.
    unsafe fn set_handler(&mut self) -> isize {
        let [signal, new, old, ..] = self.args;
        let mut args = self.args;
        let mut action;
        let former = FORMER.load(Ordering::Relaxed);
        // SAFETY: the caller's place, or null; a copy that outlives the call.
        unsafe {
            if let Some(theirs) = with_exposed_provenance::<KernelAction>(new).as_ref() {
                action = *theirs;
                if signal == libc::SIGSYS as usize {
                    FORMER.store(action.handler, Ordering::Relaxed);
                    args[1] = 0;
                } else {
                    action.mask &= !BIT;
                    args[1] = (&raw const action).expose_provenance();
                }
            }
            let answer = trap(libc::SYS_rt_sigaction, args);
            let old = with_exposed_provenance_mut::<KernelAction>(old).as_mut();
            if let Some(old) = old.filter(|_| signal == libc::SIGSYS as usize) {
                old.handler = former;
            }
            answer
        }
    }
}

/// Where the child's stack ends, if it is to have one.
///
/// # Safety
///
/// - As for the call, whose first argument this is.
unsafe fn clone3_stack(args: usize) -> Option<usize> {
    // SAFETY: the caller's arguments.
    let args = unsafe { with_exposed_provenance::<libc::clone_args>(args).as_ref() }?;
    (args.stack != 0).then_some((args.stack + args.stack_size) as usize)
}
