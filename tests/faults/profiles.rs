//! The promise: a profile names the coroutines that compute, and the functions they do it in.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::common::kinds;
use crore::{Builder, Handle, Profile};

#[inline(never)]
fn computes(end: &AtomicBool) {
    while !end.load(Relaxed) {
        black_box((0..10_000_u64).sum::<u64>());
        crore::yield_now();
    }
}

fn profile(handle: &Handle) -> Profile {
    let handle = handle.clone();
    let looks = crore::spawn_blocking(move || handle.profile(Duration::from_millis(100)));
    looks.join().unwrap()
}

#[test]
fn who_computes_on_any_kind_of_stack_is_seen() {
    for kind in kinds() {
        crore::run(move || {
            let end = Arc::new(AtomicBool::new(false));
            let theirs = Arc::clone(&end);
            let one = kind.spawn(move || computes(&theirs));
            let idle = Builder::new()
                .name("idle".into())
                .spawn(crore::park)
                .unwrap();
            let handle = Handle::current().unwrap();
            let found = loop {
                let seen = profile(&handle);
                assert!(!seen.to_string().contains("idle"), "{seen}");
                let mut stacks = seen.stacks();
                if let Some((stack, micros)) = stacks.find(|(stack, _)| names(stack)) {
                    assert!(seen.to_string().contains(&format!("{stack} {micros}\n")));
                    assert!(micros > 0 && seen.looks() > 0);
                    break stack.to_owned();
                }
            };
            // From the coroutine's outermost call in, and none of the worker's.
            for further in ["Worker::run", "stack_init_trampoline"] {
                assert!(!found.contains(further), "{kind:?}: {found}");
            }
            end.store(true, Relaxed);
            one.join().unwrap();
            idle.coroutine().unpark();
        })
        .unwrap();
    }
}

/// The function in which it computes, or without names at least who it is.
fn names(stack: &str) -> bool {
    let (who, calls) = stack.split_once(';').unwrap_or((stack, ""));
    who.contains("common/") && (calls.contains("profiles::computes") || !cfg!(feature = "symbols"))
}

#[test]
fn who_has_a_name_goes_by_it() {
    crore::run(|| {
        let end = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&end);
        let named = Builder::new().name("busy".into());
        let busy = named.spawn(move || computes(&theirs)).unwrap();
        let handle = Handle::current().unwrap();
        while !profile(&handle)
            .stacks()
            .any(|(stack, _)| stack.starts_with("busy;"))
        {}
        end.store(true, Relaxed);
        busy.join().unwrap();
    })
    .unwrap();
}
