//! The promise: arguments that libc refuses are refused in coroutines too, at
//! once and with the same error; and no hook reads or writes more of the
//! caller's memory than libc does.

use std::ffi::{c_char, c_int, c_void};
use std::io::Read;
use std::mem::{MaybeUninit, zeroed};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::ptr::{null, null_mut};
use std::time::Duration;

use crate::common::succeeds;
use crate::hook_common;
use crate::hook_common::{in_coroutines, said, same};

/// So long does nobody wait who need not wait at all.
const LONG: Duration = Duration::from_secs(60);

/// What a call says that must not wait: a coroutine gets a time limit.
fn at_once(call: impl FnOnce() -> isize) -> Result<usize, i32> {
    if crore::try_current().is_none() {
        return said(call());
    }
    crore::timeout(LONG, || said(call())).expect("waits for nothing")
}

fn int(result: c_int) -> isize {
    result as isize
}

#[test]
fn what_is_not_open_is_refused() {
    same(|_| {
        let mut byte = [0_u8];
        let place: *mut c_void = byte.as_mut_ptr().cast();
        let none = -1;
        // SAFETY: one byte to read or write, null where libc takes it.
        unsafe {
            [
                at_once(|| libc::read(none, place, 1)),
                at_once(|| libc::write(none, place, 1)),
                at_once(|| libc::recv(none, place, 1, 0)),
                at_once(|| libc::send(none, place, 1, 0)),
                at_once(|| libc::readv(none, null(), 0)),
                at_once(|| libc::pread(none, place, 1, 0)),
                at_once(|| libc::pwrite(none, place, 1, 0)),
                at_once(|| libc::sendfile(none, none, null_mut(), 1)),
                at_once(|| libc::splice(none, null_mut(), none, null_mut(), 1, 0)),
                at_once(|| libc::copy_file_range(none, null_mut(), none, null_mut(), 1, 0)),
                at_once(|| int(libc::accept(none, null_mut(), null_mut()))),
                at_once(|| int(libc::connect(none, null(), 0))),
                at_once(|| int(libc::fsync(none))),
                at_once(|| int(libc::flock(none, libc::LOCK_EX))),
                at_once(|| int(libc::lockf(none, libc::F_LOCK, 0))),
                at_once(|| int(libc::fcntl(none, libc::F_GETFL))),
                at_once(|| int(libc::close(none))),
                at_once(|| int(libc::dup2(none, 0))),
                at_once(|| int(libc::dup2(0, none))),
                at_once(|| int(libc::epoll_wait(none, null_mut(), 1, -1))),
                at_once(|| int(libc::recvmmsg(none, null_mut(), 1, 0, null_mut()))),
                at_once(|| int(libc::sendmmsg(none, null_mut(), 1, 0))),
                at_once(|| int(libc::waitpid(libc::pid_t::MAX, null_mut(), 0))),
            ]
        }
    });
}

#[test]
fn null_is_refused_where_libc_refuses_it() {
    same(|_| {
        let (near, far) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (near, listener) = (near.as_raw_fd(), listener.as_raw_fd());
        // SAFETY: one byte; and null, which the kernel refuses.
        let sent = unsafe { libc::send(far.as_raw_fd(), b"x".as_ptr().cast(), 1, 0) };
        assert_eq!(sent, 1);
        // SAFETY: null, which the kernel refuses.
        unsafe {
            [
                at_once(|| libc::read(near, null_mut(), 1)),
                at_once(|| libc::readv(near, null(), 1)),
                at_once(|| libc::recv(near, null_mut(), 1, 0)),
                at_once(|| libc::write(near, null(), 1)),
                at_once(|| libc::writev(near, null(), 1)),
                at_once(|| libc::send(near, null(), 1, 0)),
                at_once(|| libc::recvmsg(near, null_mut(), 0)),
                at_once(|| libc::sendmsg(near, null(), 0)),
                at_once(|| int(libc::recvmmsg(near, null_mut(), 1, 0, null_mut()))),
                at_once(|| int(libc::sendmmsg(near, null_mut(), 1, 0))),
                at_once(|| int(libc::connect(listener, null(), 16))),
                at_once(|| int(libc::poll(null_mut(), 1, -1))),
                at_once(|| int(libc::nanosleep(null(), null_mut()))),
                at_once(|| int(libc::fcntl(near, libc::F_SETLKW, null::<libc::flock>()))),
                at_once(|| int(libc::open(null(), libc::O_RDONLY))),
                at_once(|| int(libc::pipe(null_mut()))),
                at_once(|| {
                    int(libc::socketpair(
                        libc::AF_UNIX,
                        libc::SOCK_STREAM,
                        0,
                        null_mut(),
                    ))
                }),
            ]
        }
    });
}

