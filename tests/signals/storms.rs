//! The promise: handlers of every kind, as often as they come, on whichever thread, leave
//! coroutines of every kind as they are.
#![cfg(all(feature = "futex", not(target_feature = "crt-static")))]

use std::ffi::{c_int, c_void};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::os::unix::thread::JoinHandleExt;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::common::{Kind, in_child, kinds, stderr, succeeds};
use crate::handlers::handle;

static RUN: AtomicU32 = AtomicU32::new(0);
/// Handlers that found a coroutine, which they are not.
static WRONG: AtomicU32 = AtomicU32::new(0);

/// Looks around, and makes calls that may park where a coroutine runs.
fn look_around() {
    // SAFETY: errno is the thread's; no places.
    unsafe {
        let errno = *libc::__errno_location();
        WRONG.fetch_add(u32::from(crore::try_current().is_some()), SeqCst);
        let moment = std::mem::zeroed();
        libc::nanosleep(&moment, null_mut());
        libc::poll(null_mut(), 0, 0);
        *libc::__errno_location() = errno;
    }
    RUN.fetch_add(1, SeqCst);
}

extern "C" fn simple(_: c_int) {
    look_around();
}

/// Handles the next one, and no more: it is installed again.
extern "C" fn once(signal: c_int) {
    look_around();
    handle(signal, once, libc::SA_RESETHAND | libc::SA_ONSTACK);
}

/// Sends this thread its own signal again, three times.
extern "C" fn again(signal: c_int) {
    static DEPTH: AtomicU32 = AtomicU32::new(0);
    if DEPTH.fetch_add(1, SeqCst) < 3 {
        // SAFETY: a handler is there.
        unsafe { libc::raise(signal) };
    }
    look_around();
    DEPTH.fetch_sub(1, SeqCst);
}

/// Sends this thread the other signal, whose handler interrupts this one.
extern "C" fn nested(_: c_int) {
    // SAFETY: a handler is there.
    unsafe { libc::raise(libc::SIGUSR2) };
    look_around();
}

/// Changes what is to be done next time, and back.
extern "C" fn changing(signal: c_int) {
    handle(signal, simple, libc::SA_ONSTACK);
    handle(signal, changing, libc::SA_RESTART);
    look_around();
}

/// Talks, until enough handlers have run; raises a signal meanwhile, if it is not 0.
fn echo(kind: Kind, enough: u32, signal: c_int) {
    while RUN.load(SeqCst) < enough {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let other = kind.spawn(move || {
            let mut word = [0; 3];
            far.read_exact(&mut word).unwrap();
            if signal != 0 {
                // SAFETY: a handler is there.
                unsafe { libc::raise(signal) };
            }
            crore::yield_now();
            far.write_all(&word).unwrap();
        });
        near.write_all(b"abc").unwrap();
        let mut word = [0; 3];
        near.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"abc");
        other.join().unwrap();
        assert!(crore::try_current().is_some());
    }
}

/// Coroutines of all kinds talk, and raise a signal.
fn raised(handler: extern "C" fn(c_int), flags: c_int) {
    handle(libc::SIGUSR1, handler, flags);
    talk(libc::SIGUSR1);
}

fn talk(signal: c_int) {
    crore::run(move || {
        for (nth, kind) in kinds().enumerate() {
            let enough = 300 * (nth as u32 + 1);
            let all: Vec<_> = (0..4)
                .map(|_| kind.spawn(move || echo(kind, enough, signal)))
                .collect();
            all.into_iter().for_each(|each| each.join().unwrap());
        }
    })
    .unwrap();
    assert_eq!(WRONG.load(SeqCst), 0);
}

/// As many signals as a thread can send to this one, while coroutines of all kinds talk.
fn storm(handler: extern "C" fn(c_int), flags: c_int) {
    static STOP: AtomicBool = AtomicBool::new(false);
    handle(libc::SIGUSR1, handler, flags);
    handle(libc::SIGUSR2, simple, flags);
    // SAFETY: always fine.
    let us = unsafe { libc::pthread_self() };
    let sender = std::thread::spawn(move || {
        while !STOP.load(SeqCst) {
            std::thread::sleep(Duration::from_micros(20));
            // SAFETY: that thread joins this one.
            unsafe { libc::pthread_kill(us, libc::SIGUSR1) };
        }
    });
    talk(0);
    STOP.store(true, SeqCst);
    sender.join().unwrap();
}

macro_rules! storms {
    ($($name:ident: $storm:ident, $handler:expr, $flags:expr;)*) => {$(
        #[test]
        fn $name() {
            succeeds(stringify!($name), || $storm($handler, $flags));
        }
    )*};
}

