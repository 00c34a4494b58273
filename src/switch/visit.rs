//! Visits: something of the worker's that runs on a suspended job's own stack.
//!
//! A resume hands the job a pointer, null to go on. [`suspend`](super::suspend)
//! looks at it: anything else is a visit, which it receives and suspends
//! again. So a job can be asked about itself (its backtrace) wherever it
//! waits, and for those that are never asked it costs a test of a register.

use std::ptr::NonNull;

use super::carrier::{Carrier, Event, Job, YielderPtr};
use crate::util::contain;

/// What a visited job runs, and how it comes back.
#[repr(C)]
struct Visit<'a> {
    job: Job,
    yielder: YielderPtr,
    run: &'a mut dyn FnMut(),
}

impl Carrier {
    /// Runs `f` on the stack of the suspended job, which stays suspended. Its
    /// frames begin a little lower from then on until it goes on.
    ///
    /// # Safety
    ///
    /// - As [`Carrier::resume`]; a job is suspended on this carrier.
    /// - The stack has room for `f`, which does not suspend.
    pub(crate) unsafe fn visit(this: *mut Self, f: &mut dyn FnMut()) {
        let mut visit = Visit {
            job: Job { run: come_in },
            // SAFETY: the caller's carrier.
            yielder: unsafe { Self::yielder(this) },
            run: f,
        };
        // SAFETY: the caller's word; `suspend` receives what is not null, and
        // the visit outlives the resume, which ends when it is over.
        let event = unsafe { Self::resume(this, (&raw mut visit).cast()) };
        assert_eq!(event, Event::Visited, "a visit leaves its job suspended");
    }
}

/// Receives visits until the job is to go on. All that it needs comes with
/// them: the frame that every suspended job keeps does not grow.
///
/// # Safety
///
/// - `asked` came out of a suspension of the running job, and is not null.
#[cold]
#[inline(never)]
pub(super) unsafe fn receive(mut asked: *const Job) {
    while !asked.is_null() {
        // SAFETY: what a suspended job is resumed with is null or the head of
        // a visit, which lives until we suspend.
        unsafe {
            let visit = asked.cast::<Visit<'_>>();
            let yielder = (*visit).yielder;
            ((*asked).run)(NonNull::new_unchecked(asked.cast_mut()));
            asked = yielder.leave(Event::Visited);
        }
    }
}

/// # Safety
///
/// - `job` is the head of a visit.
unsafe fn come_in(job: NonNull<Job>) {
    // SAFETY: the caller's word.
    let visit = unsafe { job.cast::<Visit<'_>>().as_mut() };
    // A panic must not unwind into the job that is visited.
    contain(&mut *visit.run);
}