#[test]
fn numbers_out_of_range_are_refused_without_waiting() {
    same(|_| {
        let (near, _far) = UnixStream::pair().unwrap();
        let near = near.as_raw_fd();
        let mut byte = [0_u8];
        let one = libc::iovec {
            iov_base: byte.as_mut_ptr().cast(),
            iov_len: 1,
        };
        let too_long = libc::iovec {
            iov_len: usize::MAX,
            ..one
        };
        let many = [one; 1025];
        // SAFETY: places that live; the kernel refuses the rest.
        unsafe {
            let mut header: libc::msghdr = zeroed();
            header.msg_iov = many.as_ptr().cast_mut();
            header.msg_iovlen = many.len();
            let header = &raw mut header;
            [
                at_once(|| libc::readv(near, many.as_ptr(), -1)),
                at_once(|| libc::readv(near, many.as_ptr(), 1025)),
                at_once(|| libc::readv(near, &too_long, 1)),
                at_once(|| libc::writev(near, many.as_ptr(), -1)),
                at_once(|| libc::writev(near, many.as_ptr(), 1025)),
                at_once(|| libc::writev(near, &too_long, 1)),
                at_once(|| libc::recvmsg(near, header, 0)),
                at_once(|| libc::sendmsg(near, header, 0)),
                at_once(|| libc::pread(near, byte.as_mut_ptr().cast(), 1, -1)),
                at_once(|| int(libc::poll(null_mut(), libc::nfds_t::MAX, -1))),
                at_once(|| {
                    int(libc::select(
                        -1,
                        null_mut(),
                        null_mut(),
                        null_mut(),
                        null_mut(),
                    ))
                }),
                at_once(|| int(libc::epoll_wait(near, null_mut(), 0, -1))),
                at_once(|| int(libc::accept(near, null_mut(), null_mut()))),
                at_once(|| int(libc::waitpid(-1, null_mut(), !0))),
            ]
        }
    });
}

#[test]
fn nothing_is_moved_without_waiting() {
    same(|_| {
        let (near, _far) = UnixStream::pair().unwrap();
        let (out, into) = std::io::pipe().unwrap();
        let (near, out, into) = (near.as_raw_fd(), out.as_raw_fd(), into.as_raw_fd());
        // SAFETY: no bytes, and null where libc takes it.
        unsafe {
            [
                at_once(|| libc::read(near, null_mut(), 0)),
                at_once(|| libc::readv(near, null(), 0)),
                at_once(|| libc::write(into, null(), 0)),
                at_once(|| libc::splice(near, null_mut(), into, null_mut(), 0, 0)),
                at_once(|| libc::splice(out, null_mut(), into, null_mut(), 0, 0)),
                at_once(|| libc::splice(out, null_mut(), near, null_mut(), 0, 0)),
                at_once(|| libc::sendfile(near, 0, null_mut(), 0)),
            ]
            .map(|moved| moved.unwrap_or(0))
        }
    });
}

/// `select` with the caller's `n`, and what is left in the set.
fn select(n: c_int, member: RawFd) -> (isize, bool) {
    // SAFETY: a set, in which the number has its place; a time.
    unsafe {
        let mut set: libc::fd_set = zeroed();
        libc::FD_SET(member, &mut set);
        let mut time = libc::timeval {
            tv_sec: 0,
            tv_usec: 10_000,
        };
        let found = libc::select(n, &mut set, null_mut(), null_mut(), &mut time);
        (found as isize, libc::FD_ISSET(member, &set))
    }
}