storms! {
    handlers_that_interrupt_calls: storm, simple, 0;
    handlers_on_the_signal_stack_that_interrupt_calls: storm, simple, libc::SA_ONSTACK;
    handlers_that_interrupt_themselves: raised, again, libc::SA_NODEFER;
    handlers_that_interrupt_themselves_on_the_signal_stack: raised, again, libc::SA_NODEFER | libc::SA_ONSTACK;
    handlers_that_are_reset: raised, once, libc::SA_RESETHAND;
    handlers_that_are_interrupted: storm, nested, 0;
    handlers_that_are_interrupted_on_the_signal_stack: storm, nested, libc::SA_ONSTACK;
    handlers_that_change_what_is_installed: storm, changing, libc::SA_RESTART;
}

fn every(which: c_int, micros: libc::suseconds_t) {
    let interval = libc::timeval {
        tv_sec: 0,
        tv_usec: micros,
    };
    let times = libc::itimerval {
        it_interval: interval,
        it_value: interval,
    };
    // SAFETY: live times.
    let set = unsafe { libc::setitimer(which as _, &times, null_mut()) };
    assert_eq!(set, 0);
}

/// What a profiler does: it looks at the stack that it has interrupted, by its registers.
extern "C" fn sample(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    assert!(!context.is_null());
    look_around();
}

#[test]
fn a_profiler_samples_coroutines_of_all_kinds() {
    succeeds("a_profiler_samples_coroutines_of_all_kinds", || {
        // SAFETY: a handler that does what handlers may; zeros are valid.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = sample as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
            assert_eq!(libc::sigaction(libc::SIGPROF, &action, null_mut()), 0);
        }
        every(libc::ITIMER_PROF as c_int, 1_000);
        crore::run(|| {
            for (nth, kind) in kinds().enumerate() {
                echo(kind, 100 * (nth as u32 + 1), 0);
            }
        })
        .unwrap();
        every(libc::ITIMER_PROF as c_int, 0);
        assert_eq!(WRONG.load(SeqCst), 0);
    });
}

#[test]
fn a_process_ends_well_amid_signals() {
    let output = in_child("a_process_ends_well_amid_signals", || {
        handle(libc::SIGALRM, simple, libc::SA_RESTART);
        for turn in 0..20 {
            // SAFETY: the child is a process like any other.
            let child = unsafe { libc::fork() };
            if child == 0 {
                every(libc::ITIMER_REAL as c_int, 500);
                crore::run(|| {
                    crore::spawn(crore::yield_now).join().unwrap();
                    std::process::exit(7);
                })
                .unwrap();
            }
            let mut status = 0;
            // SAFETY: our own child, a valid place.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            let ended = libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7;
            assert!(ended, "{status:#x}, turn {turn}");
        }
    });
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn programs_are_executed_amid_signals() {
    succeeds("programs_are_executed_amid_signals", || {
        handle(libc::SIGALRM, simple, libc::SA_RESTART);
        every(libc::ITIMER_REAL as c_int, 1_000);
        crore::run(|| {
            let all: Vec<_> = (0..10)
                .map(|_| {
                    crore::spawn(|| {
                        let done = std::process::Command::new("true").status();
                        assert!(done.unwrap().success());
                    })
                })
                .collect();
            all.into_iter().for_each(|each| each.join().unwrap());
        })
        .unwrap();
        every(libc::ITIMER_REAL as c_int, 0);
        assert_eq!(WRONG.load(SeqCst), 0);
    });
}

#[test]
fn an_abort_runs_its_handler_and_ends_the_process() {
    extern "C" fn last_words(_: c_int) {
        // SAFETY: bytes that live.
        unsafe { libc::write(2, b"last words\n".as_ptr().cast(), 11) };
    }
    let output = in_child("an_abort_runs_its_handler_and_ends_the_process", || {
        handle(libc::SIGABRT, last_words, 0);
        // SAFETY: ends the process.
        crore::run(|| unsafe { libc::abort() }).unwrap();
    });
    assert_eq!(output.status.signal(), Some(libc::SIGABRT));
    assert!(stderr(&output).contains("last words"));
}

#[test]
fn a_coroutine_changes_the_signal_stack() {
    static AT_LAST: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn note(_: c_int) {
        let here = 0_u8;
        AT_LAST.store((&raw const here).addr(), SeqCst);
        look_around();
    }
    succeeds("a_coroutine_changes_the_signal_stack", || {
        handle(libc::SIGUSR1, note, libc::SA_ONSTACK);
        crore::run(|| {
            for kind in kinds() {
                let work = move || {
                    let memory = Box::leak(vec![0_u8; 1 << 17].into_boxed_slice());
                    let stack = libc::stack_t {
                        ss_sp: memory.as_mut_ptr().cast(),
                        ss_flags: 0,
                        ss_size: memory.len(),
                    };
                    // SAFETY: leaked memory; a handler is there.
                    unsafe {
                        assert_eq!(libc::sigaltstack(&stack, null_mut()), 0);
                        libc::raise(libc::SIGUSR1);
                    }
                    assert!(
                        memory
                            .as_ptr_range()
                            .contains(&(AT_LAST.load(SeqCst) as *const u8))
                    );
                    crore::yield_now();
                    assert!(crore::try_current().is_some());
                };
                kind.spawn(work).join().unwrap();
            }
        })
        .unwrap();
        assert_eq!(WRONG.load(SeqCst), 0);
        // SAFETY: a handler is there.
        unsafe { libc::raise(libc::SIGUSR1) };
    });
}

/// Threads of the runtime's, of the program's that use nothing of it, and workers.
#[test]
fn handlers_run_on_all_threads() {
    succeeds("handlers_run_on_all_threads", || {
        handle(libc::SIGUSR1, simple, 0);
        let runtime = crore::Runtime::builder().workers(2).build().unwrap();
        let stranger = std::thread::spawn(std::thread::park);
        let stranger_id = stranger.as_pthread_t();
        runtime
            .run(move || {
                let helper =
                    crore::spawn_blocking(|| std::thread::sleep(Duration::from_millis(50)));
                // Each thread of the process.
                for _ in 0..20 {
                    for task in std::fs::read_dir("/proc/self/task").unwrap() {
                        let thread = task.unwrap().file_name().into_string().unwrap();
                        let thread: c_int = thread.parse().unwrap();
                        // SAFETY: no pointers.
                        unsafe {
                            libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGUSR1)
                        };
                    }
                    crore::sleep(Duration::from_micros(100));
                }
                helper.join().unwrap();
                // SAFETY: it parks until it is told.
                unsafe { libc::pthread_kill(stranger_id, libc::SIGUSR1) };
            })
            .unwrap();
        stranger.thread().unpark();
        stranger.join().unwrap();
        assert!(RUN.load(SeqCst) > 20);
        assert_eq!(WRONG.load(SeqCst), 0);
    });
}

