//! The second names of hooked functions, which C programs are compiled to call:
//! with 64-bit offsets, with flags or without, as old as they are. Each says in a
//! coroutine what it says on a thread.

use std::ffi::{CString, c_char, c_int, c_void};
use std::fs;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::ptr::{null, null_mut};

use crate::common::in_child;
use crate::hook_common::{On, said, same};

unsafe extern "C" {
    fn lockf64(fd: c_int, command: c_int, len: i64) -> c_int;
    fn fcntl64(fd: c_int, command: c_int, ...) -> c_int;
    fn preadv64v2(fd: c_int, iov: *const libc::iovec, n: c_int, at: i64, flags: c_int) -> isize;
    fn pwritev64v2(fd: c_int, iov: *const libc::iovec, n: c_int, at: i64, flags: c_int) -> isize;
    fn __poll(fds: *mut libc::pollfd, n: libc::nfds_t, timeout: c_int) -> c_int;
    fn wait3(status: *mut c_int, options: c_int, usage: *mut libc::rusage) -> libc::pid_t;
    fn closefrom(first: c_int);
}

/// A file that is gone when it is closed.
fn made(name: &CString) -> OwnedFd {
    // SAFETY: a path; a fresh descriptor.
    unsafe {
        let writes = libc::creat64(name.as_ptr(), 0o600);
        assert_eq!(libc::close(writes), 0);
        let fd = libc::openat64(libc::AT_FDCWD, name.as_ptr(), libc::O_RDWR);
        assert_eq!(libc::unlink(name.as_ptr()), 0);
        OwnedFd::from_raw_fd(fd)
    }
}

fn iov(bytes: &mut [u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    }
}

#[test]
fn files_with_64_bit_offsets() {
    same(|on| {
        let name = format!("crore-names-{}-{on:?}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let file = made(&CString::new(path.to_str().unwrap()).unwrap());
        let fd = file.as_raw_fd();
        let (mut near, far) = UnixStream::pair().unwrap();
        let mut from = *b"hello, there";
        let mut to = [0; 12];
        let mut at = 1;
        // SAFETY: buffers of their lengths, a place for the offset.
        let out = unsafe {
            [
                said(libc::pwritev64(fd, &iov(&mut from), 1, 0)),
                said(pwritev64v2(fd, &iov(&mut from[..5]), 1, 7, 0)),
                said(libc::preadv64(fd, &iov(&mut to), 1, 0)),
                said(preadv64v2(fd, &iov(&mut to[..2]), 1, 7, 0)),
                said(libc::sendfile64(far.as_raw_fd(), fd, &mut at, 4)),
                said(lockf64(fd, libc::F_LOCK, 0) as isize),
                said(lockf64(fd, libc::F_ULOCK, 0) as isize),
                said(fcntl64(fd, libc::F_GETFD) as isize),
            ]
        };
        near.write_all(b"x").unwrap();
        assert!(fs::metadata(path).is_err());
        (out, to, at)
    });
}

/// A child that ends when its standard input does.
fn child() -> std::process::Child {
    let mut command = Command::new("sh");
    command.args(["-c", "read x; exit 3"]);
    command.stdin(Stdio::piped()).spawn().unwrap()
}

/// In a process of its own: it may be any child that is waited for.
#[test]
#[expect(clippy::zombie_processes, reason = "`wait3` waits for it")]
fn any_child_by_its_oldest_name() {
    let output = in_child("any_child_by_its_oldest_name", || {
        same(|on: On| {
            let mut child = child();
            let (pid, input) = (child.id() as i32, child.stdin.take());
            let waits = on.go(move || {
                let mut status = 0;
                // SAFETY: a place.
                let found = unsafe { wait3(&mut status, 0, null_mut()) };
                (found == pid, libc::WEXITSTATUS(status))
            });
            drop(input);
            waits.join()
        });
    });
    assert!(output.status.success(), "{output:?}");
}

/// In a process of its own: it closes all that is open.
#[test]
fn all_from_a_number_on_are_closed_with_their_waiters() {
    let output = in_child("all_from_a_number_on_are_closed_with_their_waiters", || {
        crore::run(|| {
            let (near, _far) = UnixStream::pair().unwrap();
            // SAFETY: no pointers.
            let high = unsafe { libc::fcntl(near.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 900) };
            let reader = crore::spawn(move || crate::hook_common::read(high, &mut [0; 8]));
            crore::yield_now();
            // SAFETY: the number is far above all others.
            unsafe { closefrom(high) };
            assert_eq!(reader.join().unwrap(), Err(libc::EBADF));
        })
        .unwrap();
    });
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn polls_by_other_names() {
    if !crate::common::kernel_has(libc::SYS_epoll_pwait2) {
        return;
    }
    same(|on| {
        let (near, far) = UnixStream::pair().unwrap();
        let fd = near.as_raw_fd();
        // SAFETY: no pointers; the descriptor is fresh.
        let epoll = unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) };
        let epoll_fd = epoll.as_raw_fd();
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: 7,
        };
        // SAFETY: an event.
        let added = unsafe { libc::epoll_ctl(epoll_fd, libc::EPOLL_CTL_ADD, fd, &mut event) };
        assert_eq!(added, 0);
        let writer = on.go(move || (&far).write_all(b"x").map(|()| far));
        let mut entry = libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        let limit = libc::timespec {
            tv_sec: 0,
            tv_nsec: 1_000_000_000,
        };
        // SAFETY: an entry, an event, and a time that is none.
        let out = unsafe {
            [
                said(libc::epoll_pwait2(epoll_fd, &mut event, 1, null(), null()) as isize),
                said(libc::epoll_pwait2(epoll_fd, &mut event, 1, &limit, null()) as isize),
                said(__poll(&mut entry, 1, -1) as isize),
            ]
        };
        drop(writer.join());
        (out, entry.revents)
    });
}

