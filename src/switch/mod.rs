//! The context switch: a [`Carrier`], the trampoline of a stack, runs
//! one coroutine after another on it.
//!
//! Lives here: the only use of corosensei. A carrier is one long-lived
//! corosensei coroutine; it calls entry point after entry point, and between
//! two of them it waits at its idle point. Lives elsewhere: which task runs
//! when, what a task is, where stacks come from.
//!
//! The top of a stack, while its coroutine is suspended:
//!
//! ```text
//!  ┌────────────────────────────┐◄─── a page's end
//!  │ headroom, cache colour     │
//!  ├────────────────────────────┤◄─── `StackBounds::base`
//!  │ Carrier: limit             │     64 bytes: the worker's handle, and what
//!  │          sp_word           │     code on the stack needs to go back
//!  │          yielder ──────────┼──┐
//!  │          coro: sp ─────────┼─┐│
//!  ├────────────────────────────┤◄┼┼─ base of corosensei's stack
//!  │ initial function           │ ││
//!  │ parent link                │◄┼┘  each resume writes the worker's sp here
//!  │ frames of corosensei,      │ │   the base frames: the same for every entry
//!  │ `body`, `catch_unwind`,    │ │   point, so that a shared stack keeps one
//!  │ `call`                     │ │   image of them (I7)
//!  │ return address into `call` │ │   (in a register on aarch64)
//!  ├────────────────────────────┤◄┼── copy boundary
//!  │ the coroutine's frames     │ │   what a shared stack copies out and in
//!  │ registers that the switch  │ │
//!  │ has pushed                 │ │
//!  ├────────────────────────────┤◄┘   `Carrier::sp`
//!  │ free                       │
//!  └────────────────────────────┘◄─── `StackBounds::limit`; below, the guard
//! ```
//!
//! Why one carrier a stack instead of one corosensei coroutine a task: starting
//! a task on a warm stack is one resume and writes nothing new; a task needs no
//! handle of its own, only its stack's; and on a shared stack all tasks have
//! the same base frames, so only what lies below the boundary is copied.

mod carrier;
mod chain;
mod exchange;
mod fp_control;
mod suspend;

pub(crate) use carrier::{
    Carrier, EntryPoint, SwitchReason, YielderPtr, stack_pointer, take_panic,
};
pub(crate) use chain::CHAIN_ROOM;
pub(crate) use exchange::{BodyEnd, BodyState, Exchange, Passed, Port};
pub(crate) use fp_control::FpControl;
pub(crate) use suspend::suspend;
