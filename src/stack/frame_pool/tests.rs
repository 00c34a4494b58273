//! What the model in `fuzz_ops` can't see: resident pages, huge chunks, limits.

use std::os::unix::fs::FileExt;

use super::*;
use crate::sys::mem::PAGE;
use crate::util::fuzz::Random;

const MIB: usize = 1 << 20;

fn pool(chunk_bytes: usize, reserve_bytes: usize) -> FramePool {
    let config = FramePoolConfig {
        chunk_bytes,
        reserve_bytes,
        ..FramePoolConfig::default()
    };
    FramePool::new(config).unwrap()
}

/// Bytes of the reserve that are resident, by the kernel's own account.
fn resident(pool: &FramePool) -> usize {
    let (base, len) = pool.chunks.span();
    let map = std::fs::File::open("/proc/self/pagemap").unwrap();
    let mut entries = vec![0; len / PAGE * 8];
    map.read_exact_at(&mut entries, (base / PAGE * 8) as u64)
        .unwrap();
    let present = |entry: &[u8; 8]| u64::from_le_bytes(*entry) >> 63 == 1;
    entries
        .as_chunks()
        .0
        .iter()
        .filter(|entry| present(entry))
        .count()
        * PAGE
}

fn alloc_touched(pool: &mut FramePool, len: usize) -> FrameRef {
    let frame = pool.alloc(len).unwrap();
    // SAFETY: the block has that many bytes.
    unsafe { pool.addr(&frame).write_bytes(1, len) };
    frame
}

fn free_all(pool: &mut FramePool, frames: impl IntoIterator<Item = FrameRef>, len: usize) {
    for frame in frames {
        // SAFETY: all of this pool and length, and not used again.
        unsafe { pool.free(frame, len) };
    }
}

#[test]
fn sizes_are_exact_when_small_and_an_eighth_off_at_most() {
    let mut last = 0;
    for len in 1..=2 << 20 {
        let class = class_of(len);
        let block = block_bytes(class);
        assert!(class == last || class == last + 1, "{len}");
        last = class;
        assert!(
            block >= len && block.is_multiple_of(GRANULE),
            "{len}: {block}"
        );
        let exact = len.next_multiple_of(GRANULE);
        assert!(
            block == exact || len > FINE_MAX && block - len < len / 8 + 1,
            "{len}: {block}"
        );
    }
    assert_eq!(last, CLASSES - 1);
}

#[test]
fn handles_are_small() {
    assert_eq!(size_of::<Option<FrameRef>>(), 4);
    assert_eq!(size_of::<Option<super::super::shared::Saved>>(), 8);
    assert_eq!(size_of::<chunks::Chunk>(), 28);
}

#[test]
fn a_chunk_holds_as_many_blocks_as_fit() {
    for len in [16, 48, 144, 160, 2048, 2304, 30_000, 40_000, 1 << 16] {
        let mut pool = pool(1 << 16, 2 * MIB);
        let fits = (1 << 16) / block_bytes(class_of(len));
        let frames: Vec<_> = (0..fits).map(|_| pool.alloc(len).unwrap()).collect();
        assert_eq!(pool.counters().chunks, 1, "{len}");
        let next = pool.alloc(len).unwrap();
        assert_eq!(pool.counters().chunks, 2, "{len}");
        free_all(&mut pool, frames.into_iter().chain([next]), len);
    }
}

/// The kernel's flags of the mapping around `at`.
fn mapping_flags(at: *const u8) -> String {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in maps.lines() {
        let range = line
            .split_once(' ')
            .and_then(|(range, _)| range.split_once('-'));
        if let Some((low, high)) = range {
            let address = |hex| usize::from_str_radix(hex, 16).unwrap();
            inside = (address(low)..address(high)).contains(&at.addr());
        } else if inside && line.starts_with("VmFlags:") {
            return format!("{line} ");
        }
    }
    panic!("no mapping around {at:p}");
}

#[test]
#[cfg_attr(miri, ignore = "asks the kernel")]
fn only_a_class_of_several_chunks_gets_huge_pages() {
    const LEN: usize = 256 << 10;
    let config = FramePoolConfig {
        huge_after: 2,
        warm_bytes: 0,
        ..FramePoolConfig::default()
    };
    let mut pool = FramePool::new(config).unwrap();
    // The second round finds the chunks as the first has left them.
    for _ in 0..2 {
        let mut frames: Vec<_> = (0..16).map(|_| pool.alloc(LEN).unwrap()).collect();
        assert_eq!(pool.counters().held, 16 * LEN as u64, "small pages");
        let first = pool.addr(&frames[0]);
        frames.push(pool.alloc(LEN).unwrap());
        assert_eq!(
            pool.counters().held,
            24 * LEN as u64,
            "a huge page is held as a whole"
        );
        let last = pool.addr(&frames[16]);
        if std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
            assert!(
                mapping_flags(first).contains(" nh "),
                "{}",
                mapping_flags(first)
            );
            assert!(
                mapping_flags(last).contains(" hg "),
                "{}",
                mapping_flags(last)
            );
        }
        free_all(&mut pool, frames, LEN);
        assert_eq!(pool.counters().held, 0);
    }
    // A chunk that was huge has small pages again in the hands of others.
    let others = [pool.alloc(16), pool.alloc(32), pool.alloc(48)];
    assert_eq!(pool.counters().held, 3 * PAGE as u64);
    let third = pool.addr(others[2].as_ref().unwrap());
    assert!(
        !mapping_flags(third).contains(" hg "),
        "{}",
        mapping_flags(third)
    );
}

