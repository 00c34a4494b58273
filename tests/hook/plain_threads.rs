//! On a plain thread a hooked call is libc's: the same results and the same
//! errors as the bare system call, over many inputs.

use std::ffi::{c_int, c_long, c_void};
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::ptr::{null, null_mut};

use crate::hook_common::said;

/// Asserts that two calls say the same on the same inputs.
macro_rules! alike {
    ($what:expr, $hooked:expr, $bare:expr) => {{
        // SAFETY: buffers below are valid for the lengths given; everything
        // else is refused by the kernel.
        let (hooked, bare) = unsafe { (said($hooked as isize), said($bare as isize)) };
        assert_eq!(
            hooked,
            bare,
            "{} hooked / bare, {:?}",
            stringify!($hooked),
            $what
        );
    }};
}

/// A stream with three bytes to read, its peer gone if `closed`.
fn stream(closed: bool) -> (UnixStream, Option<UnixStream>) {
    let (a, b) = UnixStream::pair().unwrap();
    (&b).write_all(b"abc").unwrap();
    a.set_nonblocking(true).unwrap();
    (a, (!closed).then_some(b))
}

/// Good and bad descriptors; the first two are alike, so that what one call
/// takes from one, the other takes from the other.
fn with_descriptors(test: impl Fn(RawFd, RawFd)) {
    for closed in [false, true] {
        let (one, two) = (stream(closed), stream(closed));
        test(one.0.as_raw_fd(), two.0.as_raw_fd());
    }
    let dir = std::fs::File::open("/").unwrap();
    let null = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap();
    for fd in [
        -1,
        RawFd::MIN,
        RawFd::MAX,
        dir.as_raw_fd(),
        null.as_raw_fd(),
    ] {
        test(fd, fd);
    }
}

const NOSIGNAL: c_int = libc::MSG_NOSIGNAL;

#[test]
fn bytes_in() {
    for len in [0, 1, 3, 100] {
        with_descriptors(|x, y| {
            let (mut p, mut q) = ([0u8; 100], [0u8; 100]);
            let (to, too): (*mut c_void, *mut c_void) =
                (p.as_mut_ptr().cast(), q.as_mut_ptr().cast());
            let vec = |base| libc::iovec {
                iov_base: base,
                iov_len: len,
            };
            let (v, w) = (vec(to), vec(too));
            for _ in 0..2 {
                alike!(
                    (x, len),
                    libc::read(x, to, len),
                    libc::syscall(libc::SYS_read, y, too, len)
                );
                alike!(
                    (x, len),
                    libc::readv(x, &v, 1),
                    libc::syscall(libc::SYS_readv, y, &w, 1)
                );
                alike!(
                    (x, len),
                    libc::readv(x, &v, -1),
                    libc::syscall(libc::SYS_readv, y, &w, -1)
                );
                for flags in [
                    0,
                    libc::MSG_PEEK,
                    libc::MSG_DONTWAIT,
                    libc::MSG_OOB,
                    libc::MSG_ERRQUEUE,
                ] {
                    alike!(
                        (x, len, flags),
                        libc::recv(x, to, len, flags),
                        bare_recv(y, too, len, flags)
                    );
                    alike!(
                        (x, len, flags),
                        libc::recvfrom(x, to, len, flags, null_mut(), null_mut()),
                        bare_recv(y, too, len, flags)
                    );
                    alike!(
                        (x, len, flags),
                        libc::recvmsg(x, &mut header(&v), flags),
                        libc::syscall(libc::SYS_recvmsg, y, &mut header(&w), flags)
                    );
                }
            }
            assert_eq!(p, q);
        });
    }
    alike!(
        (),
        libc::recvmsg(0, null_mut(), 0),
        libc::syscall(libc::SYS_recvmsg, 0, 0, 0)
    );
    alike!(
        (),
        libc::read(-1, null_mut(), 7),
        libc::syscall(libc::SYS_read, -1, 0, 7)
    );
}

unsafe fn bare_recv(fd: c_int, to: *mut c_void, len: usize, flags: c_int) -> c_long {
    // SAFETY: the caller's buffer.
    unsafe { libc::syscall(libc::SYS_recvfrom, fd, to, len, flags, 0, 0) }
}

fn header(vec: &libc::iovec) -> libc::msghdr {
    // SAFETY: null pointers and zero lengths are a valid header.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = std::ptr::from_ref(vec).cast_mut();
    header.msg_iovlen = 1;
    header
}

