//! Overflows and other faults, each in a child process that dies of it.

use std::os::unix::process::ExitStatusExt;
use std::process::Output;
use std::{hint, ptr, thread};

use super::*;
use crate::stack::ArenaConfig;
use crate::stack::arena::Arena;
use crate::stack::report::set_describer;
use crate::sys::testing::{
    LEAST_HANDLER_ROOM, handler_bytes, in_child, note_context, on_foreign_thread, send_fault,
};

const SIGABRT: i32 = 6;
const SIGSEGV: i32 = 11;

/// Runs `body` on a stack of an arena, as a coroutine would.
fn on_arena_stack(size: usize, guard: GuardChoice, body: impl FnOnce() + Send) {
    let mut arena = Arena::new(ArenaConfig {
        max_stacks: 4,
        guard,
        ..ArenaConfig::default()
    });
    let (id, _) = arena.take(size).unwrap();
    let bounds = arena.bounds(id);
    // SAFETY: the stack is ours, and given back after the thread has ended.
    unsafe {
        on_foreign_thread(Some((bounds.limit.get(), bounds.len())), body);
        let _ = arena.give(id);
    }
}

/// Ends by overflow only, which no compiler can see.
fn recurse(depth: usize) -> usize {
    let frame = hint::black_box([depth; 32]);
    if frame[31] == usize::MAX {
        return 0;
    }
    recurse(hint::black_box(depth + 1)) + frame[depth % 32]
}

