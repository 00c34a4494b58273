//! What the model in `fuzz_ops` does not see: poison, counters, refusals.

use std::ptr::with_exposed_provenance;

use super::*;
use crate::stack::frame_pool::FramePoolConfig;

const STACK: usize = 512;

/// A stack of known bytes, whose base frames in both forms are the upper 64 of them.
struct Fixture {
    memory: Box<[u128; STACK / 16]>,
    shared: SharedStack,
    pool: FramePool,
    boundary: usize,
}

impl Fixture {
    fn new() -> Self {
        let mut memory = Box::new([u128::from_ne_bytes([7; 16]); STACK / 16]);
        let limit = memory.as_mut_ptr().expose_provenance();
        let boundary = limit + STACK - 64;
        // SAFETY: the box lives as long as the shared stack beside it, and
        // nothing runs on it.
        let shared = unsafe { SharedStack::new(limit + STACK, limit, boundary) };
        let config = FramePoolConfig {
            reserve_bytes: 4 << 20,
            ..FramePoolConfig::default()
        };
        Self {
            memory,
            shared,
            pool: FramePool::new(config).unwrap(),
            boundary,
        }
    }

    fn park(&mut self, task: u32) {
        self.shared.start(task);
        // SAFETY: all bytes are the same, so are the base frames.
        unsafe { self.shared.capture_base_frames(self.boundary, 8) };
    }

    fn save(&mut self, len: usize) -> Saved {
        self.save_as(len, false)
    }

    fn save_as(&mut self, len: usize, packed: bool) -> Saved {
        let sp = self.boundary - len;
        // SAFETY: the owner is parked as far as the stack knows.
        let saved = unsafe {
            if packed {
                self.shared.save_packed(sp, &mut self.pool)
            } else {
                self.shared.save(sp, &mut self.pool).map(Some)
            }
        };
        saved.unwrap().expect("they are alike")
    }

    fn bytes(&self, at: usize, len: usize) -> &[u8] {
        assert!(at >= self.memory.as_ptr().addr());
        // SAFETY: initialised memory of the box, which nobody writes now.
        unsafe { std::slice::from_raw_parts(with_exposed_provenance(at), len) }
    }
}

#[test]
fn only_the_region_that_a_saved_task_left_is_poisoned() {
    let mut fixture = Fixture::new();
    fixture.park(1);
    let saved = fixture.save(96);
    #[cfg(debug_assertions)]
    assert_eq!(fixture.bytes(fixture.boundary - 96, 96), [copy::LEFT; 96]);
    assert_eq!(
        fixture.bytes(fixture.boundary, 64),
        [7; 64],
        "the base frames are not the task's"
    );
    assert_eq!(
        fixture.bytes(fixture.boundary - 112, 16),
        [7; 16],
        "nor is what lies below"
    );
    // SAFETY: from this stack and pool, for task 1.
    unsafe { fixture.shared.restore(1, saved, &mut fixture.pool) };
    assert_eq!(fixture.bytes(fixture.boundary - 96, 160), [7; 160]);
}

#[test]
fn counters_tell_what_was_done() {
    let mut fixture = Fixture::new();
    fixture.park(1);
    assert!(fixture.shared.hit(1) && !fixture.shared.hit(2));
    let saved = fixture.save(96);
    assert!(!fixture.shared.hit(1));
    assert_eq!(saved.len(), 96);
    // SAFETY: nothing was resumed; then as above.
    unsafe {
        fixture.shared.make_idle();
        fixture.shared.restore(1, saved, &mut fixture.pool);
    }
    let expected = SharedCounters {
        saves: 1,
        restores: 1,
        hits: 1,
        bytes_copied: 96 + 64 + 64 + 96,
        largest: 96,
    };
    assert_eq!(fixture.shared.counters(), expected);
}

#[test]
#[cfg(not(any(miri, feature = "sanitizer", feature = "valgrind")))]
fn frames_that_are_alike_are_kept_once() {
    let mut fixture = Fixture::new();
    fixture.park(1);
    let first = fixture.save_as(96, true);
    assert_eq!((first.len(), first.held()), (96, 8));
    // SAFETY: from this stack and pool, for task 1; nothing was resumed.
    unsafe { fixture.shared.restore(1, first, &mut fixture.pool) };
    assert_eq!(fixture.bytes(fixture.boundary - 96, 160), [7; 160]);
    // One word of another.
    fixture.memory[(STACK - 96) / 16] ^= 1;
    let second = fixture.save_as(96, true);
    assert_eq!((second.len(), second.held()), (96, 16));
    assert_eq!(fixture.pool.counters().live, 16);
    let (block, extent) = second.into_parts();
    // SAFETY: the parts, once; then as above.
    unsafe {
        let second = Saved::from_parts(block, extent);
        fixture.shared.restore(1, second, &mut fixture.pool);
    }
    assert_eq!(fixture.bytes(fixture.boundary - 32, 1), [6]);
    assert_eq!(fixture.bytes(fixture.boundary - 31, 31), [7; 31]);
    assert_eq!(fixture.pool.counters().live, 0);
}

#[test]
#[should_panic(expected = "task 2 starts on a stack in use")]
fn a_task_does_not_start_over_another() {
    let mut fixture = Fixture::new();
    fixture.park(1);
    fixture.shared.start(2);
}

#[test]
#[should_panic(expected = "task 1 was not saved")]
fn the_carrier_is_not_reset_under_a_task() {
    let mut fixture = Fixture::new();
    fixture.park(1);
    // SAFETY: refused before anything is written.
    unsafe { fixture.shared.make_idle() };
}

#[test]
#[should_panic(expected = "task 1 restored over task 2")]
fn a_task_is_not_restored_over_another() {
    let mut fixture = Fixture::new();
    fixture.park(1);
    let saved = fixture.save(96);
    // SAFETY: nothing was resumed.
    unsafe { fixture.shared.make_idle() };
    fixture.park(2);
    // SAFETY: refused before anything is written.
    unsafe { fixture.shared.restore(1, saved, &mut fixture.pool) };
}

#[test]
#[should_panic(expected = "nobody is parked at")]
fn a_stack_pointer_outside_is_refused() {
    let mut fixture = Fixture::new();
    fixture.park(1);
    let _ = fixture.save(STACK);
}

#[test]
#[should_panic(expected = "tasks of one stack begin at one place")]
fn the_copy_boundary_is_the_same_for_all_tasks() {
    let mut fixture = Fixture::new();
    fixture.park(1);
    // SAFETY: refused before anything is read.
    unsafe { fixture.shared.capture_base_frames(fixture.boundary - 16, 8) };
}

#[test]
#[should_panic(expected = "tasks of one stack return to one place")]
fn the_return_address_is_the_same_for_all_tasks() {
    let mut fixture = Fixture::new();
    fixture.park(1);
    fixture.shared.finish();
    // Another word where the base frames begin, as if called from another place.
    fixture.memory[(STACK - 64) / 16] ^= 1;
    fixture.park(2);
}