#[test]
fn bytes_out() {
    for len in [0, 1, 100] {
        with_descriptors(|x, y| {
            let bytes = [7u8; 100];
            let from: *const c_void = bytes.as_ptr().cast();
            let vec = libc::iovec {
                iov_base: from.cast_mut(),
                iov_len: len,
            };
            alike!(
                (x, len),
                libc::write(x, from, len),
                libc::syscall(libc::SYS_write, y, from, len)
            );
            alike!(
                (x, len),
                libc::writev(x, &vec, 1),
                libc::syscall(libc::SYS_writev, y, &vec, 1)
            );
            alike!(
                (x, len),
                libc::writev(x, &vec, 5000),
                libc::syscall(libc::SYS_writev, y, &vec, 5000)
            );
            for flags in [NOSIGNAL, NOSIGNAL | libc::MSG_DONTWAIT] {
                let bare = |flags: c_int| {
                    // SAFETY: a valid buffer.
                    unsafe { libc::syscall(libc::SYS_sendto, y, from, len, flags, 0, 0) }
                };
                alike!((x, len), libc::send(x, from, len, flags), bare(flags));
                alike!(
                    (x, len),
                    libc::sendto(x, from, len, flags, null(), 0),
                    bare(flags)
                );
                alike!(
                    (x, len),
                    libc::sendmsg(x, &header(&vec), flags),
                    libc::syscall(libc::SYS_sendmsg, y, &header(&vec), flags)
                );
            }
        });
    }
    alike!(
        (),
        libc::sendmsg(0, null(), 0),
        libc::syscall(libc::SYS_sendmsg, 0, 0, 0)
    );
}

#[test]
fn sockets() {
    with_descriptors(|x, y| {
        let (none, no_len) = (null_mut(), null_mut());
        alike!(
            x,
            libc::accept(x, none, no_len),
            libc::syscall(libc::SYS_accept4, y, 0, 0, 0)
        );
        alike!(
            x,
            libc::accept4(x, none, no_len, -1),
            libc::syscall(libc::SYS_accept4, y, 0, 0, -1)
        );
        alike!(
            x,
            libc::connect(x, null(), 0),
            libc::syscall(libc::SYS_connect, y, 0, 0)
        );
        alike!(
            x,
            libc::setsockopt(x, 1, 20, null(), 0),
            libc::syscall(libc::SYS_setsockopt, y, 1, 20, 0, 0)
        );
        alike!(
            x,
            libc::fcntl(x, libc::F_GETFL),
            libc::syscall(libc::SYS_fcntl, y, libc::F_GETFL)
        );
        alike!(
            x,
            libc::fcntl(x, 9999, 5),
            libc::syscall(libc::SYS_fcntl, y, 9999, 5)
        );
        let (mut some, mut too) = (0, 0);
        alike!(
            x,
            libc::ioctl(x, libc::FIONREAD, &raw mut some),
            libc::syscall(libc::SYS_ioctl, y, libc::FIONREAD, &raw mut too)
        );
        assert_eq!(some, too);
    });
    alike!(
        (),
        libc::socket(-1, -1, -1),
        libc::syscall(libc::SYS_socket, -1, -1, -1)
    );
    alike!(
        (),
        libc::socketpair(1, 1, 0, null_mut()),
        libc::syscall(libc::SYS_socketpair, 1, 1, 0, 0)
    );
    alike!(
        (),
        libc::pipe2(null_mut(), 0),
        libc::syscall(libc::SYS_pipe2, 0, 0)
    );
}

#[test]
fn numbers_that_are_not_open() {
    for fd in [-1, RawFd::MIN, RawFd::MAX] {
        alike!(fd, libc::close(fd), libc::syscall(libc::SYS_close, fd));
        alike!(fd, libc::dup(fd), libc::syscall(libc::SYS_dup, fd));
        alike!(
            fd,
            libc::dup2(fd, fd),
            libc::syscall(libc::SYS_fcntl, fd, libc::F_GETFD)
        );
        alike!(
            fd,
            libc::dup3(fd, fd, 0),
            libc::syscall(libc::SYS_dup3, fd, fd, 0)
        );
        alike!(
            fd,
            libc::dup3(0, fd, 77),
            libc::syscall(libc::SYS_dup3, 0, fd, 77)
        );
    }
    // SAFETY: refused: the range is empty.
    unsafe extern "C" {
        fn close_range(first: u32, last: u32, flags: c_int) -> c_int;
    }
    alike!(
        (),
        close_range(9, 8, 0),
        libc::syscall(libc::SYS_close_range, 9, 8, 0)
    );
}