fn overflow_with_report() {
    install().unwrap();
    let _alt_stack = ensure_alt_stack().unwrap();
    recurse(0);
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const ADVICE: &str = "its stack of 65536 bytes is used up; give it more with \
    crore::Builder::new().stack_size(bytes), shared ones with \
    crore::Runtime::builder().shared_stacks(count, bytes), or move large locals to the heap\n";

#[test]
fn an_overflow_is_reported_without_a_describer() {
    let name = concat!(
        module_path!(),
        "::an_overflow_is_reported_without_a_describer"
    );
    let output = in_child(name, || {
        on_arena_stack(64 * 1024, GuardChoice::Auto, overflow_with_report);
    });
    let text = text(&output);
    assert_eq!(output.status.signal(), Some(SIGABRT), "{text}");
    assert!(
        text.contains("crore: stack overflow in a generator (guard at 0x"),
        "{text}"
    );
    assert!(
        text.contains("Generator::with_stack_size(bytes, body)"),
        "{text}"
    );
}

#[test]
fn an_overflow_is_reported_with_the_describers_words() {
    let name = concat!(
        module_path!(),
        "::an_overflow_is_reported_with_the_describers_words"
    );
    let output = in_child(name, || {
        set_describer(|out, _| {
            let (id, line) = (hint::black_box((1, 42, 7)), hint::black_box(10));
            // Longer than the buffer, to see that nothing is lost.
            let name = "conn".repeat(200);
            let _ = write!(out, "coroutine '{name}' (id {}:{}:{}), ", id.0, id.1, id.2);
            let _ = write!(out, "spawned at src/main.rs:{line}:5");
            true
        });
        on_arena_stack(64 * 1024, GuardChoice::Mprotect, overflow_with_report);
    });
    let text = text(&output);
    assert_eq!(output.status.signal(), Some(SIGABRT), "{text}");
    let expected = format!(
        "crore: stack overflow in coroutine '{}' (id 1:42:7), spawned at src/main.rs:10:5: {ADVICE}",
        "conn".repeat(200)
    );
    assert!(text.contains(&expected), "{text}");
}

#[test]
fn without_a_handler_an_overflow_still_dies_of_the_guard() {
    let name = concat!(
        module_path!(),
        "::without_a_handler_an_overflow_still_dies_of_the_guard"
    );
    let output = in_child(name, || {
        on_arena_stack(64 * 1024, GuardChoice::Auto, || {
            recurse(0);
        });
    });
    assert_eq!(output.status.signal(), Some(SIGSEGV));
}

#[test]
fn threads_of_std_keep_their_own_report() {
    let name = concat!(module_path!(), "::threads_of_std_keep_their_own_report");
    let output = in_child(name, || {
        install().unwrap();
        install().unwrap();
        let _ = thread::Builder::new()
            .name("ordinary".into())
            .spawn(|| recurse(0))
            .unwrap()
            .join();
    });
    let text = text(&output);
    assert_eq!(output.status.signal(), Some(SIGABRT), "{text}");
    assert!(
        text.contains("'ordinary'") && text.contains("has overflowed its stack"),
        "{text}"
    );
    assert!(!text.contains("crore: "), "{text}");
}

#[test]
fn std_reports_its_overflow_on_our_signal_stack_too() {
    let name = concat!(
        module_path!(),
        "::std_reports_its_overflow_on_our_signal_stack_too"
    );
    let output = in_child(name, || {
        let _ = thread::spawn(overflow_with_report).join();
    });
    let text = text(&output);
    assert_eq!(output.status.signal(), Some(SIGABRT), "{text}");
    assert!(text.contains("has overflowed its stack"), "{text}");
}

#[test]
fn a_wild_access_still_dies_by_sigsegv() {
    let name = concat!(module_path!(), "::a_wild_access_still_dies_by_sigsegv");
    let output = in_child(name, || {
        install().unwrap();
        // SAFETY: there is nothing at 8: it faults, and the child dies of it.
        unsafe { ptr::without_provenance_mut::<u8>(8).write_volatile(1) };
    });
    assert_eq!(output.status.signal(), Some(SIGSEGV));
    assert!(!text(&output).contains("crore: "));
}

#[test]
fn a_foreign_thread_gets_a_signal_stack_and_loses_it() {
    // SAFETY: libc provides the stack.
    unsafe {
        on_foreign_thread(None, || {
            assert_eq!(SignalStack::current().unwrap().len(), 0);
            let outer = ensure_alt_stack().unwrap();
            let ours = SignalStack::current().unwrap();
            assert!(ours.len() >= SignalStack::kernel_share() + HANDLER_ROOM);
            // Large enough now: the second one has nothing to do.
            drop(ensure_alt_stack().unwrap());
            assert_eq!(SignalStack::current().unwrap().base(), ours.base());
            drop(outer);
            assert_eq!(SignalStack::current().unwrap().len(), 0);
        });
    }
}

#[test]
fn a_signal_stack_has_a_guard() {
    let output = in_child(
        concat!(module_path!(), "::a_signal_stack_has_a_guard"),
        || {
            let _alt_stack = ensure_alt_stack().unwrap();
            let base = SignalStack::current().unwrap().base();
            // SAFETY: its lowest byte, which nobody uses.
            unsafe { base.write_volatile(1) };
            eprintln!("writable above it");
            // SAFETY: the guard: the child dies of it.
            unsafe { base.sub(1).write_volatile(1) };
        },
    );
    assert!(text(&output).contains("writable above it"));
    assert_eq!(output.status.signal(), Some(SIGSEGV));
}

#[test]
fn a_std_thread_gets_its_own_signal_stack_back() {
    thread::spawn(|| {
        let before = SignalStack::current().unwrap();
        assert!(before.len() > 0);
        let guard = ensure_alt_stack().unwrap();
        assert!(
            SignalStack::current().unwrap().len() >= SignalStack::kernel_share() + HANDLER_ROOM
        );
        drop(guard);
        let after = SignalStack::current().unwrap();
        assert_eq!((after.base(), after.len()), (before.base(), before.len()));
    })
    .join()
    .unwrap();
}

#[test]
fn a_signal_stack_that_somebody_else_set_is_left_alone() {
    let mut memory = vec![0u8; 1 << 16];
    thread::scope(|scope| {
        let lent = &mut memory;
        let seen = scope.spawn(move || {
            let others = SignalStack::new(lent.as_mut_ptr(), lent.len());
            let guard = ensure_alt_stack().unwrap();
            // SAFETY: the memory outlives the thread.
            unsafe { others.install() }.unwrap();
            drop(guard);
            assert_eq!(SignalStack::current().unwrap().base(), others.base());
        });
        seen.join().unwrap();
    });
}

/// A fault that is not of a coroutine's stack: the former handler gets it with about as
/// much room as it would have had.
#[test]
fn a_fault_of_others_is_handed_on_with_little_stack() {
    let name = concat!(
        module_path!(),
        "::a_fault_of_others_is_handed_on_with_little_stack"
    );
    let output = in_child(name, || {
        // A range that is looked at on the way.
        let mut arena = Arena::new(ArenaConfig::default());
        arena.take(64 * 1024).unwrap();
        for signal in signal::FAULTS {
            let former = Action::of(signal).unwrap().replaced_by(note_context);
            // SAFETY: it does what handlers may.
            unsafe { former.install(signal) }.unwrap();
        }
        install().unwrap();
        let sends: [fn(); 2] = [
            || send_fault(signal::FAULTS[0]),
            || send_fault(signal::FAULTS[1]),
        ];
        let used = handler_bytes(sends);
        assert!(
            used.iter().all(|&used| used < LEAST_HANDLER_ROOM),
            "{used:?}"
        );
    });
    assert!(output.status.success(), "{}", text(&output));
}
