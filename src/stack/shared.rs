//! A shared stack, as bytes: whose frames are on it, copying them out and in.
//!
//! Lives here: the copies, and the state between them. Lives elsewhere: which
//! task runs when, how a stack pointer is learned, and coroutines at all.
//!
//! ```text
//!  base  ----------------------------- high addresses
//!        | base frames: the carrier's |  the same for every parked task:
//!        | loop, catch_unwind, entry  |  one image for all of them
//!  copy  |----------------------------|
//!  boundary                           |
//!        | frames of one task         |  saved to the pool, but only when
//!  sp    |----------------------------|  another task must run here
//!        | not in use                 |
//!  limit ------------------------------ guard page below
//! ```
//!
//! A long-lived carrier (the trampoline of the stack, see [`crate::switch`])
//! waits at its idle point, runs a task's entry point, waits again. Its own
//! frames, the base frames, thus take two forms, and each has an image that is
//! taken once:
//!
//! - *idle*, `[idle_sp, base)` while the carrier waits for a task,
//! - *task*, `[boundary, base)` while a task is parked. It is the same for all
//!   tasks, because the entry point's own data lies below the boundary (I7).
//!
//! A task that ends turns the base frames from task form to idle form, under
//! the feet of all tasks that are saved: they would return into a wrong landing
//! pad. Hence the form is part of the state, and a task that comes back gets
//! its form first:
//!
//! ```text
//!              start                  save, forget
//!    Idle ------------> Owner(task) --------------> Nobody
//!     | ^ <------------  ^                          |   |
//!     | |     finish     | restore: frames          |   |
//!     | |                +--------------------------+   |
//!     | |                | restore: both parts          |
//!     +-|----------------+                              |
//!       +-----------------------------------------------+ make_idle: idle image
//! ```
//!
//! **Aliasing.** The suspended frames contain live borrows of each other; no
//! reference or pointer of ours is derived from them. All accesses here go
//! through addresses whose provenance was exposed when the stack was made, and
//! happen while nothing runs on the stack, as if the kernel swapped the bytes
//! out.

#[cfg(test)]
mod tests;

use std::io;
use std::ptr::with_exposed_provenance_mut;

use super::alike::{ShapeNumber, Shapes};
use super::copy;
use super::frame_pool::{FramePool, FrameRef};

/// Whose frames are on the stack, and which form the base frames have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resident {
    /// The carrier waits for a task; idle form.
    Idle,
    /// The frames of this task, running or parked; task form when parked.
    Owner(u32),
    /// The frames of the last owner were saved or forgotten; task form.
    Nobody,
}

/// The frames of a task while they are not on its stack. Eight bytes, also as
/// an `Option`.
#[must_use = "its block stays taken until it is restored or discarded"]
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Saved {
    frame: FrameRef,
    extent: Extent,
}

/// Bytes of saved frames, and of the block that has them, in a word: the length; or, if
/// they are [packed](super::alike), from the highest bit on: `PACKED`, the shape's number,
/// the block's words and those of the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent(u32);

impl Extent {
    const PACKED: u32 = 1 << 31;

    /// Both are of few words.
    #[inline]
    fn packed(number: ShapeNumber, len: usize, held: usize) -> Self {
        let (held, len) = ((held / 8) as u32, (len / 8) as u32);
        Self(Self::PACKED | u32::from(number) << 16 | held << 8 | len)
    }

    /// Of packed ones.
    #[inline]
    fn shape(self) -> Option<ShapeNumber> {
        (self.0 & Self::PACKED != 0).then_some((self.0 >> 16) as ShapeNumber)
    }

    #[inline]
    fn len(self) -> usize {
        match self.shape() {
            Some(_) => (self.0 & 0xff) as usize * 8,
            None => self.0 as usize,
        }
    }

    #[inline]
    fn held(self) -> usize {
        match self.shape() {
            Some(_) => (self.0 >> 8 & 0xff) as usize * 8,
            None => self.0 as usize,
        }
    }
}

/// What a shared stack has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SharedCounters {
    /// Frames copied out.
    pub(crate) saves: u64,
    /// Frames copied in.
    pub(crate) restores: u64,
    /// Resumes that found the frames still there.
    pub(crate) hits: u64,
    /// Bytes of saves and restores, images of base frames included.
    pub(crate) bytes_copied: u64,
    /// Length of the largest frame saved.
    pub(crate) largest: u32,
}

