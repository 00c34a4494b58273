//! Threads as coroutines: in a runtime that is built so, a thread that a coroutine
//! starts is a coroutine with thread-locals of its own, and all of pthreads is
//! right for it.
//!
//! Lives here: who is such a thread ([`thread`]), how one starts ([`create`]), ends
//! ([`exit`]), is joined and asked about. Does not live here: its TLS block
//! and when that may be used again (`sched/thread_seat.rs`), locks (`hook/futex`), which
//! park each coroutine that has thread-locals of its own as they would a thread.
//!
//! Which threads stay the kernel's: all that plain threads start; those that are started
//! in [`unhooked`](crate::unhooked()) code and in crore's own, which is a no-park scope
//! for that moment; those with a stack of the program's; and those whose start
//! routine the runtime's builder says (`keep_real`).

mod actions;
pub(crate) mod alt_stack;
pub(crate) mod c11;
mod call_start;
pub(crate) mod create;
pub(crate) mod exit;
pub(crate) mod interrupt;
pub(crate) mod join;
pub(crate) mod kill;
pub(crate) mod mask;
pub(crate) mod name;
pub(crate) mod number;
mod pending;
#[cfg(feature = "sanitizer")]
mod sanitizer;
mod thread;
mod to_process;

pub(crate) use thread::Thread;

/// What the tables of threads hold.
pub(super) fn left_over() -> [(&'static str, usize); 2] {
    [
        ("threads", thread::count()),
        ("workers with masks of threads", mask::count()),
    ]
}
