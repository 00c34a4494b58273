//! Lent buffers: the memory that a helper reads or fills in a coroutine's place.
//!
//! The coroutine waits to the end, so the memory is there for as long: the helper works
//! on the caller's own, as the kernel would for a thread, with its length and its
//! alignment (`O_DIRECT`). Only what lies on a stack that other coroutines use
//! meanwhile (I8) goes through a copy, which is as aligned, or misaligned, as the caller's.

use std::alloc::{self, Layout};
use std::ptr::NonNull;

use libc::iovec;

use crate::driver::Direction;
use crate::hook::wait::transfer::Buffers;
use crate::sched::CurrentTask;

/// No file wants a larger alignment of buffers.
const ALIGNED: usize = 4096;

/// Buffers for a helper: the caller's, or copies of them.
pub(crate) struct Lent {
    all: Vec<iovec>,
    copies: Vec<BufferCopy>,
}

// SAFETY: whoever made it promised that the memory is the helper's until the caller goes
// on; nobody else looks at it meanwhile.
unsafe impl Send for Lent {}

impl Lent {
    /// Lends what comes after `done` bytes.
    ///
    /// # Safety
    ///
    /// - `buffers` are valid for the direction until this is given back, or dropped;
    ///   the caller waits so long.
    pub(crate) unsafe fn new(
        cx: CurrentTask,
        dir: Direction,
        buffers: Buffers,
        done: usize,
    ) -> Self {
        // SAFETY: the caller's buffers.
        let mut all = unsafe { buffers.rest(done) };
        let mut copies = Vec::new();
        for (at, one) in all.iter_mut().enumerate() {
            if cx.is_on_shared_stack(one.iov_base.addr(), one.iov_len) {
                // SAFETY: the caller's buffer; not empty, as it lies somewhere.
                let copy = unsafe { BufferCopy::new(at, one) };
                if dir == Direction::Write {
                    // SAFETY: both have the length, and the copy is ours.
                    unsafe { copy.bytes().copy_from_nonoverlapping(copy.theirs, copy.len) };
                }
                one.iov_base = copy.bytes().cast();
                copies.push(copy);
            }
        }
        Self { all, copies }
    }

    pub(crate) fn buffers(&self) -> Buffers {
        Buffers::new(self.all.as_ptr(), self.all.len())
    }

    /// The caller goes on: `moved` bytes are there for it.
    ///
    /// # Safety
    ///
    /// - This is where it was [made](Self::new), for [`Direction::Read`], and so many
    ///   bytes were read to [`Lent::buffers`].
    pub(crate) unsafe fn give_back(self, moved: usize) {
        for copy in &self.copies {
            let before: usize = self.all[..copy.at].iter().map(|one| one.iov_len).sum();
            let len = moved.saturating_sub(before).min(copy.len);
            // SAFETY: the caller's buffer, which is as long as ours.
            unsafe { copy.theirs.copy_from_nonoverlapping(copy.bytes(), len) };
        }
    }
}

/// Memory of our own in place of a buffer of the caller's.
struct BufferCopy {
    /// Which one.
    at: usize,
    theirs: *mut u8,
    len: usize,
    /// The bytes begin as far behind a multiple of [`ALIGNED`] as theirs do.
    whole: NonNull<u8>,
    layout: Layout,
}

impl BufferCopy {
    /// # Safety
    ///
    /// - The buffer is not empty.
    unsafe fn new(at: usize, one: &iovec) -> Self {
        let theirs: *mut u8 = one.iov_base.cast();
        let bytes = theirs.addr() % ALIGNED + one.iov_len;
        let layout = Layout::from_size_align(bytes, ALIGNED).expect("it lies on a stack");
        // SAFETY: not empty, as the caller says.
        let whole = unsafe { alloc::alloc(layout) };
        Self {
            at,
            theirs,
            len: one.iov_len,
            whole: NonNull::new(whole).unwrap_or_else(|| alloc::handle_alloc_error(layout)),
            layout,
        }
    }

    fn bytes(&self) -> *mut u8 {
        let before = self.layout.size() - self.len;
        // SAFETY: inside of what was allocated.
        unsafe { self.whole.as_ptr().add(before) }
    }
}

impl Drop for BufferCopy {
    fn drop(&mut self) {
        // SAFETY: allocated so.
        unsafe { alloc::dealloc(self.whole.as_ptr(), self.layout) };
    }
}