#[test]
fn waiting() {
    with_descriptors(|x, y| {
        let entry = |fd| libc::pollfd {
            fd,
            events: libc::POLLIN | libc::POLLOUT,
            revents: 0,
        };
        let (mut p, mut q) = (entry(x), entry(y));
        let zero = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let bare = |q: &mut libc::pollfd| {
            // SAFETY: one entry and a time.
            unsafe { libc::syscall(libc::SYS_ppoll, std::ptr::from_mut(q), 1, &zero, 0, 8) }
        };
        alike!(x, libc::poll(&mut p, 1, 0), bare(&mut q));
        assert_eq!(p.revents, q.revents);
        alike!(x, libc::ppoll(&mut p, 1, &zero, null()), bare(&mut q));
        assert_eq!(p.revents, q.revents);
    });
    for (tv_sec, tv_nsec) in [(0, 1), (0, -1), (-1, 0), (0, 1_000_000_000)] {
        let time = libc::timespec { tv_sec, tv_nsec };
        alike!(
            tv_nsec,
            libc::nanosleep(&time, null_mut()),
            libc::syscall(libc::SYS_nanosleep, &time, 0)
        );
        for clock in [
            libc::CLOCK_REALTIME,
            libc::CLOCK_MONOTONIC,
            libc::CLOCK_THREAD_CPUTIME_ID,
            99,
        ] {
            // This one returns its error.
            // SAFETY: a readable time.
            let hooked = unsafe { libc::clock_nanosleep(clock, 0, &time, null_mut()) };
            // SAFETY: as above.
            let bare = said(
                unsafe { libc::syscall(libc::SYS_clock_nanosleep, clock, 0, &time, 0) } as isize,
            );
            if clock != libc::CLOCK_THREAD_CPUTIME_ID {
                assert_eq!(hooked, bare.err().unwrap_or(0), "{clock} {tv_nsec}");
            }
        }
    }
    // SAFETY: no pointers.
    let naps = unsafe { (libc::usleep(1), libc::sleep(0), libc::sched_yield()) };
    assert_eq!(naps, (0, 0, 0));
}

#[test]
fn files_are_sent_and_spliced() {
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let (a, _b) = UnixStream::pair().unwrap();
    // SAFETY: no pointers but null.
    let sent = unsafe { libc::sendfile(a.as_raw_fd(), file.as_raw_fd(), null_mut(), 100) };
    assert_eq!(sent, 100);
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"bytes").unwrap();
    // SAFETY: as above.
    let moved = unsafe {
        libc::splice(
            reader.as_raw_fd(),
            null_mut(),
            a.as_raw_fd(),
            null_mut(),
            100,
            0,
        )
    };
    assert_eq!(moved, 5);
}

/// What C code calls that is compiled with `_FORTIFY_SOURCE`.
pub(crate) mod fortified {
    use super::*;

    unsafe extern "C" {
        pub(crate) fn __read_chk(fd: c_int, buf: *mut c_void, n: usize, size: usize) -> isize;
        pub(crate) fn __pread_chk(
            fd: c_int,
            buf: *mut c_void,
            n: usize,
            at: i64,
            size: usize,
        ) -> isize;
        pub(crate) fn __pread64_chk(
            fd: c_int,
            buf: *mut c_void,
            n: usize,
            at: i64,
            size: usize,
        ) -> isize;
        pub(crate) fn __recv_chk(
            fd: c_int,
            buf: *mut c_void,
            n: usize,
            size: usize,
            flags: c_int,
        ) -> isize;
        pub(crate) fn __recvfrom_chk(
            fd: c_int,
            buf: *mut c_void,
            n: usize,
            size: usize,
            flags: c_int,
            addr: *mut libc::sockaddr,
            len: *mut libc::socklen_t,
        ) -> isize;
        pub(crate) fn __poll_chk(
            fds: *mut libc::pollfd,
            n: libc::nfds_t,
            timeout: c_int,
            size: usize,
        ) -> c_int;
        pub(crate) fn __ppoll_chk(
            fds: *mut libc::pollfd,
            n: libc::nfds_t,
            limit: *const libc::timespec,
            mask: *const libc::sigset_t,
            size: usize,
        ) -> c_int;
        pub(crate) fn __open_2(path: *const libc::c_char, flags: c_int) -> c_int;
        pub(crate) fn __open64_2(path: *const libc::c_char, flags: c_int) -> c_int;
        pub(crate) fn __openat_2(dir: c_int, path: *const libc::c_char, flags: c_int) -> c_int;
        pub(crate) fn __openat64_2(dir: c_int, path: *const libc::c_char, flags: c_int) -> c_int;
    }
}
use fortified::*;