impl std::ops::AddAssign for SharedCounters {
    fn add_assign(&mut self, other: Self) {
        self.saves += other.saves;
        self.restores += other.restores;
        self.hits += other.hits;
        self.bytes_copied += other.bytes_copied;
        self.largest = self.largest.max(other.largest);
    }
}

/// See the module.
pub(crate) struct SharedStack {
    base: usize,
    limit: usize,
    /// The copy boundary, lower end of the base frames in task form; 0 until a
    /// task has parked.
    boundary: usize,
    resident: Resident,
    /// `[idle_sp, base)` in idle form.
    idle: Box<[u8]>,
    /// `[boundary, base)` in task form.
    task: Box<[u8]>,
    /// What is kept once of frames that are alike.
    shapes: Shapes,
    counters: SharedCounters,
}

impl Saved {
    /// Length of the frames in bytes.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.extent.len()
    }

    /// Bytes that are kept of them.
    #[inline]
    pub(crate) fn held(&self) -> usize {
        self.extent.held()
    }

    /// Asks the processor for the first cache lines of the frames.
    #[inline]
    pub(crate) fn prefetch(&self, pool: &FramePool) {
        pool.prefetch(&self.frame, self.held());
    }

    /// The two numbers that a slot keeps: block (never zero) and extent.
    #[inline]
    pub(crate) fn into_parts(self) -> (u32, u32) {
        (self.frame.to_bits(), self.extent.0)
    }

    /// What was taken apart by [`Saved::into_parts`].
    ///
    /// # Safety
    ///
    /// - The parts came from there, and only one value made from them is ever
    ///   restored or discarded.
    #[inline]
    pub(crate) unsafe fn from_parts(frame: u32, extent: u32) -> Self {
        // SAFETY: forwarded.
        let frame = unsafe { FrameRef::from_bits(frame) };
        let extent = Extent(extent);
        Self { frame, extent }
    }

    /// Forgets the frames; their destructors don't run.
    ///
    /// # Safety
    ///
    /// - `pool` is the one they were saved to.
    #[inline(never)]
    pub(crate) unsafe fn discard(self, pool: &mut FramePool) {
        let held = self.held();
        // SAFETY: `save` got the block with this length, and `self` owns it.
        unsafe { pool.free(self.frame, held) };
    }
}

impl SharedStack {
    /// Takes charge of the stack `[limit, base)`, whose carrier waits with its
    /// stack pointer at `idle_sp`, and keeps its idle image.
    ///
    /// # Safety
    ///
    /// - The memory can be read and written as long as the value lives, and
    ///   its provenance is exposed.
    /// - Nothing runs on the stack, and no other thread touches it, while a
    ///   method of this value runs (I1).
    /// - Nothing outside the stack changes what the idle image means: the
    ///   carrier may be resumed from it any number of times.
    pub(crate) unsafe fn new(base: usize, limit: usize, idle_sp: usize) -> Self {
        assert!(
            limit <= idle_sp && idle_sp <= base,
            "idle at {idle_sp:#x} on a stack of [{limit:#x}, {base:#x})"
        );
        assert!(base - limit < Extent::PACKED as usize, "2 GiB are too much");
        Self {
            base,
            limit,
            boundary: 0,
            resident: Resident::Idle,
            // SAFETY: the caller's stack, which holds `idle_sp`; nothing runs on it.
            idle: unsafe { image(idle_sp, base) },
            task: Box::default(),
            shapes: Shapes::default(),
            counters: SharedCounters::default(),
        }
    }

    /// Whose frames are there.
    #[inline]
    pub(crate) fn resident(&self) -> Resident {
        self.resident
    }

    /// Whether the frames of `task` are still there; counted as a hit.
    #[inline]
    pub(crate) fn hit(&mut self, task: u32) -> bool {
        let hit = self.resident == Resident::Owner(task);
        self.counters.hits += u64::from(hit);
        hit
    }

    /// What the stack has done.
    pub(crate) fn counters(&self) -> SharedCounters {
        self.counters
    }

    /// The carrier leaves its idle point to run `task`, for the first time.
    pub(crate) fn start(&mut self, task: u32) {
        assert_eq!(
            self.resident,
            Resident::Idle,
            "task {task} starts on a stack in use"
        );
        self.resident = Resident::Owner(task);
    }

    /// The running task has ended, and the carrier is at its idle point again.
    pub(crate) fn finish(&mut self) {
        assert!(
            matches!(self.resident, Resident::Owner(_)),
            "no task to end: {:?}",
            self.resident
        );
        self.resident = Resident::Idle;
    }

