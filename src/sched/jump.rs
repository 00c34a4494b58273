//! Jumps from one frame to another (`longjmp`), by code that may be a signal handler.
//!
//! Within one stack they are the program's own affair, and so are those between a
//! coroutine's stack and second ones that the program has made. Where the jump leaves a
//! handler, it begins where that has interrupted the thread: which need not be in the
//! coroutine that runs, since that may be on its way in or out.

use super::current::CurrentTask;
use super::interrupted::{Region, RunningHandler};
use super::worker::Worker;
use crate::switch;
use crate::util::no_park::NoPark;

const LEADS_ASTRAY: &str = "leads into a coroutine, or a generator, that does not run here: it is \
    suspended, or has ended";
const LEAVES_RUN: &str = "leaves crore::run, which other coroutines need";
const LEAVES_GENERATOR: &str = "leaves the body of a generator for code outside, whose `resume` \
    has not returned";
const LEAVES_MIDDLE: &str = "leaves a handler that has interrupted crore itself, in the middle of \
    a change";

/// Why no code of this thread may go on where the stack pointer is `to`, if it may not.
/// Async-signal-safe.
pub(crate) fn refused_jump(to: usize) -> Option<&'static str> {
    let Some(handler) = RunningHandler::here() else {
        return refused(switch::stack_pointer(), to, CurrentTask::present());
    };
    if handler.has_frames_at(to) {
        return None;
    }
    let interrupted = handler.interrupted;
    let (from, running) = (interrupted.from, !interrupted.running.is_null());
    let why = refused(from, to, running).or_else(|| {
        let changes = !running && Region::of_coroutine() == Some(Region::of(from));
        (changes || NoPark::is_active()).then_some(LEAVES_MIDDLE)
    });
    if why.is_none() {
        interrupted.goes_on();
    }
    why
}

/// As [`refused_jump`], from what is no handler, or as if the handler had returned.
/// `running` says whether a coroutine runs.
pub(crate) fn refused(from: usize, to: usize, running: bool) -> Option<&'static str> {
    let coroutine = Region::of_coroutine();
    let (from, to_place) = (Region::of(from), Region::of(to));
    let in_generator = matches!(from, Region::Stack(_)) && Some(from) != coroutine;
    match to_place {
        Region::Stack(_) if to_place == from => None,
        Region::Stack(_) if Some(to_place) != coroutine => Some(LEADS_ASTRAY),
        _ if in_generator => Some(LEAVES_GENERATOR),
        Region::Stack(_) if running && from == Region::Elsewhere => None,
        Region::Stack(_) => Some(LEADS_ASTRAY),
        Region::Worker if running || Worker::is_left_at(to) => Some(LEAVES_RUN),
        Region::Worker | Region::Elsewhere => None,
    }
}