#[test]
fn fortified_names_are_there() {
    let (a, _b) = stream(false);
    let fd = a.as_raw_fd();
    let mut buf = [0u8; 8];
    let mut entry = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: valid buffers of the sizes given.
    unsafe {
        assert_eq!(__poll_chk(&mut entry, 1, 0, size_of_val(&entry)), 1);
        assert_eq!(__recv_chk(fd, buf.as_mut_ptr().cast(), 2, 8, 0), 2);
        assert_eq!(__read_chk(fd, buf.as_mut_ptr().cast(), 8, 8), 1);
        let zero = __open_2(c"/dev/zero".as_ptr(), libc::O_RDONLY);
        assert_eq!(__pread64_chk(zero, buf.as_mut_ptr().cast(), 8, 0, 8), 8);
        assert_eq!((buf, libc::close(zero)), ([0; 8], 0));
        let null = __openat64_2(libc::AT_FDCWD, c"/dev/null".as_ptr(), libc::O_RDONLY);
        assert!(null >= 0 && libc::close(null) == 0);
    }
}

/// Whether a child process is ended by libc's words for a buffer that is too small.
fn aborts(call: &dyn Fn()) -> bool {
    // SAFETY: the child calls what may be called then.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            libc::dup2(libc::open(c"/dev/null".as_ptr(), libc::O_WRONLY), 2);
            call();
            libc::_exit(0);
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(pid, &mut status, 0), pid);
        libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGABRT
    }
}

#[test]
fn fortified_names_end_what_would_overflow() {
    let (a, _b) = stream(false);
    let fd = a.as_raw_fd();
    let mut buf = [0_u8; 16];
    let place = buf.as_mut_ptr().cast::<c_void>();
    let mut entries = [libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    }; 2];
    let entries = entries.as_mut_ptr();
    let file = c"/dev/null".as_ptr();
    let (here, size) = (libc::AT_FDCWD, size_of::<libc::pollfd>());
    // Of so many bytes more, or so many entries.
    let reads: [(&str, &dyn Fn(usize)); 7] = [
        // SAFETY: room for twice of what is said.
        ("read", &|more| unsafe {
            __read_chk(fd, place, 8 + more, 8);
        }),
        // SAFETY: as above.
        ("pread", &|more| unsafe {
            __pread_chk(fd, place, 8 + more, 0, 8);
        }),
        // SAFETY: as above.
        ("pread64", &|more| unsafe {
            __pread64_chk(fd, place, 8 + more, 0, 8);
        }),
        // SAFETY: as above.
        ("recv", &|more| unsafe {
            __recv_chk(fd, place, 8 + more, 8, libc::MSG_DONTWAIT);
        }),
        // SAFETY: as above, no address is asked for.
        ("recvfrom", &|more| unsafe {
            let dont = libc::MSG_DONTWAIT;
            __recvfrom_chk(fd, place, 8 + more, 8, dont, null_mut(), null_mut());
        }),
        // SAFETY: as above.
        ("poll", &|more| unsafe {
            __poll_chk(entries, 1 + more as u64, 0, size);
        }),
        // SAFETY: as above, a live time, no mask.
        ("ppoll", &|more| unsafe {
            let now = libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            __ppoll_chk(entries, 1 + more as u64, &now, null(), size);
        }),
    ];
    for (name, read) in reads {
        assert!(!aborts(&|| read(0)), "{name} fits");
        assert!(aborts(&|| read(1)), "{name}");
    }
    let opens: [(&str, &dyn Fn(c_int)); 4] = [
        // SAFETY: a name that lives.
        ("open", &|flags| unsafe {
            __open_2(file, flags);
        }),
        // SAFETY: as above.
        ("open64", &|flags| unsafe {
            __open64_2(file, flags);
        }),
        // SAFETY: as above.
        ("openat", &|flags| unsafe {
            __openat_2(here, file, flags);
        }),
        // SAFETY: as above.
        ("openat64", &|flags| unsafe {
            __openat64_2(here, file, flags);
        }),
    ];
    for (name, open) in opens {
        assert!(!aborts(&|| open(libc::O_DIRECTORY)), "{name}");
        for flag in [libc::O_CREAT, libc::O_TMPFILE] {
            assert!(aborts(&|| open(flag)), "{name} {flag:#x}");
        }
    }
}
