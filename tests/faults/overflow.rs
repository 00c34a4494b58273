//! The promise: a coroutine that runs out of its stack says who it is and what
//! to do, and other faults stay what they are.

use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;
use std::thread;

use crore::Builder;
use crore::generator::Generator;

use crate::common::{in_child, stderr};

const SIGABRT: i32 = 6;
const SIGSEGV: i32 = 11;

/// Ends by overflow only, which no compiler can see.
fn recurse(depth: usize) -> usize {
    let frame = black_box([depth; 32]);
    if frame[31] == usize::MAX {
        return 0;
    }
    recurse(black_box(depth + 1)) + frame[depth % 32]
}

fn reported(output: &Output, who: &str, line: u32, bytes: usize) {
    let text = stderr(output);
    assert_eq!(output.status.signal(), Some(SIGABRT), "{text}");
    let report = text
        .lines()
        .find(|line| line.starts_with("crore: stack overflow in "));
    let report = report.unwrap_or_else(|| panic!("no report: {text}"));
    let begins = format!("crore: stack overflow in coroutine {who}(id ");
    assert!(report.starts_with(&begins), "{report}");
    let site = format!("), spawned at tests/faults/overflow.rs:{line}:");
    assert!(report.contains(&site), "{report}");
    let advice = format!(
        ": its stack of {bytes} bytes is used up; give it more with \
         crore::Builder::new().stack_size(bytes), shared ones with \
         crore::Runtime::builder().shared_stacks(count, bytes), or move large locals to the heap"
    );
    assert!(report.ends_with(&advice), "{report}");
}

#[test]
fn a_named_coroutine() {
    let line = line!() + 4;
    let output = in_child("a_named_coroutine", || {
        crore::run(|| {
            let builder = Builder::new().name("deep".into()).stack_size(128 << 10);
            let deep = builder.spawn(|| recurse(0)).unwrap();
            // A line of its own: the runner may have begun one.
            println!("\nid {}", deep.coroutine().id());
            deep.join().unwrap();
        })
        .unwrap();
    });
    reported(&output, "'deep' ", line, 128 << 10);
    let stdout = String::from_utf8_lossy(&output.stdout);
    let id = stdout.lines().find_map(|line| line.strip_prefix("id "));
    let id = format!("(id {})", id.expect("it was printed"));
    assert!(stderr(&output).contains(&id));
}

#[test]
fn one_without_a_name_after_many_switches() {
    let line = line!() + 5;
    let output = in_child("one_without_a_name_after_many_switches", || {
        crore::run(|| {
            let others: Vec<_> = (0..100)
                .map(|_| {
                    crore::spawn(|| {
                        (0..100).for_each(|_| crore::yield_now());
                        if black_box(true) { recurse(0) } else { 0 }
                    })
                })
                .collect();
            others.into_iter().for_each(|other| _ = other.join());
        })
        .unwrap();
    });
    reported(&output, "", line, 64 << 10);
}

#[test]
fn main_itself() {
    let line = line!() + 2;
    let output = in_child("main_itself", || {
        crore::run(|| recurse(0)).unwrap();
    });
    reported(&output, "'main' ", line, 1 << 20);
}

#[test]
fn one_from_outside() {
    let line = line!() + 3;
    let output = in_child("one_from_outside", || {
        let runtime = crore::Runtime::builder().build().unwrap();
        let deep = runtime.handle().spawn(|| recurse(0));
        runtime.run(|| deep.join().unwrap()).unwrap();
    });
    reported(&output, "", line, 64 << 10);
}

#[test]
fn one_on_a_shared_stack() {
    let line = line!() + 9;
    let output = in_child("one_on_a_shared_stack", || {
        let runtime = crore::Runtime::builder()
            .shared_stacks(2, 256 << 10)
            .build()
            .unwrap();
        runtime
            .run(|| {
                // SAFETY: it hands out nothing.
                unsafe { crore::spawn_shared(|| recurse(0)) }
                    .join()
                    .unwrap();
            })
            .unwrap();
    });
    reported(&output, "", line, 256 << 10);
}

