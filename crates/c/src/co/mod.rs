//! libco's API (`co_routine.h`): explicit resume over a driven runtime.
//!
//! Each thread that uses it has a runtime that it drives itself: `co_resume` runs a
//! coroutine until that suspends, by `co_yield_ct` or because a hooked call has parked it,
//! and `co_eventloop` runs those whose calls can go on. So `main` is no coroutine, as in
//! libco, and a hooked call gives control back to whoever has resumed.
//!
//! What libco's users hold as pointers are handles here (`table.rs`), which no one may
//! look behind. An object is its thread's; calls of others are refused. Misuse, which is
//! undefined in libco, does nothing and says so on stderr.

mod cond;
mod env;
mod poll;
mod routine;
mod specific;
mod thread;

use crate::error::{Error, fail};

/// Says what was wrong with a call that has no way to return it.
#[cold]
fn refuse(function: &str, error: Error) -> i32 {
    eprintln!("crore: {function}: {}", error.1);
    fail(error)
}
