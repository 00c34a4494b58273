//! What passes the hooks is found and named.

use std::arch::asm;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crore::sim::{self, Escapes, Report, Sim};

use crate::common::in_child;

/// A system call that no library makes.
#[inline(always)]
fn call(number: i64, a: usize, b: usize, c: usize) -> isize {
    let result;
    // SAFETY: the callers' calls write to places of theirs.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") 0, lateout("rcx") _, lateout("r11") _);
    }
    result
}

#[inline(never)]
fn reads_the_clock_itself() {
    let mut time = [0_u64; 2];
    let place = time.as_mut_ptr().expose_provenance();
    let clock = libc::CLOCK_REALTIME as usize;
    assert_eq!(call(libc::SYS_clock_gettime, clock, place, 0), 0);
    // Today, and not the simulation's day.
    assert!(time[0] > 1_740_000_000, "{time:?}");
}

#[inline(never)]
fn draws_itself() {
    let mut bytes = [0_u8; 16];
    let place = bytes.as_mut_ptr().expose_provenance();
    assert_eq!(call(libc::SYS_getrandom, place, 16, 0), 16);
    assert_ne!(bytes, [0; 16]);
}

#[inline(never)]
fn reads_itself() {
    let mut bytes = [0_u8; 16];
    let place = bytes.as_mut_ptr().expose_provenance();
    let read = |path| {
        let file = std::fs::File::open(path).unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&file) as usize;
        assert_eq!(call(libc::SYS_read, fd, place, 16), 16);
    };
    read("/dev/zero");
    // What is in a file is the kernel's, however it is read.
    read("/proc/self/stat");
}

/// The calls that were found, and their counts.
fn found(report: &Report) -> Vec<(&'static str, u64)> {
    let all = report.escapes().iter();
    all.map(|one| (one.call(), one.count())).collect()
}

#[test]
fn system_calls_of_its_own_are_named_with_their_place() {
    let run = || {
        Sim::new(1)
            .trace(true)
            .client("one", || {
                for _ in 0..3 {
                    reads_the_clock_itself();
                }
                thread::spawn(draws_itself).join().unwrap();
                reads_itself();
            })
            .client("other", || {
                thread::sleep(Duration::from_secs(1));
                reads_the_clock_itself();
            })
            .run()
    };
    let report = run();
    let all = report.escapes();
    let expected = [
        ("clock_gettime", 3, "reads_the_clock_itself", "one"),
        ("getrandom", 1, "draws_itself", "one"),
        ("read", 1, "reads_itself", "one"),
        ("clock_gettime", 1, "reads_the_clock_itself", "other"),
    ];
    assert_eq!(all.len(), expected.len(), "{all:#?}");
    for (one, (call, count, function, node)) in all.iter().zip(expected) {
        assert_eq!((one.call(), one.count()), (call, count), "{one}");
        assert_eq!(one.node(), Some(node), "{one}");
        assert!(one.to_string().contains(function), "{one}");
    }
    assert!(all[3].first() >= Duration::from_secs(1));
    let lines = report.trace().iter();
    let lines: Vec<_> = lines.filter(|line| line.contains("passes")).collect();
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(
        lines[1].ends_with("getrandom (318) passes the hooks"),
        "{lines:#?}"
    );
}

#[test]
fn threads_and_clocks_of_the_kernels_are_named() {
    unsafe extern "C" {
        fn timerfd_create(clock: i32, flags: i32) -> i32;
    }
    static RAN: AtomicBool = AtomicBool::new(false);
    extern "C" fn foreign(_: *mut libc::c_void) -> i32 {
        RAN.store(true, Ordering::Release);
        7
    }
    let report = Sim::new(1)
        .client("one", || {
            let mut stack = vec![0_u8; 64 << 10];
            let top = stack.as_mut_ptr_range().end.map_addr(|top| top & !15);
            // SAFETY: a stack that outlives what runs there, which uses nothing of libc's.
            let status = unsafe {
                assert!(timerfd_create(libc::CLOCK_MONOTONIC, 0) >= 0);
                let flags = libc::CLONE_VM | libc::SIGCHLD;
                let child = libc::clone(foreign, top.cast(), flags, std::ptr::null_mut());
                let mut status = 0_i32;
                let place = (&raw mut status).expose_provenance();
                assert_eq!(
                    call(libc::SYS_wait4, child as usize, place, 0),
                    child as isize
                );
                status
            };
            assert_eq!(libc::WEXITSTATUS(status), 7);
            assert!(RAN.load(Ordering::Acquire));
        })
        .run();
    let all = found(&report);
    let expected = [("timerfd_create", 1), ("clone", 1), ("wait4", 1)];
    assert_eq!(all, expected);
}