#[test]
fn a_generator_outside_of_coroutines() {
    let output = in_child("a_generator_outside_of_coroutines", || {
        let deep = || Generator::new(|out, ()| out.yield_(recurse(0))).next();
        thread::spawn(deep).join().unwrap();
    });
    let text = stderr(&output);
    assert_eq!(output.status.signal(), Some(SIGABRT), "{text}");
    assert!(
        text.contains("crore: stack overflow in a generator"),
        "{text}"
    );
    assert!(
        text.contains("Generator::with_stack_size(bytes, body)"),
        "{text}"
    );
}

#[test]
fn a_wild_access_still_dies_by_sigsegv() {
    let output = in_child("a_wild_access_still_dies_by_sigsegv", || {
        crore::run(|| {
            let wild = crore::spawn(|| {
                // SAFETY: none: there is nothing at 8, the child dies of it.
                unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(1) };
            });
            wild.join().unwrap();
        })
        .unwrap();
    });
    let text = stderr(&output);
    assert_eq!(output.status.signal(), Some(SIGSEGV), "{text}");
    assert!(!text.contains("crore: "), "{text}");
}

#[test]
fn a_plain_thread_beside_a_runtime_keeps_std_s_report() {
    let output = in_child("a_plain_thread_beside_a_runtime_keeps_std_s_report", || {
        crore::run(|| {
            let thread = thread::Builder::new().name("ordinary".into());
            let thread = thread.spawn(|| recurse(0)).unwrap();
            while !thread.is_finished() {
                crore::yield_now();
            }
        })
        .unwrap();
    });
    let text = stderr(&output);
    assert_eq!(output.status.signal(), Some(SIGABRT), "{text}");
    assert!(
        text.contains("'ordinary'") && text.contains("has overflowed its stack"),
        "{text}"
    );
    assert!(!text.contains("crore: "), "{text}");
}

/// What a function of C does that has a large frame and was compiled without checks:
/// nothing is touched on the way down.
fn step_down(bytes: usize) {
    let here = 0_u8;
    let lowest = (&raw const here).addr() - bytes;
    // SAFETY: none: it is in the guard, and the process ends.
    unsafe { std::ptr::with_exposed_provenance_mut::<u8>(lowest).write_volatile(1) };
}

/// A stack of 64 KiB whose guard is stepped into, near its lower end.
#[test]
fn a_large_frame_of_c_meets_the_guard() {
    let line = line!() + 3;
    let output = in_child("a_large_frame_of_c_meets_the_guard", || {
        crore::run(|| {
            let large = crore::spawn(|| step_down(120 << 10));
            let _ = large.join();
        })
        .unwrap();
    });
    reported(&output, "", line, 64 << 10);
}

#[test]
fn a_large_frame_of_c_meets_the_guard_of_a_shared_stack() {
    let line = line!() + 6;
    let output = in_child(
        "a_large_frame_of_c_meets_the_guard_of_a_shared_stack",
        || {
            crore::run(|| {
                // SAFETY: nothing outside points into its frames.
                let _ = unsafe { crore::spawn_shared(|| step_down((1 << 20) + (40 << 10))) }.join();
            })
            .unwrap();
        },
    );
    reported(&output, "", line, 1 << 20);
}

/// Further down than the default.
#[test]
fn a_guard_is_as_large_as_the_runtime_wants() {
    let line = line!() + 8;
    let output = in_child("a_guard_is_as_large_as_the_runtime_wants", || {
        let runtime = crore::Runtime::builder()
            .guard_size(1 << 20)
            .build()
            .unwrap();
        runtime
            .run(|| {
                let large = crore::spawn(|| step_down((64 << 10) + (900 << 10)));
                let _ = large.join();
            })
            .unwrap();
    });
    reported(&output, "", line, 64 << 10);
}
