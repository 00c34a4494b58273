//! The promise: a handler may call whatever POSIX's list has, of what is hooked,
//! whatever state of the runtime it has interrupted.
#![cfg(all(feature = "futex", not(target_feature = "crt-static")))]

use std::ffi::c_int;
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::thread::JoinHandleExt;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::handlers::{handle, succeeds};

/// POSIX.1-2024, 2.4.3 Signal Actions; `nanosleep` was there before.
const LIST: &str = "_Exit _exit _Fork abort accept access aio_error aio_return aio_suspend \
    alarm bind cfgetispeed cfgetospeed cfsetispeed cfsetospeed chdir chmod chown \
    clock_gettime close connect creat dup dup2 dup3 execl execle execv execve faccessat \
    fchdir fchmod fchmodat fchown fchownat fcntl fdatasync fexecve ffs fstat fstatat fsync \
    ftruncate futimens getegid geteuid getgid getgroups getpeername getpgrp getpid getppid \
    getsockname getsockopt getuid htonl htons kill killpg link linkat listen longjmp lseek \
    lstat memccpy memchr memcmp memcpy memmove memset mkdir mkdirat mkfifo mkfifoat mknod \
    mknodat nanosleep ntohl ntohs open openat pause pipe pipe2 poll posix_trace_event ppoll \
    pselect pthread_kill pthread_self pthread_sigmask quick_exit raise read readlink readlinkat \
    recv recvfrom recvmsg rename renameat rmdir select sem_post send sendmsg sendto setegid \
    seteuid setgid setpgid setregid setreuid setsid setsockopt setuid shutdown sigaction \
    sigaddset sigdelset sigemptyset sigfillset sigismember siglongjmp signal sigpause \
    sigpending sigprocmask sigqueue sigset sigsuspend sleep sockatmark socket socketpair stat \
    stpcpy symlink symlinkat tcdrain tcflow tcflush tcgetattr tcgetpgrp tcsendbreak \
    tcsetattr tcsetpgrp time timer_getoverrun timer_gettime timer_settime times umask uname \
    unlink unlinkat utime utimensat utimes va_arg wait waitpid write";

unsafe extern "C" {
    safe fn _Fork() -> libc::pid_t;
}

