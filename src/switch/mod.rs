//! Floor 2: changing stacks.
//!
//! Lives here: the only use of corosensei. A [`Carrier`] is one long-lived
//! corosensei coroutine on one stack; it runs job after job, and between jobs
//! it waits at its idle point. Does not live here: which job runs when, what a
//! task is, where stacks come from.
//!
//! ```text
//!  stack, high addresses          who owns the bytes
//!  ┌───────────────────────────┐ ← top (page aligned, minus colour)
//!  │ Carrier (64 B)            │   the handle: the worker's side
//!  ├───────────────────────────┤ ← base of corosensei's stack
//!  │ parent link               │   rewritten by every resume
//!  │ corosensei, carrier loop, │
//!  │ catch_unwind              │   the root: the same for every job
//!  ├───────────────────────────┤ ← cut (`Carrier::cut`)
//!  │ the job's frames          │   what a shared stack copies out and in
//!  ├───────────────────────────┤ ← suspended stack pointer (`Carrier::sp`)
//!  │ free                      │
//!  └───────────────────────────┘ ← limit, then the guard page
//! ```
//!
//! Why a carrier instead of one corosensei coroutine per task: starting a task
//! on a warm stack is one resume and writes nothing new; a task needs no handle
//! of its own, only its stack's; and on a shared stack all tasks have the same
//! root, so only what lies below the cut has to be copied.

mod carrier;
mod visit;

pub(crate) use carrier::{Carrier, Event, Job, YielderPtr, stack_pointer, suspend, take_panic};
