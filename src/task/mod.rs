//! Tasks: what a coroutine is when it is not running.
//!
//! Lives here: the slot (32 bytes of plain memory, see [`Slot`]), its address
//! as an integer ([`Addr`]), the task cell that carries a closure in and a
//! result out, the spawn locations, and the join error. Does not live here:
//! queues, waking, stacks, time; a task knows nothing of its worker.
//!
//! States of a slot, and what changes them (always the worker that owns it, on
//! its own stack, except where noted):
//!
//! ```text
//!          spawn           first run            suspend(Parked)
//!   Free ────────▶ New ─────────────▶ Running ────────────────▶ Parked
//!    ▲                                │  ▲ ▲ │                     │
//!    │ end                            │  │ │ │ suspend(Yielded)    │ wake
//!    └────────────────────────────────┘  │ │ ▼                     ▼
//!                                        │ Queued               Woken
//!                                        └────────────────────────┘
//! ```
//!
//! A wake-up that finds the task Running is remembered in a flag and turns the
//! next park into a yield; one that finds it in the run queue is dropped, because
//! the task will look at whatever it waits for when it runs.

mod addr;
mod cell;
mod error;
mod identity;
mod promise;
pub(crate) mod provisional_id;
mod slot;
mod slots;
mod spawn_location;

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, any(loom, shuttle)))]
pub(crate) mod model;
#[cfg(all(test, shuttle))]
mod shuttle_tests;

pub(crate) use addr::Addr;
pub(crate) use cell::{
    Closure, Header, JoinRef, PolledFuture, TaskRef, Work, detach_if_unjoinable, poll,
};
pub use error::JoinError;
pub use identity::Coroutine;
pub(crate) use promise::promise;
pub(crate) use slot::{
    Flags, Slot, TaskState, running, running_key, running_outside_scopes, set_running,
    set_unhooked, unseen,
};
pub(crate) use slots::{Generations, Slots};
pub(crate) use spawn_location::SpawnLocations;
