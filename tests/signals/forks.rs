//! The promise: a handler may fork, whatever it has interrupted, and go on in both
//! processes: the child is a plain process, the parent's coroutine still is one.
#![cfg(all(feature = "hook", not(target_feature = "crt-static")))]

use std::ffi::c_int;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::common::{kinds, succeeds};
use crate::handlers::handle;

unsafe extern "C" {
    safe fn _Fork() -> libc::pid_t;
    safe fn fork() -> libc::pid_t;
    safe fn vfork() -> libc::pid_t;
}

const FORKS: [extern "C" fn() -> libc::pid_t; 3] = [fork_it, _fork_it, vfork_it];
extern "C" fn fork_it() -> libc::pid_t {
    fork()
}
extern "C" fn _fork_it() -> libc::pid_t {
    _Fork()
}
extern "C" fn vfork_it() -> libc::pid_t {
    vfork()
}

static WHICH: AtomicUsize = AtomicUsize::new(0);
static CHILD: AtomicI32 = AtomicI32::new(-1);

/// Forks, and makes hooked calls in the child.
extern "C" fn fork_here(_: c_int) {
    let child = FORKS[WHICH.load(SeqCst)]();
    CHILD.store(child, SeqCst);
    if child == 0 {
        calls_work(1);
    }
}

/// Ends the child with this code if one of its calls does not work.
fn calls_work(otherwise: c_int) {
    let (mut ends, mut byte) = ([0; 2], [0_u8]);
    // SAFETY: live places of the sizes that are said; the process ends by `_exit`.
    unsafe {
        let moment = libc::timespec {
            tv_sec: 0,
            tv_nsec: 1_000_000,
        };
        let fine = libc::pipe(ends.as_mut_ptr()) == 0
            && libc::write(ends[1], b"x".as_ptr().cast(), 1) == 1
            && libc::read(ends[0], byte.as_mut_ptr().cast(), 1) == 1
            && libc::close(ends[0]) == 0
            && libc::close(ends[1]) == 0
            && libc::nanosleep(&moment, std::ptr::null_mut()) == 0
            && byte == *b"x";
        if !fine || crore::try_current().is_some() {
            libc::_exit(otherwise);
        }
    }
}

/// In the child: a process like any other, with a runtime if it wants one.
fn in_the_child() -> ! {
    calls_work(2);
    let sum = crore::run(|| {
        (0..3)
            .map(|i| crore::spawn(move || i).join().unwrap())
            .sum::<i32>()
    });
    let code = if sum.ok() == Some(3) { 42 } else { 3 };
    // SAFETY: ends the child.
    unsafe { libc::_exit(code) }
}

fn forks_and_goes_on() {
    let (mut near, mut far) = UnixStream::pair().unwrap();
    let echo = crore::spawn(move || {
        let mut byte = [0];
        far.read_exact(&mut byte).unwrap();
        far.write_all(&byte).unwrap();
    });
    crore::yield_now();
    // SAFETY: a handler is there.
    unsafe { libc::raise(libc::SIGUSR1) };
    let child = CHILD.swap(-1, SeqCst);
    if child == 0 {
        in_the_child();
    }
    // The echo waits where only a coroutine lets it answer.
    near.write_all(b"y").unwrap();
    near.read_exact(&mut [0]).unwrap();
    echo.join().unwrap();
    let mut status = 0;
    // SAFETY: our own child, a valid place.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert!(libc::WIFEXITED(status), "{status:#x}");
    assert_eq!(libc::WEXITSTATUS(status), 42);
}

fn a_handler_forks(flags: c_int, which: usize) {
    WHICH.store(which, SeqCst);
    handle(libc::SIGUSR1, fork_here, flags);
    crore::run(move || {
        for kind in kinds() {
            for _ in 0..3 {
                kind.spawn(forks_and_goes_on).join().unwrap();
            }
            crore::sleep(Duration::from_micros(100));
        }
    })
    .unwrap();
}

macro_rules! forks {
    ($($name:ident: $flags:expr, $which:expr;)*) => {$(
        #[test]
        fn $name() {
            succeeds(stringify!($name), || a_handler_forks($flags, $which));
        }
    )*};
}

forks! {
    a_handler_forks_by_fork: 0, 0;
    a_handler_forks_by_fork_on_the_signal_stack: libc::SA_ONSTACK, 0;
    a_handler_forks_by_underscored_fork: 0, 1;
    a_handler_forks_by_underscored_fork_on_the_signal_stack: libc::SA_ONSTACK, 1;
    a_handler_forks_by_vfork: 0, 2;
}
