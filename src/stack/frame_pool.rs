//! The frame pool: a segregated-fit allocator for the saved frames of coroutines
//! that are parked on shared stacks.
//!
//! Lives here: blocks and size classes. Lives elsewhere: which chunk of address
//! space is free or resident ([`chunks`]), and what the bytes mean
//! ([`shared`](super::shared)). One worker has a pool, which has no locks.
//!
//! ```text
//!  reserve   | chunk 0 |  chunk 1  |  chunk 2  |  chunk 3  | ... address space only
//!            (not used)  144 B       32 B        144 B
//!                      /             \
//!           | block | block | free | block | fresh ........ |
//!                             |                ^ never touched, not resident
//!                             +-> next free block of the chunk, in the block itself
//! ```
//!
//! A chunk serves one class at a time. Blocks have no header: the address of a
//! block gives its chunk, the chunk gives its class, and the owner of a frame
//! knows its length. So a frame costs its length, rounded up to 16 bytes up to
//! 2 KiB and by at most an eighth above; and a non-zero `u32`, which counts
//! granules of 16 bytes, says where a block is.
//!
//! **Filling few chunks.** A class keeps its chunks with room in a list and
//! takes from the first. A full chunk that loses a block goes to the front: it
//! is the fullest chunk with room there is. So the fullest fill up, the emptier
//! drain and give their memory back, and in the steady state of one free, one
//! alloc, the next block is the one just freed, whose lines are in the cache.
//!
//! **Invariants.** A chunk is in its class's list if and only if it has room;
//! a chunk without live blocks belongs to no class, its memory is in the hands
//! of [`Chunks`].

#[cfg(debug_assertions)]
mod audit;
mod chunks;
#[cfg(test)]
mod tests;

use std::io;
use std::num::NonZeroU32;

pub(crate) use self::chunks::FramePoolConfig;
pub(super) use self::chunks::GRANULE;
use self::chunks::{Chunks, GRANULE_SHIFT};
use super::copy;
use crate::util::list::List;

/// Lengths up to this have classes in steps of one granule.
const FINE_MAX: usize = 2048;
/// Number of those classes.
const FINE: usize = FINE_MAX / GRANULE;
/// Above, every doubling is cut in eight.
const STEPS_SHIFT: u32 = 3;
/// Enough for chunks of any size that [`FramePoolConfig`] allows.
const CLASSES: usize = FINE + 8 * (chunks::MAX_CHUNK_SHIFT - FINE_MAX.ilog2()) as usize;

/// A saved frame's block: the number of its first granule.
///
/// Neither `Clone` nor `Copy`: the holder owns the block.
#[must_use = "its block stays taken until `FramePool::free`"]
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FrameRef(NonZeroU32);

impl FrameRef {
    #[inline]
    pub(super) fn to_bits(&self) -> u32 {
        self.0.get()
    }

    /// # Safety
    ///
    /// - `bits` came from `to_bits` of a reference that is not used any more.
    #[inline]
    pub(super) unsafe fn from_bits(bits: u32) -> Self {
        Self(NonZeroU32::new(bits).expect("a block's number is never zero"))
    }
}

/// What the pool has done and holds, in bytes unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FramePoolCounters {
    /// Sum of the lengths of all frames.
    pub(crate) live: u64,
    /// The largest `live` so far.
    pub(crate) peak_live: u64,
    /// Resident memory, an estimate from above.
    pub(crate) held: u64,
    /// Frames now.
    pub(crate) frames: u64,
    /// Chunks that hold frames now.
    pub(crate) chunks: u32,
    /// Allocations since the start.
    pub(crate) allocs: u64,
}

/// One size class.
#[derive(Clone, Copy, Default)]
struct Class {
    /// Chunks with room.
    with_room: List,
    /// Chunks that serve the class, full ones too.
    chunks: u32,
}

/// See the module.
pub(crate) struct FramePool {
    chunks: Chunks,
    classes: Box<[Class; CLASSES]>,
    max_saved_bytes: u64,
    live: u64,
    peak_live: u64,
    allocs: u64,
    frees: u64,
    #[cfg(debug_assertions)]
    audit: audit::Audit,
}

impl FramePool {
    /// Reserves the address space; no memory is resident yet.
    ///
    /// # Errors
    ///
    /// When the address space can't be had, see [`Reserve::new`](crate::sys::mem::Reserve::new).
    pub(crate) fn new(config: FramePoolConfig) -> io::Result<Self> {
        Ok(Self {
            chunks: Chunks::new(&config)?,
            classes: Box::new([Class::default(); CLASSES]),
            max_saved_bytes: config.max_saved_bytes,
            live: 0,
            peak_live: 0,
            allocs: 0,
            frees: 0,
            #[cfg(debug_assertions)]
            audit: audit::Audit::default(),
        })
    }

    /// A block of at least `len` bytes, aligned to 16, with any contents.
    ///
    /// # Errors
    ///
    /// At the limit of saved bytes, and when the reserve is used up. The pool
    /// is then as before.
    #[inline(always)]
    pub(crate) fn alloc(&mut self, len: usize) -> io::Result<FrameRef> {
        let live = self.live + len as u64;
        if live > self.max_saved_bytes {
            return Err(limit_error(len, self.live, self.max_saved_bytes));
        }
        let at = if len <= self.chunks.chunk_bytes() {
            self.alloc_block(class_of(len))?
        } else {
            self.chunks.take_run(len)?
        };
        self.live = live;
        self.peak_live = self.peak_live.max(live);
        self.allocs += 1;
        #[cfg(debug_assertions)]
        self.audit.allocated(at, class_of(len));
        Ok(FrameRef(NonZeroU32::new(at).expect("chunk 0 is not used")))
    }

