//! Which calls that pass the hooks are escapes, whose they are, and who is told.

use std::ffi::c_long;
use std::time::Duration;

use super::escapes::Escape;
#[cfg(target_arch = "x86_64")]
use super::harmless::{is_harmless, is_of_a_file};
use super::world::{NOBODY, Simulated};
use crate::sys::call_names::call_name;

#[cfg(not(target_arch = "x86_64"))]
fn is_harmless(_: c_long, _: [usize; 6]) -> bool {
    true
}

#[cfg(not(target_arch = "x86_64"))]
fn is_of_a_file(_: c_long, _: [usize; 6]) -> bool {
    true
}

impl Simulated {
    /// See [`World::passed`](crate::sys::simulated::World::passed).
    pub(super) fn catch(&self, number: c_long, args: [usize; 6], registers: &libc::ucontext_t) {
        if self.is_inside() || is_harmless(number, args) {
            return;
        }
        let (Some(escapes), Some(known)) = (&self.escapes, self.here()) else {
            return;
        };
        let node = (known.node != NOBODY).then_some(known.node as usize);
        if !escapes.busy.replace(true) {
            self.within(|| {
                if !is_of_a_file(number, args) {
                    escapes.add(number, self.now(), (node, known.serial), registers);
                }
            });
            escapes.busy.set(false);
        }
    }

    /// Puts what was caught since into the trace.
    pub(super) fn trace_escapes(&self) {
        let Some(escapes) = &self.escapes else { return };
        let places = escapes.places.borrow();
        if escapes.traced.get() == places.len() {
            return;
        }
        let mut trace = self.trace.borrow_mut();
        self.within(|| {
            for place in &places[escapes.traced.replace(places.len())..] {
                let node = place.node.map_or("nobody", |node| self.name(node));
                let who = format!("{node} #{}", place.serial);
                let call = call_name(place.number).unwrap_or("unknown");
                let what = format_args!("{call} ({}) passes the hooks", place.number);
                trace.say(place.now, &who, what);
            }
        });
    }

    /// All of this run.
    pub(super) fn caught_escapes(&self) -> Vec<Escape> {
        let Some(escapes) = &self.escapes else {
            return Vec::new();
        };
        let places = escapes.places.borrow();
        let told = places.iter().map(|place| Escape {
            number: place.number,
            count: place.count,
            first: Duration::from_nanos(place.now),
            node: place.node.map(|node| self.name(node).to_owned()),
            coroutine: place.serial,
            addresses: place.frames().to_vec(),
        });
        told.collect()
    }
}
