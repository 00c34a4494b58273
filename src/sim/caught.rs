//! What a signal's handler has seen of calls that pass the hooks (`sys/dispatch.rs`). It may
//! have interrupted an allocator: so it fills room that was made before.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ffi::c_long;
use std::io;
use std::sync::Once;

use super::machines::NodeId;
#[cfg(target_arch = "x86_64")]
use crate::sys::signal::SignalStack;
use crate::sys::unwind::{RegisterSet, Unwinder};

/// Frames that are kept of each.
const FRAMES: usize = 24;

/// Places that are kept.
const PLACES: usize = 128;

pub(super) struct CaughtPlace {
    pub(super) number: c_long,
    pub(super) count: u64,
    pub(super) now: u64,
    pub(super) node: Option<NodeId>,
    pub(super) serial: usize,
    frames: [usize; FRAMES],
    len: usize,
}

impl CaughtPlace {
    pub(super) fn frames(&self) -> &[usize] {
        &self.frames[..self.len]
    }
}

/// Those of a run.
pub(super) struct CaughtEscapes {
    /// Never grows.
    pub(super) places: RefCell<Vec<CaughtPlace>>,
    unwinder: RefCell<Unwinder>,
    /// A handler may interrupt another.
    pub(super) busy: Cell<bool>,
    /// How many of them are in the trace.
    pub(super) traced: Cell<usize>,
}

impl CaughtEscapes {
    pub(super) fn new() -> Self {
        Self {
            places: RefCell::new(Vec::with_capacity(PLACES)),
            unwinder: RefCell::new(Unwinder::new()),
            busy: Cell::new(false),
            traced: Cell::new(0),
        }
    }

    /// Takes no memory.
    pub(super) fn add(
        &self,
        number: c_long,
        now: u64,
        (node, serial): (Option<NodeId>, usize),
        registers: &libc::ucontext_t,
    ) {
        let mut from = RegisterSet::default();
        from.fill(registers);
        let mut place = CaughtPlace {
            number,
            count: 1,
            now,
            node,
            serial,
            frames: [0; FRAMES],
            len: 0,
        };
        self.unwinder.borrow_mut().walk(from, |call, _| {
            // The instruction is before where it goes on.
            let call = call - usize::from(place.len == 0);
            place.frames[place.len] = call;
            place.len += 1;
            place.len < FRAMES
        });
        let mut places = self.places.borrow_mut();
        let same = |one: &&mut CaughtPlace| one.number == number && one.frames() == place.frames();
        if let Some(one) = places.iter_mut().find(same) {
            one.count += 1;
        } else if places.len() < PLACES {
            places.push(place);
        }
    }
}

/// Has this thread's calls told to its world, until what is returned is dropped.
///
/// # Errors
///
/// The system can't.
#[cfg(target_arch = "x86_64")]
pub(super) fn watch() -> io::Result<Box<dyn Any>> {
    let watched = crate::sys::dispatch::WatchedCalls::begin()?;
    Ok(Box::new((watched, RoomForHandlers::make())))
}

/// A signal stack for what catches escapes: it walks stacks.
#[cfg(target_arch = "x86_64")]
struct RoomForHandlers {
    former: Option<SignalStack>,
    _room: Box<[u8]>,
}

#[cfg(target_arch = "x86_64")]
impl RoomForHandlers {
    fn make() -> Self {
        const BYTES: usize = 128 << 10;
        let mut room = vec![0; BYTES + SignalStack::kernel_share()].into_boxed_slice();
        let stack = SignalStack::new(room.as_mut_ptr(), room.len());
        let former = SignalStack::current().ok();
        // SAFETY: nobody else's memory, until it is dropped, which puts the former back.
        let installed = unsafe { stack.install() };
        Self {
            former: former.filter(|_| installed.is_ok()),
            _room: room,
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Drop for RoomForHandlers {
    fn drop(&mut self) {
        if let Some(former) = self.former {
            // SAFETY: this thread's, as it was before.
            let _ = unsafe { former.install() };
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn watch() -> io::Result<Box<dyn Any>> {
    let why = "only x86-64 has Syscall User Dispatch";
    Err(io::Error::new(io::ErrorKind::Unsupported, why))
}

/// Says once that nobody looks for escapes, if so.
pub(super) fn say_if_unwatched() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Err(why) = watch() {
            eprintln!("crore: system calls that pass the hooks are not looked for: {why}");
        }
    });
}
