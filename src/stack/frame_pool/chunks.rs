//! Chunks of the frame pool, equal pieces of its address space: which are free,
//! which are resident, which have huge pages.
//!
//! Chunks are taken lowest first, so that free address space gathers at the
//! end. A chunk that is given back keeps its pages while it fits the warm
//! allowance, else they go back to the kernel.
//!
//! **Pages.** In a 2 MiB chunk of small pages only the touched part is
//! resident, so a class with one frame costs one page. A huge page is resident
//! at once, but ten million frames of 144 bytes in random order cost fewer TLB
//! misses: a save and a restore take 243 ns instead of 305, with prefetching 64
//! instead of 75. So a class gets huge pages once it holds `huge_after` chunks:
//! the one that is partly filled is then at most `1 / huge_after` of the class.

use std::collections::BTreeSet;
use std::io;

use crate::sys::mem::{PAGE, Reserve};
use crate::util::list::{Link, Links};

/// Unit of block addresses, and alignment of every block.
pub(in crate::stack) const GRANULE: usize = 1 << GRANULE_SHIFT;
pub(super) const GRANULE_SHIFT: u32 = 4;
/// log2 of the largest chunk and of a huge page.
pub(super) const MAX_CHUNK_SHIFT: u32 = 21;
/// What a `u32` of granules reaches.
const MAX_RESERVE: usize = (u32::MAX as usize + 1) * GRANULE;

/// Sizes and limits of a pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FramePoolConfig {
    /// Address space to reserve, or as much as the system lets us; at most
    /// 64 GiB are used.
    pub(crate) reserve_bytes: usize,
    /// Limit for the sum of the lengths of all saved frames.
    pub(crate) max_saved_bytes: u64,
    /// Bytes of a chunk, a power of two of whole pages, at most 2 MiB. Huge
    /// pages are used only if it is 2 MiB, the size of one.
    pub(crate) chunk_bytes: usize,
    /// Chunks of a class that use small pages, before it gets huge ones.
    pub(crate) huge_after: u32,
    /// Bytes of empty chunks that stay resident, so that a class which
    /// oscillates by a few frames does not call the kernel each time.
    pub(crate) warm_bytes: usize,
}

impl Default for FramePoolConfig {
    fn default() -> Self {
        Self {
            reserve_bytes: 64 << 30,
            max_saved_bytes: u64::MAX,
            chunk_bytes: 2 << 20,
            huge_after: 8,
            warm_bytes: 4 << 20,
        }
    }
}

/// One chunk. Blocks are numbers of granules; 0 means none.
#[derive(Clone, Debug, Default)]
pub(super) struct Chunk {
    /// First block of the list of free blocks.
    pub(super) free: u32,
    /// First block that was never handed out; 0 when all have been.
    fresh: u32,
    /// Blocks that are handed out now.
    pub(super) live: u32,
    /// On the list of the class, if the chunk has room.
    link: Link,
    /// Bytes from the start that may be resident, whole pages.
    touched: u32,
    huge: bool,
}

impl Chunk {
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        (self.free | self.fresh) != 0
    }
}

/// With fewer chunks than this a pool is not worth having.
const FEWEST_CHUNKS: usize = 16;

/// See the module.
pub(super) struct Chunks {
    /// Start of chunk 0, aligned to a chunk.
    base: *mut u8,
    reserve: Reserve,
    /// All chunks that were ever used. Chunk 0 never is, so that no block is
    /// at granule 0.
    table: Vec<Chunk>,
    /// Those of `table` that are free, without the warm ones.
    free: BTreeSet<u32>,
    /// Free ones whose pages are kept; `touched` of all within `warm_max`.
    warm: Vec<u32>,
    warm_bytes: usize,
    warm_max: usize,
    /// Number of chunks in the reserve.
    limit: u32,
    shift: u32,
    huge_after: u32,
    /// Sum of `touched`.
    held: usize,
}

impl Links for Chunks {
    #[inline(always)]
    fn link(&self, index: u32) -> &Link {
        &self.table[index as usize].link
    }
}