/// Makes a call that need not wait; whether there is one by this name.
fn call(name: &str) -> bool {
    let (end, known) = (END.load(SeqCst), KNOWN.load(SeqCst));
    let (zero, null_file) = (ZERO.load(SeqCst), NULL.load(SeqCst));
    let (mut ends, mut byte, byte_out) = ([-1; 2], [0_u8], b"!".as_ptr().cast());
    let now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut no_limit = libc::timeval {
        tv_sec: 0,
        tv_usec: 0,
    };
    let none = null_mut();
    // SAFETY: the test's own descriptors and live places, or none.
    unsafe {
        match name {
            "_Fork" => match _Fork() {
                0 => libc::_exit(0),
                child => _ = libc::waitpid(child, null_mut(), 0),
            },
            "accept" => _ = libc::accept(-1, null_mut(), null_mut()),
            "close" | "dup" => _ = libc::close(libc::dup(end)),
            "connect" => _ = libc::connect(-1, null(), 0),
            "creat" => _ = libc::close(libc::creat(c"/dev/null".as_ptr(), 0o600)),
            "dup2" => _ = libc::dup2(end, known),
            "dup3" => _ = libc::dup3(end, known, libc::O_CLOEXEC),
            "fcntl" => _ = libc::fcntl(end, libc::F_GETFL),
            "fdatasync" => _ = libc::fdatasync(-1),
            "fsync" => _ = libc::fsync(-1),
            "ftruncate" => _ = libc::ftruncate(-1, 0),
            "nanosleep" => _ = libc::nanosleep(&now, null_mut()),
            "open" => _ = libc::close(libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY)),
            "openat" => {
                let fd = libc::openat(libc::AT_FDCWD, c"/dev/null".as_ptr(), libc::O_RDONLY);
                libc::close(fd);
            }
            "pipe" => _ = libc::pipe(ends.as_mut_ptr()),
            "pipe2" => _ = libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC),
            "poll" => _ = libc::poll(null_mut(), 0, 0),
            "ppoll" => _ = libc::ppoll(null_mut(), 0, &now, null()),
            "pselect" => _ = libc::pselect(0, none, none, none, &now, null()),
            "pthread_kill" => _ = libc::pthread_kill(libc::pthread_self(), 0),
            "pthread_sigmask" | "sigprocmask" => {
                libc::pthread_sigmask(libc::SIG_BLOCK, null(), &mut std::mem::zeroed());
            }
            "raise" => _ = libc::raise(0),
            "read" => _ = libc::read(zero, byte.as_mut_ptr().cast(), 1),
            "recv" => _ = libc::recv(end, byte.as_mut_ptr().cast(), 1, libc::MSG_DONTWAIT),
            "recvfrom" => {
                let place = byte.as_mut_ptr().cast();
                libc::recvfrom(end, place, 1, libc::MSG_DONTWAIT, null_mut(), null_mut());
            }
            "recvmsg" => _ = libc::recvmsg(-1, &mut std::mem::zeroed(), 0),
            "select" => _ = libc::select(0, none, none, none, &mut no_limit),
            "sem_post" => _ = libc::sem_post(SEMAPHORE.load(SeqCst)),
            "send" => _ = libc::send(end, byte_out, 1, libc::MSG_DONTWAIT),
            "sendmsg" => _ = libc::sendmsg(-1, &std::mem::zeroed(), 0),
            "sendto" => _ = libc::sendto(end, byte_out, 1, libc::MSG_DONTWAIT, null(), 0),
            "setsockopt" => {
                let (level, option) = (libc::SOL_SOCKET, libc::SO_SNDTIMEO);
                let (place, len) = (&raw const no_limit, size_of_val(&no_limit) as u32);
                libc::setsockopt(end, level, option, place.cast(), len);
            }
            "shutdown" => _ = libc::shutdown(-1, libc::SHUT_RD),
            "sigaction" => _ = libc::sigaction(libc::SIGUSR2, null(), &mut std::mem::zeroed()),
            "sigpending" => _ = libc::sigpending(&mut std::mem::zeroed()),
            "signal" | "sigset" => _ = libc::signal(libc::SIGUSR2, libc::SIG_IGN),
            "sleep" => _ = libc::sleep(0),
            "socket" => _ = libc::close(libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)),
            "socketpair" => {
                let kind = libc::SOCK_STREAM;
                libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr());
            }
            "tcdrain" => _ = libc::tcdrain(-1),
            "tcsendbreak" => _ = libc::tcsendbreak(-1, 0),
            "tcsetattr" => _ = libc::tcsetattr(-1, libc::TCSANOW, &std::mem::zeroed()),
            "wait" => _ = libc::wait(null_mut()),
            "waitpid" => _ = libc::waitpid(-1, null_mut(), libc::WNOHANG),
            "write" => _ = libc::write(null_file, byte_out, 1),
            _ => return false,
        }
        for fd in ends.into_iter().filter(|&fd| fd >= 0) {
            libc::close(fd);
        }
    }
    true
}

/// What does nothing but wait, or does not come back; and what interrupts all threads
/// by a signal of glibc's: both frames together are too many for std's signal stacks.
const ELSEWHERE: &[&str] = &[
    "setegid",
    "seteuid",
    "setgid",
    "setregid",
    "setreuid",
    "setuid",
    "abort",
    "aio_suspend",
    "longjmp",
    "pause",
    "sigpause",
    "siglongjmp",
    "sigsuspend",
];

/// A socket whose other end nobody reads; one that a coroutine has waited for; files
/// that are always ready.
static END: AtomicI32 = AtomicI32::new(-1);
static KNOWN: AtomicI32 = AtomicI32::new(-1);
static ZERO: AtomicI32 = AtomicI32::new(-1);
static NULL: AtomicI32 = AtomicI32::new(-1);
static SEMAPHORE: AtomicPtr<libc::sem_t> = AtomicPtr::new(null_mut());
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// How many handlers run: some hundred of each call.
const CALLS: usize = 10_000;

/// Names of hooks that POSIX lets handlers call.
fn hooked() -> Vec<&'static str> {
    let table = include_str!("../../src/hook/table.rs");
    let rows = table.split_once("\ntable! {").unwrap().1;
    // Those of simulations are libc's own here.
    let (rows, simulated) = rows.split_once("\n    simulated {").unwrap();
    let rows = [rows, simulated.split_once('}').unwrap().1].concat();
    let lists = rows
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split_once('}'));
    let hooks: Vec<_> = lists
        .flat_map(|(names, _)| names.split_whitespace())
        .collect();
    let list = LIST.split_whitespace();
    list.filter(|name| hooks.contains(name) && !ELSEWHERE.contains(name))
        .collect()
}

static NAMES: std::sync::OnceLock<Vec<&'static str>> = std::sync::OnceLock::new();

extern "C" fn anything(_: c_int) {
    // SAFETY: errno is the thread's.
    unsafe {
        let errno = *libc::__errno_location();
        let names = NAMES.get().unwrap();
        call(names[NEXT.fetch_add(1, SeqCst) % names.len()]);
        *libc::__errno_location() = errno;
    }
}