/// The runtime's own handler comes first, and hands on.
#[test]
fn a_handler_that_was_there_before_is_no_coroutine_either() {
    let name = "a_handler_that_was_there_before_is_no_coroutine_either";
    succeeds(name, || {
        for flags in [0, libc::SA_ONSTACK, libc::SA_NODEFER, libc::SA_SIGINFO] {
            handle(libc::SIGUSR1, simple, flags);
        }
        crore::run(|| {
            let waiter = crore::spawn(|| crore::signal::wait(&[libc::SIGUSR1]).unwrap());
            crore::yield_now();
            for _ in 0..3 {
                // SAFETY: a handler is there.
                unsafe { libc::raise(libc::SIGUSR1) };
            }
            assert_eq!(waiter.join().unwrap(), libc::SIGUSR1);
        })
        .unwrap();
        assert_eq!((RUN.load(SeqCst), WRONG.load(SeqCst)), (3, 0));
    });
}

#[test]
fn a_paused_coroutine_waits_for_a_handler_and_others_run() {
    succeeds(
        "a_paused_coroutine_waits_for_a_handler_and_others_run",
        || {
            handle(libc::SIGUSR1, simple, 0);
            let waits: [fn() -> c_int; 2] = [
                // SAFETY: no arguments.
                || unsafe { libc::pause() },
                // SAFETY: a live mask.
                || unsafe { libc::sigsuspend(&std::mem::zeroed()) },
            ];
            for (wait, kind) in waits
                .iter()
                .flat_map(|&wait| kinds().map(move |kind| (wait, kind)))
            {
                let ran = RUN.load(SeqCst);
                crore::run(move || {
                    let paused = kind.spawn(move || {
                        let said = (wait(), std::io::Error::last_os_error().raw_os_error());
                        assert_eq!(said, (-1, Some(libc::EINTR)));
                    });
                    for _ in 0..3 {
                        crore::sleep(Duration::from_millis(1));
                        assert!(!paused.is_finished());
                    }
                    // SAFETY: a handler is there.
                    unsafe { libc::raise(libc::SIGUSR1) };
                    paused.join().unwrap();
                    // And one that nobody ends but a cancellation.
                    let paused = crore::spawn(move || {
                        (wait(), std::io::Error::last_os_error().raw_os_error())
                    });
                    crore::yield_now();
                    paused.cancel();
                    assert_eq!(paused.join().unwrap(), (-1, Some(libc::ECANCELED)));
                })
                .unwrap();
                assert_eq!(RUN.load(SeqCst), ran + 1);
            }
        },
    );
}
