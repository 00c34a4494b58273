//! Deep calls on a stack of their own: [`grow`], [`maybe_grow`].
//!
//! The stack gets a carrier of its own, which the coroutine resumes from its first stack
//! (`sched/grown.rs`). So the coroutine waits up there as it does below.

use std::panic::resume_unwind;
use std::ptr::NonNull;

use super::stack::Lease;
use crate::sched::CurrentTask;
use crate::stack::limit_of_stack;
use crate::switch::{Carrier, EntryPoint, SwitchReason, stack_pointer, take_panic};

/// Calls `f` on another stack, of at least `stack_size` bytes, and returns what it
/// returns: for a deep recursion in a coroutine whose stack is small otherwise.
///
/// In a coroutine, of whichever kind, `f` is in that coroutine still: it waits, yields, is
/// cancelled and reaches the coroutine's locals as it would without. A panic of `f` comes
/// out of this call. The stack has a guard; who runs into it is reported by name. It
/// goes back when `f` is done, and is kept for the next. Elsewhere, on a plain thread or
/// in a future, it is just a larger stack. A generator's `yield_` panics up there: it
/// leaves no stack but the generator's.
///
/// The name is that of the crate `stacker`, whose own stacks would do, too, but for
/// coroutines on [shared stacks](crate::spawn_shared).
///
/// # Panics
///
/// When no stack of that size can be had: it is over 1 GiB, say.
///
/// # Examples
///
/// ```
/// fn depth(left: u32) -> u32 {
///     let frame = std::hint::black_box([left as u8; 1024]);
///     if left == 0 { 0 } else { depth(left - 1) + 1 + u32::from(frame[0]) * 0 }
/// }
///
/// let reached = crore::run(|| {
///     crore::spawn(|| crore::grow(16 << 20, || depth(4_000))).join().unwrap()
/// })?;
/// assert_eq!(reached, 4_000);
/// # std::io::Result::Ok(())
/// ```
pub fn grow<F: FnOnce() -> R, R>(stack_size: usize, f: F) -> R {
    let lease =
        Lease::new(stack_size).unwrap_or_else(|error| panic!("no stack to grow onto: {error}"));
    let mut call = DeepCall {
        head: EntryPoint {
            run: run_deep::<F, R>,
        },
        f: Some(f),
        result: None,
    };
    // SAFETY: the stack is ours, with its guard, until the lease ends: after `f` has, or
    // never, if this frame is left as it is (I6).
    let carrier = unsafe { Carrier::install(lease.bounds()) };
    let entry = (&raw mut call).cast::<EntryPoint>();
    let reason = match CurrentTask::running() {
        // SAFETY: an idle carrier of this thread's, and the head of a call of its type,
        // which stays in this frame until it has ended.
        Some(cx) => unsafe { cx.run_grown(carrier, entry) },
        // SAFETY: as above; nobody suspends outside of coroutines.
        None => unsafe { Carrier::resume_above(carrier, entry) },
    };
    drop(lease);
    if reason == SwitchReason::Panicked {
        let payload = take_panic();
        match CurrentTask::running() {
            Some(cx) => cx.unwind_on(payload),
            None => resume_unwind(payload),
        }
    }
    call.result.expect("it has returned")
}

/// [`grow`]s onto `stack_size` bytes if fewer than `red_zone` are left of the stack, else
/// calls `f` as it is: to be called at each step of a recursion.
///
/// Outside of coroutines it is not known how much is left, so the first call grows.
///
/// ```
/// fn depth(left: u32) -> u32 {
///     crore::maybe_grow(32 << 10, 1 << 20, || match left {
///         0 => 0,
///         _ => depth(left - 1) + 1,
///     })
/// }
/// assert_eq!(crore::run(|| depth(100_000)).unwrap(), 100_000);
/// ```
///
/// # Panics
///
/// As [`grow`].
#[inline]
pub fn maybe_grow<R>(red_zone: usize, stack_size: usize, f: impl FnOnce() -> R) -> R {
    let left = match CurrentTask::running() {
        Some(cx) => cx.stack_left(),
        None => {
            let at = stack_pointer();
            limit_of_stack(at).map_or(0, |limit| at.saturating_sub(limit))
        }
    };
    if left >= red_zone {
        f()
    } else {
        grow(stack_size, f)
    }
}

/// What is called up there, and what it returned.
#[repr(C)]
struct DeepCall<F, R> {
    head: EntryPoint,
    f: Option<F>,
    result: Option<R>,
}

/// # Safety
///
/// - `head` is that of a `DeepCall` of these types, which nothing else uses meanwhile.
unsafe fn run_deep<F: FnOnce() -> R, R>(head: NonNull<EntryPoint>) {
    // SAFETY: the first field of a `repr(C)` call, as the caller says.
    let call = unsafe { head.cast::<DeepCall<F, R>>().as_mut() };
    let f = call.f.take().expect("it is called once");
    call.result = Some(f());
}