impl Chunks {
    /// Room for what is asked, or for as much as the system lets us.
    pub(super) fn new(config: &FramePoolConfig) -> io::Result<Self> {
        let chunk = config.chunk_bytes;
        assert!(
            chunk.is_power_of_two() && (PAGE..=1 << MAX_CHUNK_SHIFT).contains(&chunk),
            "a chunk of {chunk} bytes is not a power of two from {PAGE} to {}",
            1 << MAX_CHUNK_SHIFT
        );
        let mut limit = config.reserve_bytes.clamp(2 * chunk, MAX_RESERVE) / chunk;
        let reserve = loop {
            // One chunk more, to align the base.
            match Reserve::closed((limit + 1) * chunk) {
                Ok(reserve) => break reserve,
                Err(error) if limit <= FEWEST_CHUNKS => return Err(error),
                // As many as the system lets us, as with stacks.
                Err(_) => limit /= 4,
            }
        };
        // Where huge pages are the system's default, a class with one small
        // frame would otherwise hold 2 MiB.
        reserve.forbid_huge(0, reserve.len());
        let base = reserve.base();
        let huge_after = if chunk == 1 << MAX_CHUNK_SHIFT {
            config.huge_after
        } else {
            u32::MAX
        };
        Ok(Self {
            base: base.wrapping_add(base.addr().wrapping_neg() & (chunk - 1)),
            reserve,
            table: vec![Chunk::default()],
            free: BTreeSet::new(),
            warm: Vec::new(),
            warm_bytes: 0,
            warm_max: config.warm_bytes,
            limit: limit as u32,
            shift: chunk.trailing_zeros(),
            huge_after,
            held: 0,
        })
    }

    #[inline]
    pub(super) fn chunk_bytes(&self) -> usize {
        1 << self.shift
    }

    #[inline]
    pub(super) fn addr(&self, granule: u32) -> *mut u8 {
        debug_assert!((1..self.table.len() as u32).contains(&self.index_of(granule)));
        self.base.wrapping_add((granule as usize) << GRANULE_SHIFT)
    }

    #[inline]
    pub(super) fn index_of(&self, granule: u32) -> u32 {
        granule >> (self.shift - GRANULE_SHIFT)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, index: u32) -> &mut Chunk {
        &mut self.table[index as usize]
    }

    pub(super) fn held(&self) -> usize {
        self.held
    }

    pub(super) fn in_use(&self) -> u32 {
        (self.table.len() - 1 - self.free.len() - self.warm.len()) as u32
    }

    /// An empty chunk for a class that has `held` chunks already.
    pub(super) fn take(&mut self, held: u32) -> io::Result<u32> {
        if let Some(index) = self.warm.pop() {
            self.warm_bytes -= self.touched(index);
            self.reset(index);
            return Ok(index);
        }
        let index = match self.free.pop_first() {
            Some(index) => index,
            None => self.extend(1)?,
        };
        self.set_huge(index, held >= self.huge_after);
        self.reset(index);
        Ok(index)
    }

    /// Takes an empty chunk back.
    ///
    /// # Safety
    ///
    /// - Nobody uses a byte of it any more.
    pub(super) unsafe fn give(&mut self, index: u32) {
        let warm_bytes = self.warm_bytes + self.touched(index);
        if warm_bytes <= self.warm_max {
            self.warm_bytes = warm_bytes;
            self.warm.push(index);
            return;
        }
        // SAFETY: forwarded.
        unsafe { self.release(index) };
        self.free.insert(index);
    }

    /// Hands out the next block of `granules` that was never used; there is one.
    #[inline]
    pub(super) fn take_fresh(&mut self, index: u32, granules: u32) -> u32 {
        let per_chunk = 1u32 << (self.shift - GRANULE_SHIFT);
        let chunk = &mut self.table[index as usize];
        let at = chunk.fresh;
        debug_assert_ne!(at, 0, "chunk {index} has room");
        let end = (at & (per_chunk - 1)) + granules;
        chunk.fresh = if end + granules <= per_chunk {
            at + granules
        } else {
            0
        };
        let bytes = end << GRANULE_SHIFT;
        if bytes > chunk.touched {
            self.set_touched(index, (bytes as usize).next_multiple_of(PAGE));
        }
        at
    }

