//! The promise: a coroutine that waits for long keeps the memory that its frames need, and
//! all of that, whatever stack they are on.

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

use crore::{Builder, JoinHandle};

use crate::common::{has_own_locals, succeeds};

const PAGE: usize = 4096;
const DEEP: usize = 10;

/// Touches so many pages of stack; an address in the lowest.
#[inline(never)]
fn go_deep(pages: usize) -> usize {
    let page = black_box([pages as u8; PAGE]);
    match pages {
        0 => page.as_ptr().addr(),
        _ => go_deep(pages - 1).min(black_box(&page).as_ptr().addr()),
    }
}

/// How many of the pages above an address are in memory.
fn resident(address: usize, pages: usize) -> usize {
    let mut seen = vec![0; pages];
    let begin = std::ptr::without_provenance_mut(address / PAGE * PAGE);
    // SAFETY: the call writes a byte for each page.
    let done = unsafe { libc::mincore(begin, pages * PAGE, seen.as_mut_ptr()) };
    assert_eq!(done, 0);
    seen.iter().filter(|page| **page & 1 != 0).count()
}

/// Numbers in a frame of the caller's, over some pages.
struct Numbers([u64; 2048]);

impl Numbers {
    fn new(seed: u64) -> Self {
        Self(std::array::from_fn(|i| seed ^ i as u64))
    }

    fn check(&self, seed: u64) {
        let right = |(i, &number): (usize, &u64)| number == seed ^ i as u64;
        assert!(black_box(&self.0).iter().enumerate().all(right));
    }
}

/// A coroutine that was deep before it waits; where.
fn spawn_deep(seed: u64, local: bool) -> (JoinHandle<()>, usize) {
    let (tx, rx) = crore::sync::channel::bounded(1);
    let builder = Builder::new()
        .stack_size(256 << 10)
        .own_thread_locals(local);
    let handle = builder
        .spawn(move || {
            let numbers = black_box(Numbers::new(seed));
            tx.send(go_deep(DEEP)).unwrap();
            crore::park();
            numbers.check(seed);
            // The memory is there again.
            assert_ne!(go_deep(DEEP), 0);
            numbers.check(seed);
        })
        .unwrap();
    (handle, rx.recv().unwrap())
}

fn wait_until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(120), "it never comes");
        crore::sleep(Duration::from_millis(50));
    }
}

fn deep_ones_give_back() {
    let local = has_own_locals();
    let all: Vec<_> = (0..100)
        .map(|i| spawn_deep(i, local && i % 4 == 3))
        .collect();
    assert!(all.iter().all(|&(_, low)| resident(low, DEEP) == DEEP));
    wait_until(|| all.iter().all(|&(_, low)| resident(low, DEEP) <= 2));
    for (handle, _) in all {
        handle.coroutine().unpark();
        handle.join().unwrap();
    }
}

#[test]
fn who_was_deep_and_waits_gives_memory_back() {
    succeeds("who_was_deep_and_waits_gives_memory_back", || {
        crore::run(deep_ones_give_back).unwrap();
    });
}

/// Calls it some frames down, so that it begins elsewhere in a page.
#[inline(never)]
fn below(frames: usize, then: &mut dyn FnMut()) {
    let room = black_box([0_u8; 512]);
    match frames {
        0 => then(),
        _ => below(frames - 1, then),
    }
    black_box(&room);
}

/// Touches the stack a page further down; where.
#[inline(never)]
fn go_down_a_page() -> usize {
    let mut page = MaybeUninit::<[u8; PAGE]>::uninit();
    let low = page.as_mut_ptr().cast::<u8>();
    // SAFETY: its first byte.
    unsafe { low.write_volatile(1) };
    low.addr()
}

/// Coroutines that were a page deeper than the code that waits, each begun half a kilobyte
/// further down. Where they wait is still a bit deeper, in the same page for some of them.
fn single_pages_are_given_back() {
    let spawn = |frames| {
        let (tx, rx) = crore::sync::channel::bounded(1);
        let handle = crore::spawn(move || {
            below(frames, &mut || {
                tx.send(go_down_a_page()).unwrap();
                crore::park();
            });
        });
        (handle, rx.recv().unwrap())
    };
    let all: Vec<_> = (0..8).map(spawn).collect();
    let kept = || {
        all.iter()
            .filter(|&&(_, low)| resident(low, 1) == 1)
            .count()
    };
    assert_eq!(kept(), all.len());
    wait_until(|| kept() <= all.len() / 2);
    for (handle, _) in all {
        handle.coroutine().unpark();
        handle.join().unwrap();
    }
}

#[test]
fn a_single_page_is_given_back() {
    succeeds("a_single_page_is_given_back", || {
        crore::run(single_pages_are_given_back).unwrap();
    });
}

/// A second stack of a coroutine, in a frame of the first, as programs in C make it.
#[cfg(target_env = "gnu")]
mod within {
    use super::*;
    use std::cell::UnsafeCell;
    use std::ptr;

    struct Contexts {
        outer: MaybeUninit<libc::ucontext_t>,
        inner: MaybeUninit<libc::ucontext_t>,
    }

    thread_local! {
        static CONTEXTS: UnsafeCell<*mut Contexts> = const { UnsafeCell::new(ptr::null_mut()) };
    }

    extern "C" fn wait_inside() {
        // SAFETY: noted just before the switch to here, by code that waits for it.
        unsafe {
            let contexts = CONTEXTS.with(|contexts| *contexts.get());
            crore::park();
            libc::setcontext((*contexts).outer.as_ptr());
        }
    }

    /// # Safety
    ///
    /// - The contexts are those of a call of `wait_on_second_stack`.
    #[inline(never)]
    unsafe fn switch(contexts: *mut Contexts) {
        let numbers = black_box(Numbers::new(77));
        // SAFETY: the inner one was made, the outer one is written now.
        unsafe {
            libc::swapcontext((*contexts).outer.as_mut_ptr(), (*contexts).inner.as_ptr());
        }
        numbers.check(77);
    }

    fn wait_on_second_stack() {
        let mut stack = black_box([0_u8; 64 << 10]);
        let mut contexts = Contexts {
            outer: MaybeUninit::zeroed(),
            inner: MaybeUninit::zeroed(),
        };
        // SAFETY: the stack and the contexts outlive the switch there and back; the
        // contexts are noted until the function on the stack has begun.
        unsafe {
            let inner = contexts.inner.as_mut_ptr();
            assert_eq!(libc::getcontext(inner), 0);
            (*inner).uc_stack.ss_sp = stack.as_mut_ptr().cast();
            (*inner).uc_stack.ss_size = stack.len();
            libc::makecontext(inner, wait_inside, 0);
            CONTEXTS.with(|noted| *noted.get() = &raw mut contexts);
            switch(&raw mut contexts);
        }
        black_box(&stack);
    }

    fn both_wait() {
        let builder = Builder::new().stack_size(256 << 10);
        let inside = builder.spawn(wait_on_second_stack).unwrap();
        crore::yield_now();
        // Looked at after the first, with a higher number.
        let (plain, low) = spawn_deep(1, false);
        wait_until(|| resident(low, DEEP) <= 2);
        for handle in [inside, plain] {
            handle.coroutine().unpark();
            handle.join().unwrap();
        }
    }

    #[test]
    fn frames_below_a_second_stack_are_kept() {
        succeeds("frames_below_a_second_stack_are_kept", || {
            crore::run(both_wait).unwrap();
        });
    }
}