    /// Keeps the image of the base frames when the first task of the stack is
    /// parked. Later only looks whether its lowest `fixed` bytes, a return
    /// address if the processor pushes one, are the same.
    ///
    /// # Safety
    ///
    /// - The owner is parked, its own frames end at `boundary`, and what lies
    ///   above is the same whenever any task of this stack is parked.
    pub(crate) unsafe fn capture_base_frames(&mut self, boundary: usize, fixed: usize) {
        if self.boundary != 0 {
            assert_eq!(
                self.boundary, boundary,
                "tasks of one stack begin at one place"
            );
            let now = with_exposed_provenance_mut::<u8>(boundary);
            let same = self.task.iter().take(fixed).enumerate().all(|(i, byte)| {
                // SAFETY: `[boundary, base)` lies in the stack, on which nothing
                // runs (I1).
                unsafe { now.add(i).read() == *byte }
            });
            assert!(same, "tasks of one stack return to one place");
            return;
        }
        assert!(
            matches!(self.resident, Resident::Owner(_)),
            "no task parked: {:?}",
            self.resident
        );
        assert!(
            self.limit < boundary && boundary <= self.base,
            "copy boundary at {boundary:#x} on a stack of [{:#x}, {:#x})",
            self.limit,
            self.base
        );
        // SAFETY: the range lies in the stack, on which nothing runs (I1).
        self.task = unsafe { image(boundary, self.base) };
        self.boundary = boundary;
    }

    /// Copies the frames `[sp, boundary)` of the parked owner out, after which
    /// nobody is resident.
    ///
    /// # Errors
    ///
    /// Those of [`FramePool::alloc`]; the owner is then still there.
    ///
    /// # Safety
    ///
    /// - The owner is parked, and needs nothing below `sp`.
    pub(crate) unsafe fn save(&mut self, sp: usize, pool: &mut FramePool) -> io::Result<Saved> {
        self.assert_parked(sp);
        let len = self.boundary - sp;
        let from = self.frames(len);
        let frame = pool.alloc(len)?;
        // SAFETY: the source lies in the stack, on which nothing runs (I1); the
        // new block has the length, is ours alone, and lies elsewhere. Nothing
        // but the owner, which is parked, needs the bytes that are left (I8).
        unsafe {
            copy::copy(from, pool.addr(&frame), len);
            copy::leave(from, len);
        }
        // Fits: see `new`.
        let extent = Extent(len as u32);
        self.count_save(len, len);
        Ok(Saved { frame, extent })
    }

    /// The same, [packed](super::alike); nothing is done, and nothing returned, if that
    /// would not make them much smaller.
    ///
    /// # Errors
    ///
    /// As [`SharedStack::save`].
    ///
    /// # Safety
    ///
    /// - As there.
    #[inline(never)]
    pub(crate) unsafe fn save_packed(
        &mut self,
        sp: usize,
        pool: &mut FramePool,
    ) -> io::Result<Option<Saved>> {
        self.assert_parked(sp);
        let len = self.boundary - sp;
        let from = self.frames(len);
        // SAFETY: the frames lie in the stack, on which nothing runs (I1).
        let Some((number, shape)) = (unsafe { self.shapes.of(from, len) }) else {
            return Ok(None);
        };
        let held = shape.packed_bytes();
        let frame = pool.alloc(held)?;
        // SAFETY: as in `save`; the shape is that of the frames, and the block has room for
        // them, packed.
        unsafe {
            shape.pack(from, pool.addr(&frame));
            copy::leave(from, len);
        }
        let extent = Extent::packed(number, len, held);
        self.count_save(len, held);
        Ok(Some(Saved { frame, extent }))
    }

    #[inline(always)]
    fn count_save(&mut self, len: usize, held: usize) {
        self.resident = Resident::Nobody;
        self.counters.saves += 1;
        self.counters.bytes_copied += held as u64;
        self.counters.largest = self.counters.largest.max(len as u32);
    }

    /// Gives the parked owner up without keeping its frames.
    ///
    /// # Safety
    ///
    /// - The owner is parked at `sp`, and is never resumed.
    /// - Nobody relies on destructors in its frames.
    pub(crate) unsafe fn forget(&mut self, sp: usize) {
        self.assert_parked(sp);
        let len = self.boundary - sp;
        // SAFETY: in the stack, on which nothing runs (I1); the caller says that
        // the bytes are not needed.
        unsafe { copy::leave(self.frames(len), len) };
        self.resident = Resident::Nobody;
    }