/// Its child has the parent's coroutines and descriptors no more than that of `fork`.
#[test]
fn a_child_of_vfork_ends_by_itself() {
    same(|_| {
        // SAFETY: the child only ends.
        #[allow(deprecated, reason = "programs call it all the same")]
        let pid = unsafe { libc::vfork() };
        if pid == 0 {
            // SAFETY: ends the child.
            unsafe { libc::_exit(5) };
        }
        let mut status = 0;
        // SAFETY: our own child, a place.
        let found = unsafe { libc::waitpid(pid, &mut status, 0) };
        (found == pid, libc::WEXITSTATUS(status))
    });
}

/// Calls in front of which the size of the buffer is checked.
#[cfg(target_env = "gnu")]
#[test]
fn fortified_names_do_what_the_plain_ones_do() {
    use crate::plain_threads::fortified::*;

    same(|on| {
        let (near, far) = UnixStream::pair().unwrap();
        let fd = near.as_raw_fd();
        let mut buf = [1_u8; 8];
        let place: *mut c_void = buf.as_mut_ptr().cast();
        let mut entry = libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        let writer = on.go(move || (&far).write_all(b"xyz").map(|()| far));
        let opened = |fd: RawFd| {
            assert!(fd >= 0);
            // SAFETY: made just now.
            unsafe { OwnedFd::from_raw_fd(fd) }
        };
        // SAFETY: places of the sizes that are given.
        let out = unsafe {
            let zero = opened(__open64_2(c"/dev/zero".as_ptr(), libc::O_RDONLY));
            let null_file = opened(__openat_2(-1, c"/dev/null".as_ptr(), libc::O_RDONLY));
            let size = size_of_val(&entry);
            [
                said(__ppoll_chk(&mut entry, 1, null(), null(), size) as isize),
                said(__recvfrom_chk(fd, place, 3, 8, 0, null_mut(), null_mut())),
                said(__pread_chk(zero.as_raw_fd(), place, 2, 0, 8)),
                said(__pread_chk(null_file.as_raw_fd(), place, 2, 0, 8)),
            ]
        };
        drop(writer.join());
        (out, buf)
    });
}

/// glibc's own names, with underscores.
mod underscores {
    use super::*;

