//! libc's own functions, for everybody who is not in a coroutine.
//!
//! All are looked up once, behind our own definitions (`RTLD_NEXT`), at the
//! first call of any. The pointers start at functions that do the look-up, so
//! a call is one relaxed load and one jump. Where there is no next definition
//! (static linking) the bare system call takes its place.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::mem::transmute;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{
    clockid_t, fd_set, iovec, msghdr, nfds_t, off_t, pollfd, size_t, sockaddr, socklen_t, ssize_t,
    timespec,
};

use crate::hook::poll::KERNEL_SIGSET_BYTES;
use crate::sys::syscall::{Answer, answer_c, answer_int, errno, sys};

macro_rules! real {
    ($(fn $name:ident($($arg:ident: $ty:ty),* $(,)?) -> $ret:ty = $bare:expr;)*) => {
        $(
            /// libc's own.
            ///
            /// # Safety
            ///
            /// - As for the C function.
            #[inline(always)]
            pub(crate) unsafe fn $name($($arg: $ty),*) -> $ret {
                // SAFETY: the slot holds `first`, `bare`, or what the dynamic
                // linker says is the function of this name and type.
                let function: types::$name = unsafe { transmute(slots::$name.load(Ordering::Relaxed)) };
                // SAFETY: forwarded.
                unsafe { function($($arg),*) }
            }
        )*

        #[allow(non_camel_case_types, reason = "named after C's functions")]
        mod types {
            use super::*;
            $(pub(crate) type $name = unsafe extern "C" fn($($ty),*) -> $ret;)*
        }

        #[allow(non_upper_case_globals, reason = "named after C's functions")]
        mod slots {
            use super::*;
            $(pub(crate) static $name: AtomicPtr<c_void> =
                AtomicPtr::new(first::$name as types::$name as *mut c_void);)*
        }

        /// What the slots hold until the first call of any of them.
        mod first {
            use super::*;
            $(#[cold]
            pub(crate) unsafe extern "C" fn $name($($arg: $ty),*) -> $ret {
                look_up_all();
                // SAFETY: forwarded; the slot no longer leads here.
                unsafe { super::$name($($arg),*) }
            })*
        }

        /// The kernel's calls, for where there is no next definition.
        mod bare {
            use super::*;
            $(#[cold]
            pub(crate) unsafe extern "C" fn $name($($arg: $ty),*) -> $ret {
                // SAFETY: forwarded: the same arguments, the kernel's call.
                unsafe { $bare }
            })*
        }

        fn look_up_functions() {
            $(look_up(&slots::$name, stringify!($name), bare::$name as types::$name as *mut c_void);)*
        }
    };
}

/// Looks all of them up, at the first call of one: a look-up takes locks of
/// the dynamic linker, which a signal handler or a forked child must not meet.
/// (std's start-up calls `poll`, before `main` and any other thread.)
#[cold]
fn look_up_all() {
    look_up_functions();
    look_up_variadic();
    #[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
    crate::hook::process::thread_id::look_up();
}

fn look_up(slot: &AtomicPtr<c_void>, name: &str, bare: *mut c_void) {
    let mut with_nul = [0; 32];
    with_nul[..name.len()].copy_from_slice(name.as_bytes());
    let next = CStr::from_bytes_until_nul(&with_nul).map_or(std::ptr::null_mut(), next_definition);
    slot.store(if next.is_null() { bare } else { next }, Ordering::Relaxed);
}

/// The definition of `name` after ours in link order, null if there is none.
#[cfg(not(target_feature = "crt-static"))]
pub(crate) fn next_definition(name: &CStr) -> *mut c_void {
    // SAFETY: a valid name; dlsym calls nothing of ours.
    unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) }
}

#[cfg(target_feature = "crt-static")]
pub(crate) fn next_definition(_: &CStr) -> *mut c_void {
    std::ptr::null_mut()
}