#[test]
fn select_takes_no_more_of_the_sets_than_there_can_be_descriptors() {
    succeeds(
        "select_takes_no_more_of_the_sets_than_there_can_be_descriptors",
        || {
            same(|_| {
                let (near, far) = UnixStream::pair().unwrap();
                let near = near.as_raw_fd();
                // As those do who ask `getdtablesize` for the number.
                let quiet = [1 << 16, 1 << 20, c_int::MAX].map(|n| select(n, near));
                // SAFETY: one byte.
                unsafe { libc::send(far.as_raw_fd(), b"x".as_ptr().cast(), 1, 0) };
                (
                    quiet,
                    [1 << 16, 1 << 20, c_int::MAX].map(|n| select(n, near)),
                )
            });
        },
    );
}

#[test]
fn select_finds_descriptors_beyond_its_standard_set() {
    succeeds("select_finds_descriptors_beyond_its_standard_set", || {
        same(|on| {
            let (near, far) = UnixStream::pair().unwrap();
            // SAFETY: no pointers.
            let high = unsafe { libc::fcntl(near.as_raw_fd(), libc::F_DUPFD, 1500) };
            assert!(high >= 1500);
            let mut set = [0_u64; 64];
            set[high as usize / 64] |= 1 << (high % 64);
            let writer = on.go(move || {
                std::thread::sleep(Duration::from_millis(5));
                // SAFETY: one byte.
                unsafe { libc::send(far.as_raw_fd(), b"x".as_ptr().cast(), 1, 0) };
                far
            });
            // SAFETY: a set of 4096 numbers.
            let found = unsafe {
                let set = set.as_mut_ptr().cast();
                libc::select(4096, set, null_mut(), null_mut(), null_mut())
            };
            drop(writer.join());
            // SAFETY: no pointers; ours.
            unsafe { libc::close(high) };
            (found, set[high as usize / 64] != 0)
        });
    });
}

#[test]
fn answers_go_to_buffers_of_any_alignment() {
    succeeds("answers_go_to_buffers_of_any_alignment", || {
        same(|_| {
            let mut buffer = [0_u8; 4096];
            (0..9)
                .map(|shift| {
                    let mut entry = MaybeUninit::<libc::group>::uninit();
                    let mut found = null_mut();
                    // SAFETY: live places; the entry's strings are read while
                    // they are there.
                    unsafe {
                        let text = buffer.as_mut_ptr().add(shift).cast::<c_char>();
                        let name = c"root".as_ptr();
                        let len = 4096 - shift;
                        let code =
                            libc::getgrnam_r(name, entry.as_mut_ptr(), text, len, &mut found);
                        let members = entry.assume_init().gr_mem;
                        let aligned = members.addr() % align_of::<usize>() == 0;
                        (code, found.is_null(), aligned, members.is_null())
                    }
                })
                .collect::<Vec<_>>()
        });
    });
}

#[test]
fn only_the_answer_is_written() {
    same(|_| {
        // SAFETY: an IPv4 address and a buffer, with their lengths.
        unsafe {
            let mut address: libc::sockaddr_in = zeroed();
            address.sin_family = libc::AF_INET as libc::sa_family_t;
            address.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
            let mut text = [0x55_u8; 64];
            let code = libc::getnameinfo(
                (&raw const address).cast(),
                size_of_val(&address) as libc::socklen_t,
                text.as_mut_ptr().cast(),
                text.len() as libc::socklen_t,
                null_mut(),
                0,
                libc::NI_NUMERICHOST,
            );
            (code, text.to_vec())
        }
    });
}

#[test]
fn a_refused_replacement_disturbs_nobody() {
    if !crate::common::kernel_has(libc::SYS_close_range) {
        return;
    }
    in_coroutines(|_| {
        let (near, far) = UnixStream::pair().unwrap();
        let fd = near.as_raw_fd();
        let reader = crore::spawn(move || {
            let mut byte = [0];
            hook_common::read(near.as_raw_fd(), &mut byte).map(|n| (n, byte))
        });
        crore::yield_now();
        crore::sleep(Duration::from_millis(1));
        // SAFETY: no pointers; refused for the flags.
        unsafe {
            assert_eq!(said(int(libc::dup3(0, fd, 0x5a5a))), Err(libc::EINVAL));
            let refused = libc::close_range(fd as u32, fd as u32, 0x5a50);
            assert_eq!(said(int(refused)), Err(libc::EINVAL));
            assert_eq!(libc::send(far.as_raw_fd(), b"x".as_ptr().cast(), 1, 0), 1);
        }
        assert_eq!(reader.join().unwrap(), Ok((1, *b"x")));
    });
}

