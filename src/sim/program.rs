//! A whole process as a simulation of one machine: for the command `crore sim`, which has
//! a program's `main` run so.

use std::fs::File;
use std::sync::Arc;

use super::caught::{say_if_unwatched, watch};
use super::escapes::tell_escapes;
use super::machines::Machines;
use super::net::Link;
use super::order::Schedule;
use super::poller::SimulatedBackend;
use super::trace::{HistoryProbe, TraceLines};
use super::world::{InWorld, Recipe, Simulated, current};
use crate::runtime::{Runtime, RuntimeBuilder};
use crate::sys::simulated;

/// How often another thread has its turn before a call that need not wait: a program of one
/// machine has few calls that wait.
const PREEMPTS: f64 = 0.1;

/// The machine's name.
const NAME: &str = "program";

/// From here on this thread is in a simulation of one machine, until the process ends; the
/// runtime that is returned runs it there. Its first coroutine and all others are the
/// machine's. A child process that is forked is outside.
#[doc(hidden)]
pub fn __enter(seed: u64, trace: Option<File>) -> RuntimeBuilder {
    say_if_unwatched();
    let watched = watch().ok();
    let world = Box::leak(Box::new(Simulated::new(Recipe {
        seed,
        names: vec![NAME.to_owned()],
        machines: Machines::new(Vec::new()),
        schedule: Schedule::Uniform,
        preempts: PREEMPTS,
        lines: trace.map(TraceLines::Written),
        probe: HistoryProbe::Off,
        disks: None,
        watched: watched.is_some(),
    })));
    world.link_all(Link::default());
    world.spawn_all_for(0);
    // For good.
    std::mem::forget((InWorld::new(world), watched));
    // SAFETY: functions that may be called at any time.
    unsafe {
        libc::atexit(tell);
        libc::pthread_atfork(None, None, Some(leave));
    }
    let runtime = Runtime::builder();
    runtime.backend(Arc::new(SimulatedBackend)).watchdog(None)
}

/// The process ends: what has escaped is said.
extern "C" fn tell() {
    if let Some(world) = current() {
        let escapes = world.caught_escapes();
        world.within(|| tell_escapes(world.seed, &escapes));
    }
}

/// A child process, whose clock is the kernel's.
unsafe extern "C" fn leave() {
    // SAFETY: no world.
    unsafe { simulated::enter(None) };
}