fn make_semaphore() {
    // SAFETY: leaked, and made before anybody posts; zeros are valid.
    unsafe {
        let semaphore = Box::into_raw(Box::new(std::mem::zeroed()));
        libc::sem_init(semaphore, 0, 0);
        SEMAPHORE.store(semaphore, SeqCst);
    }
}

#[test]
fn every_hooked_call_of_the_list_has_a_call_here() {
    // One of them waits for whatever child there is.
    succeeds("every_hooked_call_of_the_list_has_a_call_here", || {
        make_semaphore();
        let missing: Vec<_> = hooked().into_iter().filter(|name| !call(name)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    });
}

/// A plain thread that wakes coroutines, and one that is interrupted: the worker, or that one.
fn handlers_at_random(flags: c_int) {
    NAMES.set(hooked()).unwrap();
    let open = |path: &str| std::fs::File::options().read(true).write(true).open(path);
    let (end, far) = UnixStream::pair().unwrap();
    END.store(end.into_raw_fd(), SeqCst);
    ZERO.store(open("/dev/zero").unwrap().into_raw_fd(), SeqCst);
    NULL.store(open("/dev/null").unwrap().into_raw_fd(), SeqCst);
    make_semaphore();
    // A number of its own, that nothing else gets.
    // SAFETY: no pointers.
    let known = unsafe { libc::fcntl(END.load(SeqCst), libc::F_DUPFD_CLOEXEC, 900) };
    KNOWN.store(known, SeqCst);
    handle(libc::SIGUSR1, anything, flags);
    static STOP: AtomicBool = AtomicBool::new(false);
    // SAFETY: always fine.
    let us = unsafe { libc::pthread_self() };
    crore::run(move || {
        let _far = far;
        let parked = crore::spawn(|| {
            while !STOP.load(SeqCst) {
                crore::park();
            }
        });
        let one = parked.coroutine();
        let waker = std::thread::spawn(move || {
            while !STOP.load(SeqCst) {
                one.unpark();
                std::thread::sleep(Duration::from_micros(5));
            }
        });
        let other = waker.as_pthread_t();
        let storm = std::thread::spawn(move || {
            while !STOP.load(SeqCst) {
                std::thread::sleep(Duration::from_micros(30));
                // SAFETY: both live until they have joined this one.
                unsafe {
                    libc::pthread_kill(us, libc::SIGUSR1);
                    libc::pthread_kill(other, libc::SIGUSR1);
                }
            }
        });
        let watcher = crore::spawn(move || {
            let mut ended = 0;
            while !STOP.load(SeqCst) {
                // SAFETY: a place for a byte.
                let read = unsafe { libc::read(known, [0_u8].as_mut_ptr().cast(), 1) };
                assert_eq!(read, -1, "nobody writes there");
                assert_eq!(last_error(), Some(libc::EBADF));
                ended += 1;
            }
            ended
        });
        let work = || {
            while NEXT.load(SeqCst) < CALLS {
                let (mut near, mut far) = UnixStream::pair().unwrap();
                let echo = crore::spawn(move || {
                    use std::io::{Read, Write};
                    let mut byte = [0];
                    far.read_exact(&mut byte).unwrap();
                    far.write_all(&byte).unwrap();
                });
                {
                    use std::io::{Read, Write};
                    near.write_all(b"x").unwrap();
                    near.read_exact(&mut [0]).unwrap();
                }
                echo.join().unwrap();
                crore::sleep(Duration::from_micros(50));
                // SAFETY: nothing outside points into its frames.
                unsafe { crore::spawn_shared(crore::yield_now) }
                    .join()
                    .unwrap();
            }
        };
        let all: Vec<_> = (0..8).map(|_| crore::spawn(work)).collect();
        all.into_iter().for_each(|each| each.join().unwrap());
        STOP.store(true, SeqCst);
        storm.join().unwrap();
        waker.join().unwrap();
        // SAFETY: the watcher's, which ends with it.
        unsafe { libc::close(known) };
        assert!(
            watcher.join().unwrap() > 1,
            "no handler has ended the number"
        );
        parked.coroutine().unpark();
        parked.join().unwrap();
    })
    .unwrap();
}

fn last_error() -> Option<c_int> {
    std::io::Error::last_os_error().raw_os_error()
}

#[test]
fn anything_at_random_on_the_signal_stack() {
    succeeds("anything_at_random_on_the_signal_stack", || {
        handlers_at_random(libc::SA_ONSTACK | libc::SA_RESTART);
    });
}

#[test]
fn anything_at_random_on_the_stack_that_is_interrupted() {
    let name = "anything_at_random_on_the_stack_that_is_interrupted";
    succeeds(name, || handlers_at_random(libc::SA_RESTART));
}