#[test]
fn closing_well_leaves_errno_alone() {
    in_coroutines(|_| {
        let (near, _far) = UnixStream::pair().unwrap();
        let fd = near.into_raw_fd();
        let mut byte = [0];
        // Registered with the reactor from here on.
        let waited = crore::timeout(Duration::from_millis(5), || {
            hook_common::read(fd, &mut byte)
        });
        assert!(waited.is_err());
        // Another file takes the number, and no hook sees it.
        let (out, _into) = std::io::pipe().unwrap();
        // SAFETY: no pointers; both are ours.
        unsafe {
            assert_eq!(
                libc::syscall(libc::SYS_dup3, out.as_raw_fd(), fd, 0),
                i64::from(fd)
            );
            *libc::__errno_location() = libc::EXDEV;
            let closed = libc::close(fd);
            assert_eq!((closed, *libc::__errno_location()), (0, libc::EXDEV));
        }
    });
}

#[test]
fn a_send_that_connects_takes_all_and_arrives() {
    same(|on| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = on.go(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut text = String::new();
            stream.read_to_string(&mut text).map(|_| text).unwrap()
        });
        // SAFETY: an address and five bytes, with their lengths.
        let sent = unsafe {
            let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
            let mut address: libc::sockaddr_in = zeroed();
            address.sin_family = libc::AF_INET as libc::sa_family_t;
            address.sin_port = port.to_be();
            address.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
            let len = size_of_val(&address) as libc::socklen_t;
            let (text, to) = (b"hello".as_ptr().cast(), (&raw const address).cast());
            let sent = libc::sendto(fd, text, 5, libc::MSG_FASTOPEN, to, len);
            let sent = said(sent);
            if sent.is_err() {
                // A kernel without it: the server waits for somebody.
                libc::connect(fd, to, len);
            }
            libc::close(fd);
            sent
        };
        (sent, server.join())
    });
}

/// More buffers than the kernel takes, on files of every kind: also where a helper would
/// make the call.
#[test]
fn too_many_buffers_are_refused_on_every_file() {
    use std::os::unix::fs::OpenOptionsExt;
    same(|_| {
        let mut out = Vec::new();
        for flags in [0, libc::O_SYNC, libc::O_DSYNC, libc::O_DIRECT] {
            let path = crate::files::path();
            let mut options = std::fs::OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            drop(options.open(&path).unwrap());
            let opened = options.custom_flags(flags).open(&path);
            std::fs::remove_file(path).unwrap();
            // Not all file systems go past the cache.
            let Ok(file) = opened else { continue };
            for (count, len) in [(1025, 1), (1024, 0), (-1, 1), (2, usize::MAX)] {
                let mut byte = [7_u8; 1];
                let one = libc::iovec {
                    iov_base: byte.as_mut_ptr().cast(),
                    iov_len: len,
                };
                let all = vec![one; 1025];
                let (fd, first) = (file.as_raw_fd(), all.as_ptr());
                // SAFETY: valid buffers, or such that are refused.
                unsafe {
                    out.push(said(libc::readv(fd, first, count)));
                    out.push(said(libc::writev(fd, first, count)));
                    out.push(said(libc::preadv(fd, first, count, 0)));
                    out.push(said(libc::pwritev(fd, first, count, 0)));
                    out.push(said(libc::preadv2(fd, first, count, -1, libc::RWF_HIPRI)));
                    out.push(said(libc::pwritev2(fd, first, count, -1, libc::RWF_DSYNC)));
                    out.push(said(libc::pwritev2(fd, first, count, 0, libc::RWF_SYNC)));
                }
            }
        }
        out
    });
}