    /// Takes a block back.
    ///
    /// # Safety
    ///
    /// - `frame` came from `alloc` of this pool, with this `len`.
    /// - Nobody uses its bytes any more.
    #[inline(always)]
    pub(crate) unsafe fn free(&mut self, frame: FrameRef, len: usize) {
        let at = frame.0.get();
        #[cfg(debug_assertions)]
        self.audit.freed(at, class_of(len));
        self.live -= len as u64;
        self.frees += 1;
        if len <= self.chunks.chunk_bytes() {
            // SAFETY: the caller gives up a block of the class of `len`.
            unsafe { self.free_block(at, class_of(len)) };
        } else {
            // SAFETY: the caller gives up a run of chunks of `len`.
            unsafe { self.chunks.give_run(at, len) };
        }
    }

    /// Where the bytes of `frame` are, until it is freed.
    #[inline]
    pub(crate) fn addr(&self, frame: &FrameRef) -> *mut u8 {
        self.chunks.addr(frame.0.get())
    }

    /// Asks the processor for the first cache lines of a frame that will be
    /// restored soon.
    #[inline]
    pub(crate) fn prefetch(&self, frame: &FrameRef, len: usize) {
        copy::prefetch(self.addr(frame), len);
    }

    /// What the pool has done and holds.
    pub(crate) fn counters(&self) -> FramePoolCounters {
        FramePoolCounters {
            live: self.live,
            peak_live: self.peak_live,
            held: self.chunks.held() as u64,
            frames: self.allocs - self.frees,
            chunks: self.chunks.in_use(),
            allocs: self.allocs,
        }
    }

    #[inline(always)]
    fn alloc_block(&mut self, class: usize) -> io::Result<u32> {
        let index = match self.classes[class].with_room.first() {
            Some(index) => index,
            None => self.add_chunk(class)?,
        };
        let chunk = self.chunks.get_mut(index);
        let at = if chunk.free != 0 {
            let at = chunk.free;
            let block = self.chunks.addr(at);
            // SAFETY: a free block lies in the chunk and begins with the number
            // of the next one, written by `free_block`.
            let next = unsafe { block.cast::<u32>().read() };
            #[cfg(debug_assertions)]
            // SAFETY: the block is free, and has the size of its class.
            unsafe {
                audit::check_fill(block, block_bytes(class));
            }
            self.chunks.get_mut(index).free = next;
            at
        } else {
            self.chunks.take_fresh(index, block_granules(class))
        };
        let chunk = self.chunks.get_mut(index);
        chunk.live += 1;
        if !chunk.has_room() {
            self.classes[class].with_room.unlink(&self.chunks, index);
        }
        Ok(at)
    }

    /// # Safety
    ///
    /// As for [`free`](Self::free), `class` being that of the length.
    #[inline(always)]
    unsafe fn free_block(&mut self, at: u32, class: usize) {
        let index = self.chunks.index_of(at);
        let block = self.chunks.addr(at);
        #[cfg(debug_assertions)]
        // SAFETY: the caller gives the block up, it has the size of the class.
        unsafe {
            block.write_bytes(audit::FREED, block_bytes(class));
        }
        let chunk = self.chunks.get_mut(index);
        let had_room = chunk.has_room();
        chunk.live -= 1;
        if chunk.live == 0 {
            if had_room {
                self.classes[class].with_room.unlink(&self.chunks, index);
            }
            self.classes[class].chunks -= 1;
            // SAFETY: no block of the chunk is live.
            unsafe { self.chunks.give(index) };
            return;
        }
        // SAFETY: the caller gave the block up; it is aligned and has 16 bytes
        // or more.
        unsafe { block.cast::<u32>().write(chunk.free) };
        chunk.free = at;
        if !had_room {
            self.classes[class]
                .with_room
                .push_front(&self.chunks, index);
        }
    }

    /// A new chunk for `class`, at the front of its list.
    #[cold]
    fn add_chunk(&mut self, class: usize) -> io::Result<u32> {
        let held = self.classes[class].chunks;
        let index = self.chunks.take(held)?;
        self.classes[class].chunks += 1;
        self.classes[class]
            .with_room
            .push_front(&self.chunks, index);
        Ok(index)
    }
}

/// The class of a frame of `len` bytes.
#[inline]
fn class_of(len: usize) -> usize {
    let last = len.max(1) - 1;
    if last < FINE_MAX {
        return last >> GRANULE_SHIFT;
    }
    let doubling = last.ilog2();
    let step = (last >> (doubling - STEPS_SHIFT)) & 7;
    FINE + 8 * (doubling - FINE_MAX.ilog2()) as usize + step
}

/// Granules of a block of `class`.
#[inline]
fn block_granules(class: usize) -> u32 {
    if class < FINE {
        return class as u32 + 1;
    }
    let (doubling, step) = ((class - FINE) >> STEPS_SHIFT, (class - FINE) & 7);
    (9 + step as u32) << (doubling as u32 + (FINE >> STEPS_SHIFT).ilog2())
}

/// Bytes of a block of `class`.
#[cfg(any(test, debug_assertions))]
fn block_bytes(class: usize) -> usize {
    block_granules(class) as usize * GRANULE
}

#[cold]
fn limit_error(len: usize, live: u64, max: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::OutOfMemory,
        format!(
            "cannot save a frame of {len} bytes: {live} bytes are saved and the limit is {max}; \
             raise `max_saved_bytes`, or park at a smaller depth"
        ),
    )
}