fn long(answer: Answer) -> ssize_t {
    answer_c(answer, errno())
}

fn int(answer: Answer) -> c_int {
    answer_int(answer, errno())
}

real! {
    fn read(fd: c_int, buf: *mut c_void, n: size_t) -> ssize_t = long(sys!(SYS_read, fd, buf, n));
    fn write(fd: c_int, buf: *const c_void, n: size_t) -> ssize_t = long(sys!(SYS_write, fd, buf, n));
    fn readv(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t = long(sys!(SYS_readv, fd, iov, count));
    fn writev(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t = long(sys!(SYS_writev, fd, iov, count));
    fn recv(fd: c_int, buf: *mut c_void, n: size_t, flags: c_int) -> ssize_t =
        long(sys!(SYS_recvfrom, fd, buf, n, flags, 0, 0));
    fn send(fd: c_int, buf: *const c_void, n: size_t, flags: c_int) -> ssize_t =
        long(sys!(SYS_sendto, fd, buf, n, flags, 0, 0));
    fn recvfrom(fd: c_int, buf: *mut c_void, n: size_t, flags: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> ssize_t =
        long(sys!(SYS_recvfrom, fd, buf, n, flags, addr, len));
    fn sendto(fd: c_int, buf: *const c_void, n: size_t, flags: c_int, addr: *const sockaddr, len: socklen_t) -> ssize_t =
        long(sys!(SYS_sendto, fd, buf, n, flags, addr, len));
    fn recvmsg(fd: c_int, msg: *mut msghdr, flags: c_int) -> ssize_t = long(sys!(SYS_recvmsg, fd, msg, flags));
    fn sendmsg(fd: c_int, msg: *const msghdr, flags: c_int) -> ssize_t = long(sys!(SYS_sendmsg, fd, msg, flags));
    fn sendfile(out: c_int, from: c_int, offset: *mut i64, n: size_t) -> ssize_t =
        long(sys!(SYS_sendfile, out, from, offset, n));
    fn splice(from: c_int, from_at: *mut i64, to: c_int, to_at: *mut i64, n: size_t, flags: c_uint) -> ssize_t =
        long(sys!(SYS_splice, from, from_at, to, to_at, n, flags));

    fn accept(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> c_int =
        int(sys!(SYS_accept4, fd, addr, len, 0));
    fn accept4(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t, flags: c_int) -> c_int =
        int(sys!(SYS_accept4, fd, addr, len, flags));
    fn connect(fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int = int(sys!(SYS_connect, fd, addr, len));
    fn socket(family: c_int, kind: c_int, protocol: c_int) -> c_int = int(sys!(SYS_socket, family, kind, protocol));
    fn socketpair(family: c_int, kind: c_int, protocol: c_int, pair: *mut c_int) -> c_int =
        int(sys!(SYS_socketpair, family, kind, protocol, pair));
    fn setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, len: socklen_t) -> c_int =
        int(sys!(SYS_setsockopt, fd, level, name, value, len));
    fn pipe(ends: *mut c_int) -> c_int = int(sys!(SYS_pipe2, ends, 0));
    fn pipe2(ends: *mut c_int, flags: c_int) -> c_int = int(sys!(SYS_pipe2, ends, flags));

    fn poll(fds: *mut pollfd, n: nfds_t, timeout: c_int) -> c_int = {
        let limit = timespec { tv_sec: i64::from(timeout / 1000), tv_nsec: i64::from(timeout % 1000) * 1_000_000 };
        let limit = if timeout < 0 { std::ptr::null() } else { &raw const limit };
        int(sys!(SYS_ppoll, fds, n, limit, 0, 0))
    };
    fn ppoll(fds: *mut pollfd, n: nfds_t, limit: *const timespec, mask: *const libc::sigset_t) -> c_int = {
        // The kernel writes the rest of the time back, C's ppoll does not.
        let mut copy = limit.as_ref().copied();
        let limit = copy.as_mut().map_or(std::ptr::null_mut(), std::ptr::from_mut);
        int(sys!(SYS_ppoll, fds, n, limit, mask, KERNEL_SIGSET_BYTES))
    };

    fn nanosleep(time: *const timespec, left: *mut timespec) -> c_int = int(sys!(SYS_nanosleep, time, left));
    fn clock_nanosleep(clock: clockid_t, flags: c_int, time: *const timespec, left: *mut timespec) -> c_int =
        sys!(SYS_clock_nanosleep, clock, flags, time, left).err().unwrap_or(0);
    fn usleep(micros: c_uint) -> c_int = {
        let time = timespec { tv_sec: i64::from(micros / 1_000_000), tv_nsec: i64::from(micros % 1_000_000) * 1000 };
        int(sys!(SYS_nanosleep, &raw const time, 0))
    };
    fn sleep(seconds: c_uint) -> c_uint = {
        let mut time = timespec { tv_sec: i64::from(seconds), tv_nsec: 0 };
        let time = &raw mut time;
        // Interrupted: the seconds that are left, rounded as libc does.
        if sys!(SYS_nanosleep, time, time).is_ok() { 0 } else { (*time).tv_sec as c_uint }
    };
    fn sched_yield() -> c_int = int(sys!(SYS_sched_yield));

    fn pread(fd: c_int, buf: *const c_void, n: size_t, at: off_t) -> ssize_t = long(sys!(SYS_pread64, fd, buf, n, at));
    fn pread64(fd: c_int, buf: *const c_void, n: size_t, at: off_t) -> ssize_t = long(sys!(SYS_pread64, fd, buf, n, at));
    fn pwrite(fd: c_int, buf: *const c_void, n: size_t, at: off_t) -> ssize_t = long(sys!(SYS_pwrite64, fd, buf, n, at));
    fn pwrite64(fd: c_int, buf: *const c_void, n: size_t, at: off_t) -> ssize_t = long(sys!(SYS_pwrite64, fd, buf, n, at));
    fn preadv(fd: c_int, iov: *const iovec, count: c_int, at: off_t) -> ssize_t = long(sys!(SYS_preadv, fd, iov, count, at, 0));
    fn preadv64(fd: c_int, iov: *const iovec, count: c_int, at: off_t) -> ssize_t = long(sys!(SYS_preadv, fd, iov, count, at, 0));
    fn pwritev(fd: c_int, iov: *const iovec, count: c_int, at: off_t) -> ssize_t = long(sys!(SYS_pwritev, fd, iov, count, at, 0));
    fn pwritev64(fd: c_int, iov: *const iovec, count: c_int, at: off_t) -> ssize_t = long(sys!(SYS_pwritev, fd, iov, count, at, 0));
    fn preadv2(fd: c_int, iov: *const iovec, count: c_int, at: off_t, flags: c_int) -> ssize_t =
        long(sys!(SYS_preadv2, fd, iov, count, at, 0, flags));
    fn preadv64v2(fd: c_int, iov: *const iovec, count: c_int, at: off_t, flags: c_int) -> ssize_t =
        long(sys!(SYS_preadv2, fd, iov, count, at, 0, flags));
    fn pwritev2(fd: c_int, iov: *const iovec, count: c_int, at: off_t, flags: c_int) -> ssize_t =
        long(sys!(SYS_pwritev2, fd, iov, count, at, 0, flags));
    fn pwritev64v2(fd: c_int, iov: *const iovec, count: c_int, at: off_t, flags: c_int) -> ssize_t =
        long(sys!(SYS_pwritev2, fd, iov, count, at, 0, flags));
    fn fsync(fd: c_int) -> c_int = int(sys!(SYS_fsync, fd));
    fn fdatasync(fd: c_int) -> c_int = int(sys!(SYS_fdatasync, fd));
    fn syncfs(fd: c_int) -> c_int = int(sys!(SYS_syncfs, fd));
    fn flock(fd: c_int, operation: c_int) -> c_int = int(sys!(SYS_flock, fd, operation));
    fn lockf(fd: c_int, command: c_int, len: off_t) -> c_int = int(bare_lockf(fd, command, len));
    fn copy_file_range(from: c_int, from_at: *mut i64, to: c_int, to_at: *mut i64, n: size_t, flags: c_uint) -> ssize_t =
        long(sys!(SYS_copy_file_range, from, from_at, to, to_at, n, flags));
    fn recvmmsg(fd: c_int, messages: *mut libc::mmsghdr, count: c_uint, flags: c_int, limit: *mut timespec) -> c_int =
        int(sys!(SYS_recvmmsg, fd, messages, count, flags, limit));
    fn sendmmsg(fd: c_int, messages: *mut libc::mmsghdr, count: c_uint, flags: c_int) -> c_int =
        int(sys!(SYS_sendmmsg, fd, messages, count, flags));

    fn select(n: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, limit: *mut libc::timeval) -> c_int = {
        // Microseconds may be more than a second; what is left goes back.
        let mut time = limit.as_ref().map(|limit| timespec {
            tv_sec: limit.tv_sec + limit.tv_usec / 1_000_000,
            tv_nsec: limit.tv_usec % 1_000_000 * 1000,
        });
        let place = time.as_mut().map_or(std::ptr::null_mut(), std::ptr::from_mut);
        let answer = sys!(SYS_pselect6, n, read, write, except, place, 0);
        if let Some(left) = time {
            (*limit).tv_sec = left.tv_sec;
            (*limit).tv_usec = left.tv_nsec / 1000;
        }
        int(answer)
    };
    fn pselect(n: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, limit: *const timespec, mask: *const libc::sigset_t) -> c_int = {
        // The kernel writes the rest of the time back, C's pselect does not.
        let mut copy = limit.as_ref().copied();
        let limit = copy.as_mut().map_or(std::ptr::null_mut(), std::ptr::from_mut);
        let mask = [mask.expose_provenance(), KERNEL_SIGSET_BYTES];
        int(sys!(SYS_pselect6, n, read, write, except, limit, mask.as_ptr()))
    };
    fn epoll_wait(epoll: c_int, events: *mut libc::epoll_event, most: c_int, timeout: c_int) -> c_int =
        int(sys!(SYS_epoll_pwait, epoll, events, most, timeout, 0, KERNEL_SIGSET_BYTES));
    fn epoll_pwait(epoll: c_int, events: *mut libc::epoll_event, most: c_int, timeout: c_int, mask: *const libc::sigset_t) -> c_int =
        int(sys!(SYS_epoll_pwait, epoll, events, most, timeout, mask, KERNEL_SIGSET_BYTES));
    fn epoll_pwait2(epoll: c_int, events: *mut libc::epoll_event, most: c_int, limit: *const timespec, mask: *const libc::sigset_t) -> c_int =
        int(sys!(SYS_epoll_pwait2, epoll, events, most, limit, mask, KERNEL_SIGSET_BYTES));

    fn waitpid(pid: libc::pid_t, status: *mut c_int, options: c_int) -> libc::pid_t =
        int(sys!(SYS_wait4, pid, status, options, 0));
    fn wait4(pid: libc::pid_t, status: *mut c_int, options: c_int, usage: *mut libc::rusage) -> libc::pid_t =
        int(sys!(SYS_wait4, pid, status, options, usage));
    fn waitid(kind: libc::idtype_t, id: libc::id_t, info: *mut libc::siginfo_t, options: c_int) -> c_int =
        int(sys!(SYS_waitid, kind, id, info, options, 0));

    fn close(fd: c_int) -> c_int = int(sys!(SYS_close, fd));
    fn closefrom(first: c_int) -> () = {
        let _ = sys!(SYS_close_range, first, c_uint::MAX, 0);
    };
    fn dup(fd: c_int) -> c_int = int(sys!(SYS_dup, fd));
    fn dup2(fd: c_int, new: c_int) -> c_int = if fd == new {
        int(sys!(SYS_fcntl, fd, libc::F_GETFD).map(|_| fd as usize))
    } else {
        int(sys!(SYS_dup3, fd, new, 0))
    };
    fn dup3(fd: c_int, new: c_int, flags: c_int) -> c_int = int(sys!(SYS_dup3, fd, new, flags));
    fn close_range(low: c_uint, high: c_uint, flags: c_int) -> c_int =
        int(sys!(SYS_close_range, low, high, flags));
}

/// `lockf` is `fcntl` on the range from the file's position on.
///
/// # Safety
///
/// - None; `unsafe` because it is called where system calls are.
unsafe fn bare_lockf(fd: c_int, command: c_int, len: off_t) -> Answer {
    let (command, kind) = match command {
        libc::F_ULOCK => (libc::F_SETLK, libc::F_UNLCK),
        libc::F_LOCK => (libc::F_SETLKW, libc::F_WRLCK),
        libc::F_TLOCK => (libc::F_SETLK, libc::F_WRLCK),
        libc::F_TEST => (libc::F_GETLK, libc::F_WRLCK),
        _ => return Err(libc::EINVAL),
    };
    // SAFETY: zeros are a valid one.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = kind as i16;
    range.l_whence = libc::SEEK_CUR as i16;
    range.l_len = len;
    // SAFETY: a valid range.
    unsafe { sys!(SYS_fcntl, fd, command, &raw mut range) }?;
    // SAFETY: no preconditions.
    let us = unsafe { libc::getpid() };
    let free = range.l_type == libc::F_UNLCK as i16 || range.l_pid == us;
    if command == libc::F_GETLK && !free {
        return Err(libc::EACCES);
    }
    Ok(0)
}

// Some of C's functions are variadic, so they are called through variadic
// pointers; their last argument is as wide as a pointer at most.
macro_rules! real_variadic {
    ($(fn $name:ident($($arg:ident: $ty:ty),*; $last:ident), $slot:ident = $bare:expr;)*) => {
        $(
            static $slot: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

            /// libc's own.
            ///
            /// # Safety
            ///
            /// - As for the C function.
            pub(crate) unsafe fn $name($($arg: $ty,)* $last: usize) -> c_int {
                type Function = unsafe extern "C" fn($($ty,)* ...) -> c_int;
                let next = $slot.load(Ordering::Relaxed);
                if next.is_null() {
                    // Before the look-up, or nothing was found.
                    // SAFETY: forwarded: the same arguments, the kernel's call.
                    return int(unsafe { $bare });
                }
                // SAFETY: the dynamic linker's function of this name and type.
                let function: Function = unsafe { transmute(next) };
                // SAFETY: forwarded.
                unsafe { function($($arg,)* $last) }
            }
        )*

        fn look_up_variadic() {
            $(look_up(&$slot, stringify!($name), std::ptr::null_mut());)*
        }
    };
}

real_variadic! {
    fn fcntl(fd: c_int, what: c_int; arg), FCNTL = sys!(SYS_fcntl, fd, what, arg);
    fn fcntl64(fd: c_int, what: c_int; arg), FCNTL64 = sys!(SYS_fcntl, fd, what, arg);
    fn ioctl(fd: c_int, what: libc::c_ulong; arg), IOCTL = sys!(SYS_ioctl, fd, what, arg);
    fn open(path: *const c_char, flags: c_int; mode), OPEN = sys!(SYS_openat, libc::AT_FDCWD, path, flags, mode);
    fn openat(dir: c_int, path: *const c_char, flags: c_int; mode), OPENAT = sys!(SYS_openat, dir, path, flags, mode);
}

// Libc's own functions that no system call stands for, looked up when first
// called: where there is no next definition, we define no such function.
#[cfg(not(target_feature = "crt-static"))]
macro_rules! real_only {
    ($(fn $name:ident($($arg:ident: $ty:ty),* $(,)?) -> $ret:ty;)*) => {
        real_only! { extern "C": $(fn $name($($arg: $ty),*) -> $ret;)* }
    };
    (extern $abi:literal: $(fn $name:ident($($arg:ident: $ty:ty),* $(,)?) -> $ret:ty;)*) => {
        $(
            /// libc's own.
            ///
            /// # Safety
            ///
            /// - As for the C function.
            pub(crate) unsafe fn $name($($arg: $ty),*) -> $ret {
                static SLOT: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
                if SLOT.load(Ordering::Relaxed).is_null() {
                    look_up(&SLOT, stringify!($name), std::ptr::null_mut());
                }
                let function = SLOT.load(Ordering::Relaxed);
                assert!(!function.is_null(), concat!("libc has no ", stringify!($name)));
                // SAFETY: the dynamic linker's function of this name and type.
                let function: unsafe extern $abi fn($($ty),*) -> $ret = unsafe { transmute(function) };
                // SAFETY: forwarded.
                unsafe { function($($arg),*) }
            }
        )*
    };
}

#[cfg(not(target_feature = "crt-static"))]
use libc::{addrinfo, group, hostent, passwd};

#[cfg(not(target_feature = "crt-static"))]
real_only! {
    fn pthread_join(thread: libc::pthread_t, value: *mut *mut c_void) -> c_int;
    fn pthread_timedjoin_np(thread: libc::pthread_t, value: *mut *mut c_void, time: *const timespec) -> c_int;
    fn pthread_clockjoin_np(thread: libc::pthread_t, value: *mut *mut c_void, clock: clockid_t, time: *const timespec) -> c_int;
    fn getaddrinfo(node: *const c_char, service: *const c_char, hints: *const addrinfo, out: *mut *mut addrinfo) -> c_int;
    fn getnameinfo(addr: *const sockaddr, len: socklen_t, host: *mut c_char, host_len: socklen_t, service: *mut c_char, service_len: socklen_t, flags: c_int) -> c_int;
    fn gethostbyname(name: *const c_char) -> *mut hostent;
    fn gethostbyname2(name: *const c_char, family: c_int) -> *mut hostent;
    fn gethostbyaddr(addr: *const c_void, len: socklen_t, family: c_int) -> *mut hostent;
    fn gethostbyname_r(name: *const c_char, entry: *mut hostent, buf: *mut c_char, len: size_t, out: *mut *mut hostent, code: *mut c_int) -> c_int;
    fn gethostbyname2_r(name: *const c_char, family: c_int, entry: *mut hostent, buf: *mut c_char, len: size_t, out: *mut *mut hostent, code: *mut c_int) -> c_int;
    fn gethostbyaddr_r(addr: *const c_void, addr_len: socklen_t, family: c_int, entry: *mut hostent, buf: *mut c_char, len: size_t, out: *mut *mut hostent, code: *mut c_int) -> c_int;
    fn getpwnam(name: *const c_char) -> *mut passwd;
    fn getpwuid(id: libc::uid_t) -> *mut passwd;
    fn getgrnam(name: *const c_char) -> *mut group;
    fn getgrgid(id: libc::gid_t) -> *mut group;
    fn getpwnam_r(name: *const c_char, entry: *mut passwd, buf: *mut c_char, len: size_t, out: *mut *mut passwd) -> c_int;
    fn getpwuid_r(id: libc::uid_t, entry: *mut passwd, buf: *mut c_char, len: size_t, out: *mut *mut passwd) -> c_int;
    fn getgrnam_r(name: *const c_char, entry: *mut group, buf: *mut c_char, len: size_t, out: *mut *mut group) -> c_int;
    fn getgrgid_r(id: libc::gid_t, entry: *mut group, buf: *mut c_char, len: size_t, out: *mut *mut group) -> c_int;
}

// Locks of glibc.
#[cfg(all(
    feature = "futex",
    target_env = "gnu",
    not(target_feature = "crt-static")
))]
use libc::{
    pthread_barrier_t, pthread_barrierattr_t, pthread_cond_t, pthread_mutex_t, pthread_rwlock_t,
    sem_t,
};

#[cfg(all(
    feature = "futex",
    target_env = "gnu",
    not(target_feature = "crt-static")
))]
real_only! {
    fn pthread_mutex_lock(mutex: *mut pthread_mutex_t) -> c_int;
    fn pthread_mutex_timedlock(mutex: *mut pthread_mutex_t, time: *const timespec) -> c_int;
    fn pthread_mutex_clocklock(mutex: *mut pthread_mutex_t, clock: clockid_t, time: *const timespec) -> c_int;
    fn pthread_mutex_trylock(mutex: *mut pthread_mutex_t) -> c_int;
    fn pthread_mutex_unlock(mutex: *mut pthread_mutex_t) -> c_int;
    fn pthread_cond_wait(cond: *mut pthread_cond_t, mutex: *mut pthread_mutex_t) -> c_int;
    fn pthread_cond_timedwait(cond: *mut pthread_cond_t, mutex: *mut pthread_mutex_t, time: *const timespec) -> c_int;
    fn pthread_cond_clockwait(cond: *mut pthread_cond_t, mutex: *mut pthread_mutex_t, clock: clockid_t, time: *const timespec) -> c_int;
    fn pthread_cond_signal(cond: *mut pthread_cond_t) -> c_int;
    fn pthread_cond_broadcast(cond: *mut pthread_cond_t) -> c_int;
    fn pthread_rwlock_rdlock(rwlock: *mut pthread_rwlock_t) -> c_int;
    fn pthread_rwlock_timedrdlock(rwlock: *mut pthread_rwlock_t, time: *const timespec) -> c_int;
    fn pthread_rwlock_clockrdlock(rwlock: *mut pthread_rwlock_t, clock: clockid_t, time: *const timespec) -> c_int;
    fn pthread_rwlock_tryrdlock(rwlock: *mut pthread_rwlock_t) -> c_int;
    fn pthread_rwlock_wrlock(rwlock: *mut pthread_rwlock_t) -> c_int;
    fn pthread_rwlock_timedwrlock(rwlock: *mut pthread_rwlock_t, time: *const timespec) -> c_int;
    fn pthread_rwlock_clockwrlock(rwlock: *mut pthread_rwlock_t, clock: clockid_t, time: *const timespec) -> c_int;
    fn pthread_rwlock_trywrlock(rwlock: *mut pthread_rwlock_t) -> c_int;
    fn pthread_rwlock_unlock(rwlock: *mut pthread_rwlock_t) -> c_int;
    fn sem_wait(sem: *mut sem_t) -> c_int;
    fn sem_timedwait(sem: *mut sem_t, time: *const timespec) -> c_int;
    fn sem_clockwait(sem: *mut sem_t, clock: clockid_t, time: *const timespec) -> c_int;
    fn sem_post(sem: *mut sem_t) -> c_int;
    fn pthread_barrier_init(barrier: *mut pthread_barrier_t, attributes: *const pthread_barrierattr_t, count: c_uint) -> c_int;
    fn pthread_barrier_wait(barrier: *mut pthread_barrier_t) -> c_int;
    fn pthread_barrier_destroy(barrier: *mut pthread_barrier_t) -> c_int;
}

#[cfg(all(
    feature = "futex",
    target_env = "gnu",
    not(target_feature = "crt-static")
))]
real_only! {
    extern "C-unwind":
    fn pthread_once(control: *mut libc::pthread_once_t, init: unsafe extern "C-unwind" fn()) -> c_int;
}
