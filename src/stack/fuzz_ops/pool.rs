//! The pool against a model that keeps a copy of each frame.

use crate::stack::frame_pool::{FramePool, FramePoolConfig, FrameRef};
use crate::util::fuzz::{Op, Random, ops};

/// Small, so that an input of a few hundred operations fills and empties them.
const CHUNK: usize = 4096;
const RESERVE: usize = 1 << 20;
const MAX_SAVED: u64 = 24 << 10;
const WARM: usize = 2 * CHUNK;

struct Frame {
    at: FrameRef,
    bytes: Vec<u8>,
}

struct PoolModel {
    pool: FramePool,
    frames: Vec<Frame>,
    random: Random,
    live: u64,
    peak: u64,
    allocs: u64,
}

/// Runs the operations of one input.
pub(crate) fn run(input: &[u8]) {
    let config = FramePoolConfig {
        reserve_bytes: RESERVE,
        max_saved_bytes: MAX_SAVED,
        chunk_bytes: CHUNK,
        warm_bytes: WARM,
        ..FramePoolConfig::default()
    };
    let mut model = PoolModel {
        pool: FramePool::new(config).expect("address space"),
        frames: Vec::new(),
        random: Random::new(input.len() as u64),
        live: 0,
        peak: 0,
        allocs: 0,
    };
    for op in ops(input) {
        model.apply(&op);
        model.check();
    }
    while !model.frames.is_empty() {
        model.free(0);
    }
    model.check();
    assert_eq!(
        model.pool.counters().chunks,
        0,
        "all empty chunks are given back"
    );
    assert!(model.pool.counters().held <= WARM as u64);
}

impl PoolModel {
    fn apply(&mut self, op: &Op) {
        match op.what % 8 {
            0 => self.alloc(1 + op.large % 256),
            1 => self.alloc(op.large % (CHUNK + 1)),
            2 => self.alloc(CHUNK / 2 + op.large % (3 * CHUNK)),
            3 => {
                // Many of one length fill chunks.
                for _ in 0..=op.small % 16 {
                    self.alloc(1 + op.large % 512);
                }
            }
            4 => self.free(op.large),
            5 => {
                for n in 0..=usize::from(op.small % 16) {
                    self.free(op.large + n * 7);
                }
            }
            6 => {
                self.free(op.large);
                self.alloc(16 * (1 + usize::from(op.small)));
            }
            _ => self.rewrite(op.large),
        }
    }

    fn alloc(&mut self, len: usize) {
        let fits = self.live + len as u64 <= MAX_SAVED;
        let at = match self.pool.alloc(len) {
            Ok(at) => at,
            Err(error) => {
                assert!(!fits, "{len} bytes refused at {}: {error}", self.live);
                assert!(error.to_string().contains("max_saved_bytes"), "{error}");
                return;
            }
        };
        assert!(fits, "{len} bytes granted at {}", self.live);
        let frame = Frame {
            bytes: self.contents(len),
            at,
        };
        self.write(&frame);
        self.frames.push(frame);
        self.live += len as u64;
        self.peak = self.peak.max(self.live);
        self.allocs += 1;
    }

    fn free(&mut self, nth: usize) {
        if self.frames.is_empty() {
            return;
        }
        let frame = self.frames.swap_remove(nth % self.frames.len());
        self.live -= frame.bytes.len() as u64;
        // SAFETY: the frame came from this pool with this length.
        unsafe { self.pool.free(frame.at, frame.bytes.len()) };
    }

    fn rewrite(&mut self, nth: usize) {
        if self.frames.is_empty() {
            return;
        }
        let nth = nth % self.frames.len();
        self.frames[nth].bytes = self.contents(self.frames[nth].bytes.len());
        self.write(&self.frames[nth]);
    }

    /// One random word all over: fast, and unlike that of any other frame.
    fn contents(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = self.random.next().to_le_bytes().repeat(len.div_ceil(8));
        bytes.truncate(len);
        bytes
    }

    fn write(&self, frame: &Frame) {
        let to = self.pool.addr(&frame.at);
        assert_eq!(to.addr() % 16, 0, "alignment");
        // SAFETY: the block was made for that many bytes.
        unsafe { to.copy_from_nonoverlapping(frame.bytes.as_ptr(), frame.bytes.len()) };
    }

    /// Every frame has its bytes, so none overlaps another; counters are right.
    fn check(&self) {
        let mut chunks = [false; RESERVE / CHUNK];
        for frame in &self.frames {
            let (at, len) = (self.pool.addr(&frame.at), frame.bytes.len());
            // SAFETY: a live block of that many bytes, all written.
            let bytes = unsafe { std::slice::from_raw_parts(at, len) };
            assert!(
                bytes == frame.bytes,
                "the frame of {len} bytes at {at:p} changed"
            );
            for chunk in at.addr() / CHUNK..(at.addr() + len.max(1)).div_ceil(CHUNK) {
                chunks[chunk % chunks.len()] = true;
            }
        }
        let chunks = chunks.iter().filter(|&&used| used).count();
        let counters = self.pool.counters();
        assert_eq!(counters.live, self.live);
        assert_eq!(counters.peak_live, self.peak);
        assert_eq!(counters.frames, self.frames.len() as u64);
        assert_eq!(counters.allocs, self.allocs);
        assert_eq!(counters.chunks as usize, chunks);
        assert!(counters.held >= counters.live);
        assert!(counters.held <= (chunks * CHUNK + WARM) as u64);
    }
}