    /// Takes neighbouring chunks for one frame of `len` bytes, which is more
    /// than a chunk. Such frames are rare and their copies dear, so a search
    /// over all free chunks is fine, and they always use small pages.
    #[cold]
    pub(super) fn take_run(&mut self, len: usize) -> io::Result<u32> {
        let count = u32::try_from(len.div_ceil(self.chunk_bytes())).unwrap_or(u32::MAX);
        let first = self.find_run(count)?;
        let run = first..first + count;
        self.free.retain(|index| !run.contains(index));
        self.warm.retain(|index| !run.contains(index));
        self.warm_bytes = self.warm.iter().map(|&index| self.touched(index)).sum();
        for index in run {
            self.set_huge(index, false);
            self.set_touched(index, self.chunk_bytes());
            let Chunk { touched, huge, .. } = self.table[index as usize];
            self.table[index as usize] = Chunk {
                touched,
                huge,
                ..Chunk::default()
            };
        }
        Ok(first << (self.shift - GRANULE_SHIFT))
    }

    /// Takes the chunks of a frame of `len` bytes back.
    ///
    /// # Safety
    ///
    /// - `at` came from `take_run` with this `len`; nobody uses its bytes.
    #[cold]
    pub(super) unsafe fn give_run(&mut self, at: u32, len: usize) {
        let first = self.index_of(at);
        for index in first..first + len.div_ceil(self.chunk_bytes()) as u32 {
            // SAFETY: a chunk of the run that the caller gives up.
            unsafe { self.give(index) };
        }
    }

    /// The first of `count` neighbours that are free, the last of which may
    /// have to be added to the table.
    fn find_run(&mut self, count: u32) -> io::Result<u32> {
        let mut free: Vec<u32> = self.free.iter().chain(&self.warm).copied().collect();
        free.sort_unstable();
        let (mut run, mut end) = (0, 0);
        for index in free {
            run = if index == end { run + 1 } else { 1 };
            end = index + 1;
            if run == count {
                return Ok(end - count);
            }
        }
        let tail = if end as usize == self.table.len() {
            run
        } else {
            0
        };
        Ok(self.extend((count - tail) as usize)? - tail)
    }

    /// `count` chunks that were never used.
    fn extend(&mut self, count: usize) -> io::Result<u32> {
        let first = self.table.len();
        if first + count > self.limit as usize {
            return Err(io::Error::new(
                io::ErrorKind::OutOfMemory,
                format!(
                    "cannot save a frame: the {} bytes of address space for saved frames are used \
                     up; reserve more (64 GiB at most), or use more workers",
                    (self.limit as usize) << self.shift
                ),
            ));
        }
        self.reserve.open(self.offset((first + count) as u32))?;
        self.table.resize(first + count, Chunk::default());
        Ok(first as u32)
    }

    /// Makes all blocks of a chunk fresh.
    fn reset(&mut self, index: u32) {
        let chunk = &mut self.table[index as usize];
        *chunk = Chunk {
            fresh: index << (self.shift - GRANULE_SHIFT),
            touched: chunk.touched,
            huge: chunk.huge,
            ..Chunk::default()
        };
    }

    fn set_huge(&mut self, index: u32, huge: bool) {
        let (offset, bytes) = (self.offset(index), self.chunk_bytes());
        let chunk = &mut self.table[index as usize];
        if chunk.huge != huge {
            chunk.huge = huge;
            if huge {
                self.reserve.prefer_huge(offset, bytes);
            } else {
                self.reserve.forbid_huge(offset, bytes);
            }
        }
        if huge {
            self.set_touched(index, bytes);
        }
    }

    fn touched(&self, index: u32) -> usize {
        self.table[index as usize].touched as usize
    }

    fn set_touched(&mut self, index: u32, bytes: usize) {
        let chunk = &mut self.table[index as usize];
        self.held = self.held - chunk.touched as usize + bytes;
        chunk.touched = bytes as u32;
    }

    /// Gives the pages of a chunk back to the kernel.
    ///
    /// # Safety
    ///
    /// - Nobody uses a byte of it any more.
    unsafe fn release(&mut self, index: u32) {
        let (offset, touched) = (self.offset(index), self.touched(index));
        // SAFETY: the caller gives the bytes up.
        let released = unsafe { self.reserve.release(offset, touched) };
        // If the kernel refuses, as it does for locked memory, the pages stay,
        // and stay counted.
        if released.is_ok() {
            self.set_touched(index, 0);
        }
    }

    /// Where a chunk begins in the reserve.
    fn offset(&self, index: u32) -> usize {
        self.base.addr() - self.reserve.base().addr() + ((index as usize) << self.shift)
    }

    /// Address and length of the whole reserve.
    #[cfg(test)]
    pub(super) fn span(&self) -> (usize, usize) {
        (self.reserve.base().addr(), self.reserve.len())
    }
}