#[test]
#[cfg_attr(miri, ignore = "asks the kernel")]
fn a_small_population_is_dense() {
    let mut pool = pool(2 * MIB, 64 * MIB);
    let frames: Vec<_> = (0..10_000).map(|_| alloc_touched(&mut pool, 144)).collect();
    assert!(
        resident(&pool) <= 10_000 * 144 + PAGE,
        "{}",
        resident(&pool)
    );
    assert_eq!(pool.counters().held, resident(&pool) as u64);
    free_all(&mut pool, frames, 144);
}

#[test]
#[cfg_attr(miri, ignore = "asks the kernel")]
fn a_deep_phase_gives_its_memory_back() {
    const TASKS: usize = 20_000;
    let mut pool = pool(2 * MIB, 256 * MIB);
    let mut frames: Vec<_> = (0..TASKS).map(|_| alloc_touched(&mut pool, 1400)).collect();
    assert!(resident(&pool) >= TASKS * 1400);
    let mut random = Random::new(1);
    for nth in (1..TASKS).rev() {
        frames.swap(nth, random.next() as usize % (nth + 1));
    }
    // Every task parks again, in any order, now at a shallow depth.
    let mut shallow = Vec::new();
    for frame in frames {
        free_all(&mut pool, [frame], 1400);
        shallow.push(alloc_touched(&mut pool, 144));
    }
    let small = TASKS * 144 + 8 * MIB;
    assert!(resident(&pool) <= small, "{} of {small}", resident(&pool));
    assert!(pool.counters().held >= resident(&pool) as u64);
    free_all(&mut pool, shallow, 144);
    assert!(resident(&pool) <= 4 * MIB, "{}", resident(&pool));
}

#[test]
#[cfg_attr(miri, ignore = "asks the kernel")]
fn chunks_drain_under_random_churn() {
    const KEPT: usize = 10_000;
    let mut pool = pool(1 << 16, 64 * MIB);
    let mut frames: Vec<_> = (0..10 * KEPT)
        .map(|_| alloc_touched(&mut pool, 144))
        .collect();
    let mut random = Random::new(2);
    while frames.len() > KEPT {
        let nth = random.next() as usize % frames.len();
        free_all(&mut pool, [frames.swap_remove(nth)], 144);
    }
    let spread = pool.counters().chunks;
    for _ in 0..20 * KEPT {
        let nth = random.next() as usize % KEPT;
        let new = alloc_touched(&mut pool, 144);
        free_all(&mut pool, [std::mem::replace(&mut frames[nth], new)], 144);
    }
    let dense = (KEPT * 144).div_ceil(1 << 16) as u32;
    let after = pool.counters().chunks;
    assert!(
        after <= dense + dense / 8 + 1,
        "{spread} chunks became {after}, dense is {dense}"
    );
    free_all(&mut pool, frames, 144);
}

#[test]
#[cfg_attr(miri, ignore = "asks the kernel")]
fn a_frame_larger_than_a_chunk_takes_neighbours_and_gives_them_back() {
    let mut pool = pool(1 << 16, 4 * MIB);
    let single: Vec<_> = (0..8).map(|_| alloc_touched(&mut pool, 40_000)).collect();
    let large = alloc_touched(&mut pool, 200_000);
    assert_eq!(pool.counters().chunks, 12);
    free_all(&mut pool, [large], 200_000);
    free_all(&mut pool, single, 40_000);
    assert_eq!(pool.counters().chunks, 0);
    // All address space but chunk 0 can be had as one piece again.
    let whole = pool.alloc(63 << 16).unwrap();
    assert_eq!(pool.counters().chunks, 63);
    free_all(&mut pool, [whole], 63 << 16);
    assert!(pool.alloc(64 << 16).is_err());
    assert!(pool.alloc(1 << 60).is_err());
}

#[test]
fn a_full_reserve_is_an_error_with_words_and_no_harm() {
    let mut pool = pool(4096, 64 << 10);
    let mut frames = Vec::new();
    let error = loop {
        match pool.alloc(4000) {
            Ok(frame) => frames.push(frame),
            Err(error) => break error,
        }
    };
    assert!(
        error.to_string().contains("address space for saved frames"),
        "{error}"
    );
    assert_eq!(
        frames.len(),
        15,
        "all chunks but the one that is never used"
    );
    free_all(&mut pool, frames.drain(..), 4000);
    assert_eq!(pool.counters().live, 0);
    frames.push(pool.alloc(4000).unwrap());
    free_all(&mut pool, frames, 4000);
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "not a live block")]
fn a_double_free_is_noticed() {
    let mut pool = pool(4096, 64 << 10);
    let keep = pool.alloc(64).unwrap();
    let frame = pool.alloc(64).unwrap();
    let again = FrameRef(frame.0);
    free_all(&mut pool, [frame, again, keep], 64);
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "written after it was freed")]
fn a_write_to_a_freed_frame_is_noticed() {
    let mut pool = pool(4096, 64 << 10);
    let _keep = pool.alloc(64).unwrap();
    let frame = pool.alloc(64).unwrap();
    let stale = pool.addr(&frame);
    free_all(&mut pool, [frame], 64);
    // SAFETY: none; the bytes are the pool's, and this is what it must notice.
    unsafe { stale.add(40).write(1) };
    let _ = pool.alloc(64);
}