#[test]
fn who_denies_escapes_fails_with_the_place() {
    let run = || {
        let sim = Sim::new(1).escapes(Escapes::Denied);
        sim.client("one", draws_itself).run();
    };
    let said = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
    let said = said.downcast::<String>().unwrap();
    assert!(
        said.contains("getrandom") && said.contains("draws_itself"),
        "{said}"
    );
    let ignored = Sim::new(1).escapes(Escapes::Ignored);
    let report = ignored.client("one", draws_itself).run();
    assert_eq!(found(&report), []);
    let quiet = Sim::new(1).escapes(Escapes::Denied);
    quiet
        .client("one", || thread::sleep(Duration::from_secs(1)))
        .run();
}

/// Each seed is a process of its own, and they all escape at the same place.
#[test]
fn seeds_that_escape_say_where_once() {
    let output = in_child("escapes::seeds_that_escape_say_where_once", || {
        sim::check(0..6, |sim| {
            sim.client("one", draws_itself).run();
        });
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(
        said.matches("getrandom (318) passed the hooks").count(),
        1,
        "{said}"
    );
    assert!(said.contains("escapes::draws_itself"), "{said}");
}

#[test]
fn a_seed_that_escapes_fails_if_that_is_denied() {
    let check = || {
        sim::check(0..4, |sim| {
            sim.escapes(Escapes::Denied)
                .client("one", || {
                    if sim::random(2) == 0 {
                        draws_itself();
                    }
                })
                .run();
        });
    };
    let said = catch_unwind(AssertUnwindSafe(check)).unwrap_err();
    let said = said.downcast::<String>().unwrap();
    assert!(said.contains("getrandom"), "{said}");
}

/// What a thread's calls do does not change because they are looked at.
#[test]
fn calls_that_pass_do_what_they_do() {
    extern "C" fn note(_: i32) {
        // A call in a handler, which returns by another.
        reads_the_clock_itself();
    }
    let report = Sim::new(1)
        .client("one", || {
            // SAFETY: sets and actions of ours; a handler that makes a call.
            unsafe {
                let mut all: libc::sigset_t = std::mem::zeroed();
                libc::sigfillset(&raw mut all);
                let mut before: libc::sigset_t = std::mem::zeroed();
                let (new, old) = (&raw const all, &raw mut before);
                let args = [libc::SIG_SETMASK as usize, new.addr(), old.addr(), 8];
                let masks = |args: [usize; 4]| {
                    let result: isize;
                    asm!("syscall", inlateout("rax") libc::SYS_rt_sigprocmask as isize => result,
                        in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
                        in("r10") args[3], lateout("rcx") _, lateout("r11") _);
                    assert_eq!(result, 0);
                };
                masks(args);
                draws_itself();
                masks([args[0], old.addr(), 0, 8]);
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = note as *const () as usize;
                libc::sigfillset(&raw mut action.sa_mask);
                assert_eq!(
                    libc::sigaction(libc::SIGUSR2, &action, std::ptr::null_mut()),
                    0
                );
                libc::raise(libc::SIGUSR2);
                // A child of its own, and one on this stack.
                for number in [libc::SYS_fork, libc::SYS_vfork] {
                    let child = call(number, 0, 0, 0);
                    if child == 0 {
                        call(libc::SYS_exit_group, 7, 0, 0);
                    }
                    let mut status = 0_i32;
                    let place = (&raw mut status).expose_provenance();
                    assert_eq!(call(libc::SYS_wait4, child as usize, place, 0), child);
                    assert_eq!(libc::WEXITSTATUS(status), 7);
                }
            }
        })
        .run();
    let all = found(&report);
    let names: Vec<_> = all.iter().map(|(call, _)| *call).collect();
    assert!(
        names.contains(&"vfork") && names.contains(&"wait4"),
        "{names:?}"
    );
}