    /// Brings the frames of `task` back, and their block to the pool: it would
    /// be stale at once, and the next save takes it while it is in the cache.
    /// Returns the stack pointer at which the task was saved.
    ///
    /// # Safety
    ///
    /// - `saved` is what `save` of this stack with this `pool` returned for
    ///   `task`.
    pub(crate) unsafe fn restore(
        &mut self,
        task: u32,
        saved: Saved,
        pool: &mut FramePool,
    ) -> usize {
        if let Resident::Owner(owner) = self.resident {
            panic!("task {task} restored over task {owner}");
        }
        if self.resident == Resident::Idle {
            // SAFETY: the image is one of `[boundary, base)` of this stack, on
            // which nothing runs (I1), and as good for this task (I7).
            unsafe { put(&self.task, self.base) };
            self.counters.bytes_copied += self.task.len() as u64;
        }
        self.resident = Resident::Owner(task);
        self.counters.restores += 1;
        if let Some(number) = saved.extent.shape() {
            // SAFETY: forwarded.
            return unsafe { self.unpack(number, saved, pool) };
        }
        let len = saved.extent.0 as usize;
        let to = self.frames(len);
        self.counters.bytes_copied += len as u64;
        // SAFETY: the block has this length, `save` saw that it fits the stack
        // below the boundary, and nothing runs there (I1). `saved` came from `save` with
        // this pool, and is used up here.
        unsafe {
            copy::unpoison(to, len);
            copy::copy(pool.addr(&saved.frame), to, len);
            pool.free(saved.frame, len);
        }
        to.addr()
    }

    /// # Safety
    ///
    /// - As [`SharedStack::restore`]; the frames are packed with the shape of this number.
    #[inline(never)]
    unsafe fn unpack(&mut self, number: ShapeNumber, saved: Saved, pool: &mut FramePool) -> usize {
        let len = saved.len();
        let to = self.frames(len);
        self.counters.bytes_copied += saved.held() as u64;
        // SAFETY: as in `restore`; the shape is one of ours.
        unsafe {
            copy::unpoison(to, len);
            self.shapes.unpack(number, pool.addr(&saved.frame), to);
            saved.discard(pool);
        }
        to.addr()
    }

    /// Puts the carrier back to its idle point, so that a new task can start.
    ///
    /// # Safety
    ///
    /// - Since the last owner was saved or forgotten, the carrier was resumed
    ///   only as the methods of this value say.
    pub(crate) unsafe fn make_idle(&mut self) {
        match self.resident {
            Resident::Idle => return,
            // SAFETY: the image is one of `[idle_sp, base)` of this stack, on
            // which nothing runs (I1), and good any number of times (I7).
            Resident::Nobody => unsafe { put(&self.idle, self.base) },
            Resident::Owner(owner) => panic!("task {owner} was not saved"),
        }
        self.counters.bytes_copied += self.idle.len() as u64;
        self.resident = Resident::Idle;
    }

    /// Where frames of `len` bytes begin.
    #[inline]
    fn frames(&self, len: usize) -> *mut u8 {
        with_exposed_provenance_mut(self.boundary - len)
    }

    #[inline]
    fn assert_parked(&self, sp: usize) {
        assert!(
            matches!(self.resident, Resident::Owner(_)) && self.limit <= sp && sp < self.boundary,
            "nobody is parked at {sp:#x} on [{:#x}, {:#x}): {:?}",
            self.limit,
            self.boundary,
            self.resident
        );
    }
}

/// A copy of `[from, base)`.
///
/// # Safety
///
/// - The range lies in a stack on which nothing runs.
unsafe fn image(from: usize, base: usize) -> Box<[u8]> {
    let len = base - from;
    let mut image = vec![0; len];
    let from = with_exposed_provenance_mut::<u8>(base - len);
    // SAFETY: the caller's range is readable and at rest; the copy is ours.
    unsafe { copy::copy(from, image.as_mut_ptr(), len) };
    image.into()
}

/// Writes an image of the top of a stack back.
///
/// # Safety
///
/// - `image` is what [`image`] returned for this stack, on which nothing runs.
unsafe fn put(image: &[u8], base: usize) {
    let to = with_exposed_provenance_mut::<u8>(base - image.len());
    // SAFETY: the range is the one that the image was taken from, at rest.
    unsafe {
        copy::unpoison(to, image.len());
        copy::copy(image.as_ptr(), to, image.len());
    }
}
