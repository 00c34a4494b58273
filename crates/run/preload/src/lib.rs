//! The library that `crore run` loads into a program before all others: libc's calls
//! arrive at crore's hooks, `main` runs as the first thread of a runtime, and the
//! threads that it starts are coroutines.
//!
//! Settings come by the environment (`settings.rs`); without `CRORE_RUN` the library does
//! nothing.

mod learnt;
mod main_thread;
mod settings;
mod uring;

// Its hooks are exported with it.
pub use crore;