    unsafe extern "C" {
        fn __read(fd: c_int, buf: *mut c_void, n: usize) -> isize;
        fn __write(fd: c_int, buf: *const c_void, n: usize) -> isize;
        fn __pread64(fd: c_int, buf: *mut c_void, n: usize, at: i64) -> isize;
        fn __pwrite64(fd: c_int, buf: *const c_void, n: usize, at: i64) -> isize;
        fn __send(fd: c_int, buf: *const c_void, n: usize, flags: c_int) -> isize;
        fn __connect(fd: c_int, to: *const libc::sockaddr, len: u32) -> c_int;
        fn __open(path: *const c_char, flags: c_int, ...) -> c_int;
        fn __open64(path: *const c_char, flags: c_int, ...) -> c_int;
        fn __close(fd: c_int) -> c_int;
        fn __dup2(old: c_int, new: c_int) -> c_int;
        fn __pipe(ends: *mut c_int) -> c_int;
        fn __fcntl(fd: c_int, what: c_int, ...) -> c_int;
        fn __select(
            n: c_int,
            r: *mut libc::fd_set,
            w: *mut libc::fd_set,
            e: *mut libc::fd_set,
            limit: *mut libc::timeval,
        ) -> c_int;
        fn __nanosleep(time: *const libc::timespec, left: *mut libc::timespec) -> c_int;
        fn __sched_yield() -> c_int;
        fn __sigsuspend(mask: *const libc::sigset_t) -> c_int;
        fn __waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
        fn __wait(status: *mut c_int) -> c_int;
        fn __vfork() -> c_int;
    }

    #[test]
    fn descriptors_and_times() {
        same(|on| {
            let mut out = Vec::new();
            let mut ends = [-1; 2];
            let mut place = [0_u8; 4];
            let to = place.as_mut_ptr().cast();
            let moment = libc::timespec {
                tv_sec: 0,
                tv_nsec: 1000,
            };
            // SAFETY: places, strings and bytes that live across the calls.
            unsafe {
                out.push(__pipe(ends.as_mut_ptr()) as isize);
                let [from, into] = ends;
                let writer = on.go(move || {
                    __nanosleep(&moment, null_mut());
                    __sched_yield();
                    __write(into, c"ab".as_ptr().cast(), 2)
                });
                let mut set: libc::fd_set = std::mem::zeroed();
                libc::FD_SET(from, &mut set);
                let none = null_mut();
                out.push(__select(from + 1, &mut set, none, none, null_mut()) as isize);
                out.push(__read(from, to, 4));
                out.push(writer.join());
                out.push(isize::from(__fcntl(from, libc::F_GETFL) == libc::O_RDONLY));
                out.push(isize::from(__dup2(into, from) == from));
                out.push(__close(into) as isize);
                out.push(__close(from) as isize);
                out.push(__close(from) as isize);
                let zero = __open(c"/dev/zero".as_ptr(), libc::O_RDWR);
                out.push(__pread64(zero, to, 4, 0));
                out.push(__pwrite64(zero, to, 4, 0));
                out.push(__send(zero, to, 4, 0));
                out.push(__connect(zero, std::ptr::null(), 0) as isize);
                out.push(isize::from(
                    __open64(c"/no/such".as_ptr(), libc::O_RDONLY) == -1,
                ));
                __close(zero);
            }
            out
        });
    }

    #[test]
    fn processes_and_signals() {
        same(|_| {
            // SAFETY: the children end at once; places and a set that live.
            unsafe {
                let child = |code| {
                    let pid = __vfork();
                    if pid == 0 {
                        libc::_exit(code);
                    }
                    pid
                };
                let mut status = 0;
                let pid = child(4);
                let first = (__waitpid(pid, &mut status, 0) == pid, status);
                let none = __waitpid(1, &mut status, 1 << 20);
                // It may find a child of another test's, as `wait` may.
                let _: unsafe extern "C" fn(*mut c_int) -> c_int = __wait;
                let mut all: libc::sigset_t = std::mem::zeroed();
                libc::sigaddset(&mut all, libc::SIGRTMAX());
                libc::pthread_sigmask(libc::SIG_BLOCK, &all, null_mut());
                extern "C" fn handler(_: c_int) {}
                libc::signal(libc::SIGRTMAX(), handler as *const () as usize);
                let thread = libc::syscall(libc::SYS_gettid);
                libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGRTMAX());
                let empty: libc::sigset_t = std::mem::zeroed();
                (first, none, __sigsuspend(&empty))
            }
        });
    }
}
