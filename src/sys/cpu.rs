//! Which processors a thread may run on.

use std::io;

use super::syscall::{Answer, sys, to_io};

/// A bit for each processor; room for as many as Linux can have.
type Mask = [u64; 128];

/// Binds the calling thread to one of the processors that it may use, the
/// `position`th of them, going round. It may use all of them again when the guard
/// is dropped, which has to be on the same thread.
///
/// # Errors
///
/// What `sched_getaffinity` and `sched_setaffinity` say.
pub(crate) fn pin(position: usize) -> io::Result<impl Drop> {
    struct Pinned(Mask);
    impl Drop for Pinned {
        fn drop(&mut self) {
            // Where a processor has gone meanwhile the kernel leaves it out.
            let _ = set(&self.0);
        }
    }
    let mut before: Mask = [0; 128];
    let (len, place) = (size_of::<Mask>(), before.as_mut_ptr());
    // SAFETY: a place of `len` bytes, for this thread (0).
    to_io(unsafe { sys!(SYS_sched_getaffinity, 0, len, place) })?;
    let pinned = Pinned(before);
    let usable = (0..before.len() * 64).filter(|cpu| before[cpu / 64] >> (cpu % 64) & 1 == 1);
    let count = usable.clone().count();
    let cpu = usable.clone().nth(position % count.max(1)).unwrap_or(0);
    let mut one: Mask = [0; 128];
    one[cpu / 64] = 1 << (cpu % 64);
    to_io(set(&one))?;
    Ok(pinned)
}

fn set(mask: &Mask) -> Answer {
    let (len, place) = (size_of::<Mask>(), mask.as_ptr());
    // SAFETY: `len` bytes to read, for this thread (0).
    unsafe { sys!(SYS_sched_setaffinity, 0, len, place) }
}
