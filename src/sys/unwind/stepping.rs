//! For tests: a walk from each instruction of some code, as if a signal came there.

use std::arch::asm;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

use super::{RegisterSet, Unwinder};
use crate::sys::handlers::{Info, Registers};
use crate::sys::signal::Action;
use crate::sys::syscall::sys;

/// The processor's flag that has it trap after each instruction.
const TRAP: i64 = 0x100;

static UNWINDER: AtomicPtr<Unwinder> = AtomicPtr::new(ptr::null_mut());
static STEPS: AtomicUsize = AtomicUsize::new(0);
static FOUND: AtomicUsize = AtomicUsize::new(0);
/// On the stack of `at_each_instruction`.
static HERE: AtomicUsize = AtomicUsize::new(0);

/// Calls `f`, and walks from each of its instructions: how many those were, and from how
/// many the walk came back to here. To be called once in a process.
pub(crate) fn at_each_instruction(f: impl FnOnce()) -> (usize, usize) {
    UNWINDER.store(Box::into_raw(Box::new(Unwinder::new())), Relaxed);
    let action = Action::of(libc::SIGTRAP).unwrap().replaced_by(step);
    let stack = vec![0_u8; 1 << 20].leak();
    let stack = libc::stack_t {
        ss_sp: stack.as_mut_ptr().cast(),
        ss_flags: 0,
        ss_size: stack.len(),
    };
    // SAFETY: a signal stack for ever; the handler may be called anywhere.
    unsafe {
        sys!(SYS_sigaltstack, &raw const stack, 0).unwrap();
        action.install(libc::SIGTRAP).unwrap();
    }
    HERE.store(ptr::from_ref(&stack).addr(), Relaxed);
    calls(f);
    (STEPS.load(Relaxed), FOUND.load(Relaxed))
}

#[inline(never)]
fn calls(f: impl FnOnce()) {
    // SAFETY: this thread's flag, and back; what lies below the stack pointer stays.
    unsafe {
        asm!("lea rsp, [rsp - 128]", "pushfq", "or qword ptr [rsp], {trap}", "popfq",
            "lea rsp, [rsp + 128]", trap = const TRAP);
        f();
        asm!("lea rsp, [rsp - 128]", "pushfq", "and qword ptr [rsp], {all}", "popfq",
            "lea rsp, [rsp + 128]", all = const !TRAP);
    }
}

unsafe extern "C" fn step(_: c_int, _: *mut Info, context: *mut c_void) {
    // SAFETY: the kernel's; nobody else has the unwinder.
    let (registers, unwinder) =
        unsafe { (&*context.cast::<Registers>(), &mut *UNWINDER.load(Relaxed)) };
    let mut from = RegisterSet::default();
    from.fill(registers);
    let (mut frames, mut found) = (0, false);
    let here = HERE.load(Relaxed);
    unwinder.walk(from, |_, frame| {
        frames += 1;
        found |= (here..here + (1 << 16)).contains(&frame);
        frames < 256
    });
    assert!(frames > 0);
    STEPS.fetch_add(1, Relaxed);
    FOUND.fetch_add(usize::from(found), Relaxed);
}
