//! The floor: corosensei's switch without a scheduler, on stacks that are
//! slices of one mapping, as close together and as cheap as stacks can be.

use std::num::NonZeroUsize;
use std::time::Duration;

use corosensei::stack::{DefaultStack, STACK_ALIGNMENT, Stack, StackPointer};
use corosensei::{Coroutine, CoroutineResult};

use crate::clock::now;
use crate::process::memory;
use crate::subject::Outcome::{Bytes, Took};
use crate::subject::{Work, Workload};

/// From one stack to the next.
const STRIDE: usize = 8 * 1024;
/// The tops of neighbours lie so many cache lines apart, up to so many.
const COLOURS: usize = 32;

/// A slice of a mapping that stays until the process ends.
struct Slice {
    base: StackPointer,
    limit: StackPointer,
}

// SAFETY: the slices are apart, stay mapped, are aligned (a mapping is, and so
// are the stride and the colours), and have 4 KiB at least. Instead of guard
// pages: what runs on them calls nothing that is deep.
unsafe impl Stack for Slice {
    fn base(&self) -> StackPointer {
        self.base
    }

    fn limit(&self) -> StackPointer {
        self.limit
    }
}

/// So many stacks, one after the other.
fn stacks(count: u64) -> impl Iterator<Item = Slice> {
    let bytes = count as usize * STRIDE;
    // SAFETY: a new mapping.
    let start = unsafe {
        let (access, kind) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
        );
        let start = libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0);
        assert_ne!(start, libc::MAP_FAILED, "there is address space");
        // One page each, as crore and the others have it.
        libc::madvise(start, bytes, libc::MADV_NOHUGEPAGE);
        start as usize
    };
    (0..count as usize).map(move |i| {
        let limit = start + i * STRIDE;
        let base = limit + STRIDE - i % COLOURS * 64;
        assert!(base.is_multiple_of(STACK_ALIGNMENT));
        let address = |a| NonZeroUsize::new(a).expect("nothing is mapped at 0");
        Slice {
            base: address(base),
            limit: address(limit),
        }
    })
}

/// `tasks` coroutines resumed in turns, `rounds` times each.
pub fn switches(tasks: u64, rounds: u64) -> Duration {
    let mut all: Vec<Coroutine<(), (), u64, Slice>> = stacks(tasks)
        .map(|stack| {
            Coroutine::with_stack(stack, move |yielder, ()| {
                let mut count = 0;
                loop {
                    yielder.suspend(());
                    count += 1;
                    if count == rounds {
                        return count;
                    }
                }
            })
        })
        .collect();
    let mut resume_all = || -> u64 {
        all.iter_mut()
            .map(|task| match task.resume(()) {
                CoroutineResult::Yield(()) => 0,
                CoroutineResult::Return(count) => count,
            })
            .sum()
    };
    assert_eq!(resume_all(), 0); // all have started
    let start = now();
    let done: u64 = (0..rounds).map(|_| resume_all()).sum();
    let time = now() - start;
    assert_eq!(done, tasks * rounds);
    time
}

/// Coroutines that run to their end on the same stack, one after the other.
pub fn spawn_join(n: u64) -> Duration {
    let mut stack = DefaultStack::new(32 * 1024).expect("there is memory");
    let start = now();
    let mut sum = 0;
    for i in 0..n {
        let mut task = Coroutine::<(), (), u64>::with_stack(stack, move |_, ()| i);
        match task.resume(()) {
            CoroutineResult::Return(i) => sum += i,
            CoroutineResult::Yield(()) => unreachable!("it does not yield"),
        }
        stack = task.into_stack();
    }
    let time = now() - start;
    assert_eq!(sum, n * n.saturating_sub(1) / 2);
    time
}

/// Bytes of `n` that are suspended.
pub fn parked(n: u64) -> u64 {
    let mut all: Vec<Coroutine<(), (), (), Slice>> = Vec::with_capacity(n as usize);
    let before = memory();
    for stack in stacks(n) {
        let mut task = Coroutine::with_stack(stack, |yielder, ()| yielder.suspend(()));
        assert!(matches!(task.resume(()), CoroutineResult::Yield(())));
        all.push(task);
    }
    let bytes = memory() - before;
    for mut task in all {
        assert!(matches!(task.resume(()), CoroutineResult::Return(())));
    }
    bytes
}

/// What can be done without a scheduler.
pub fn work(work: Work) -> Option<Workload> {
    Some(match work {
        Work::Yield => |tasks, n| Took(switches(tasks, n / tasks)),
        Work::SpawnJoin => |_, n| Took(spawn_join(n)),
        Work::Parked => |n, _| Bytes(parked(n)),
        _ => return None,
    })
}
