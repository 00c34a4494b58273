//! Tasks: what a coroutine is when it is not running.
//!
//! Lives here: the slot (32 bytes of plain memory, see [`Slot`]), its address
//! as an integer ([`Addr`]), the join packet that carries a closure in and a
//! result out, the sites that spawned, and the join error. Does not live here:
//! queues, waking, stacks, time; a task knows nothing of who runs it.
//!
//! States of a slot, and who changes them (always the worker that owns it, on
//! its own stack, except where noted):
//!
//! ```text
//!          spawn           first run            suspend(Parked)
//!   Free ────────▶ New ─────────────▶ Running ────────────────▶ Parked
//!    ▲                                │  ▲  │                     │
//!    │ end                            │  │  │ suspend(Yielded)    │ wake
//!    └────────────────────────────────┘  │  ▼                     ▼
//!                                      Queued ◀──────────────────┘
//! ```
//!
//! A wake-up that finds the task Running is remembered in a flag and turns the
//! next park into a yield; one that finds it New or Queued is dropped, because
//! the task will look at whatever it waits for when it runs.

mod addr;
pub(crate) mod alias;
mod error;
mod packet;
mod promise;
mod site;
mod slot;

#[cfg(all(test, loom))]
mod loom_tests;

pub(crate) use addr::Addr;
pub use error::JoinError;
pub(crate) use packet::{
    Closure, Header, JoinRef, PacketRef, Polled, Work, detach_if_unjoinable, poll,
};
pub(crate) use promise::promise;
pub(crate) use site::Sites;
pub(crate) use slot::{Flags, RUNNING, Slot, Slots, State, set_running, set_unhooked};
