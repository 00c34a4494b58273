//! Calls on ends of a world, and their answers as text: what was returned, the error, and
//! the bytes.

use std::ffi::{c_int, c_short, c_uint, c_void};
use std::os::fd::RawFd;
use std::sync::Arc;

use super::worlds::Call;
use crate::hook_common::said;

fn call(f: impl Fn(&[RawFd]) -> String + Send + Sync + 'static) -> Call {
    Arc::new(f)
}

/// The answer, with what was put into `bytes`.
fn with_bytes(result: Result<usize, i32>, bytes: &[u8]) -> String {
    match result {
        Ok(some) => format!("{some} {}", sum(&bytes[..some.min(bytes.len())])),
        Err(code) => error(code),
    }
}

fn plain(result: isize) -> String {
    match said(result) {
        Ok(some) => some.to_string(),
        Err(code) => error(code),
    }
}

fn error(code: i32) -> String {
    std::io::Error::from_raw_os_error(code).to_string()
}

/// Bytes in short.
fn sum(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:04x}")
}

/// Bytes that differ from call to call. Eight of them are a small number, for eventfds.
fn bytes(n: usize, mark: u8) -> Vec<u8> {
    match n {
        8 => u64::from(mark % 3 + 1).to_ne_bytes().to_vec(),
        n => (0..n).map(|at| mark.wrapping_add(at as u8)).collect(),
    }
}

/// Buffers of some lengths in one memory.
fn parts(memory: &mut [u8], lengths: &[usize]) -> Vec<libc::iovec> {
    let mut rest = memory;
    lengths
        .iter()
        .map(|&iov_len| {
            let (one, more) = std::mem::take(&mut rest).split_at_mut(iov_len);
            rest = more;
            let iov_base = one.as_mut_ptr().cast();
            libc::iovec { iov_base, iov_len }
        })
        .collect()
}

pub(super) fn read(end: usize, n: usize) -> Call {
    call(move |fds| {
        let mut place = vec![0; n];
        with_bytes(crate::hook_common::read(fds[end], &mut place), &place)
    })
}

pub(super) fn write(end: usize, n: usize, mark: u8) -> Call {
    call(move |fds| {
        let bytes = bytes(n, mark);
        // SAFETY: a valid buffer.
        plain(unsafe { libc::write(fds[end], bytes.as_ptr().cast(), n) })
    })
}

/// How a vectored call is made.
#[derive(Clone, Copy, Debug)]
pub(super) enum Vectored {
    Here,
    At(i64),
    /// With flags, at a place or at −1.
    Flags(i64, c_int),
}

pub(super) fn readv(end: usize, lengths: Vec<usize>, how: Vectored) -> Call {
    call(move |fds| {
        let mut place = vec![0; lengths.iter().sum()];
        let parts = parts(&mut place, &lengths);
        let (fd, first, count) = (fds[end], parts.as_ptr(), parts.len() as c_int);
        // SAFETY: valid buffers.
        let result = said(unsafe {
            match how {
                Vectored::Here => libc::readv(fd, first, count),
                Vectored::At(at) => libc::preadv(fd, first, count, at),
                Vectored::Flags(at, flags) => libc::preadv2(fd, first, count, at, flags),
            }
        });
        with_bytes(result, &place)
    })
}

pub(super) fn writev(end: usize, lengths: Vec<usize>, mark: u8, how: Vectored) -> Call {
    call(move |fds| {
        let mut bytes = bytes(lengths.iter().sum(), mark);
        let parts = parts(&mut bytes, &lengths);
        let (fd, first, count) = (fds[end], parts.as_ptr(), parts.len() as c_int);
        // SAFETY: valid buffers.
        plain(unsafe {
            match how {
                Vectored::Here => libc::writev(fd, first, count),
                Vectored::At(at) => libc::pwritev(fd, first, count, at),
                Vectored::Flags(at, flags) => libc::pwritev2(fd, first, count, at, flags),
            }
        })
    })
}

pub(super) fn recv(end: usize, n: usize, flags: c_int) -> Call {
    call(move |fds| {
        let mut place = vec![0; n];
        with_bytes(
            crate::hook_common::recv(fds[end], &mut place, flags),
            &place,
        )
    })
}

pub(super) fn send(end: usize, n: usize, mark: u8, flags: c_int) -> Call {
    call(move |fds| {
        let bytes = bytes(n, mark);
        // SAFETY: a valid buffer.
        plain(unsafe { libc::send(fds[end], bytes.as_ptr().cast(), n, flags) })
    })
}

fn header(parts: &[libc::iovec]) -> libc::msghdr {
    // SAFETY: null pointers and zero lengths are a valid header.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = parts.as_ptr().cast_mut();
    header.msg_iovlen = parts.len();
    header
}

pub(super) fn recvmsg(end: usize, lengths: Vec<usize>, flags: c_int) -> Call {
    call(move |fds| {
        let mut place = vec![0; lengths.iter().sum()];
        let parts = parts(&mut place, &lengths);
        let mut header = header(&parts);
        // SAFETY: a header with valid buffers.
        let result = said(unsafe { libc::recvmsg(fds[end], &raw mut header, flags) });
        format!("{} {:x}", with_bytes(result, &place), header.msg_flags)
    })
}

/// Several messages.
pub(super) fn recvmmsg(end: usize, lengths: Vec<usize>, flags: c_int) -> Call {
    call(move |fds| {
        let mut place = vec![0; lengths.iter().sum()];
        let parts = parts(&mut place, &lengths);
        let mut all = messages(&parts);
        let (first, count, none) = (all.as_mut_ptr(), all.len() as c_uint, std::ptr::null_mut());
        // SAFETY: headers with valid buffers.
        let got = said(unsafe { libc::recvmmsg(fds[end], first, count, flags, none) } as isize);
        let whole = got.map_or(0, |got| got.min(all.len()));
        let lengths: Vec<_> = all[..whole].iter().map(|one| one.msg_len).collect();
        format!("{} {lengths:?} {}", with_bytes(got, &[]), sum(&place))
    })
}

pub(super) fn sendmmsg(end: usize, lengths: Vec<usize>, mark: u8, flags: c_int) -> Call {
    call(move |fds| {
        let mut bytes = bytes(lengths.iter().sum(), mark);
        let parts = parts(&mut bytes, &lengths);
        let mut all = messages(&parts);
        let (first, count) = (all.as_mut_ptr(), all.len() as c_uint);
        // SAFETY: headers with valid buffers.
        let sent = said(unsafe { libc::sendmmsg(fds[end], first, count, flags) } as isize);
        let whole = sent.map_or(0, |sent| sent.min(all.len()));
        let lengths: Vec<_> = all[..whole].iter().map(|one| one.msg_len).collect();
        format!("{} {lengths:?}", with_bytes(sent, &[]))
    })
}

fn messages(parts: &[libc::iovec]) -> Vec<libc::mmsghdr> {
    let message = |part| libc::mmsghdr {
        msg_hdr: header(std::slice::from_ref(part)),
        msg_len: 0,
    };
    parts.iter().map(message).collect()
}

/// `poll` of some ends, of holes (`None`), and for events.
pub(super) fn poll(ends: Vec<(Option<usize>, c_short)>, timeout: c_int) -> Call {
    call(move |fds| {
        let entry = |&(end, events): &(Option<usize>, c_short)| libc::pollfd {
            fd: end.map_or(-1, |end| fds[end]),
            events,
            revents: 0,
        };
        let mut entries: Vec<_> = ends.iter().map(entry).collect();
        entries.push(libc::pollfd {
            fd: fds[fds.len() - 1],
            events: libc::POLLIN,
            revents: 0,
        });
        let (first, count) = (entries.as_mut_ptr(), entries.len() as libc::nfds_t);
        // SAFETY: valid entries.
        let ready = unsafe { libc::poll(first, count, timeout) };
        let told: Vec<_> = entries.iter().map(|entry| entry.revents).collect();
        format!("{} {told:x?}", plain(ready as isize))
    })
}

/// Numbers that a set of `select`'s holds.
fn fit(fds: &[RawFd]) -> bool {
    fds.iter().all(|&fd| fd < libc::FD_SETSIZE as RawFd)
}

/// `select` for reading some ends and writing others.
pub(super) fn select(read: Vec<usize>, write: Vec<usize>, waits: bool) -> Call {
    call(move |fds| {
        assert!(fit(fds));
        // SAFETY: zeros are an empty set; valid numbers; live sets.
        unsafe {
            let mut sets: [libc::fd_set; 3] = std::mem::zeroed();
            let release = fds[fds.len() - 1];
            let mut most = release + 1;
            libc::FD_SET(release, &mut sets[0]);
            for (set, ends) in sets.iter_mut().zip([&read, &write]) {
                for &end in ends {
                    libc::FD_SET(fds[end], set);
                    most = most.max(fds[end] + 1);
                }
            }
            let mut none: libc::timeval = std::mem::zeroed();
            let limit = if waits {
                std::ptr::null_mut()
            } else {
                &raw mut none
            };
            let [r, w, e] = &mut sets;
            let ready = plain(libc::select(most, r, w, e, limit) as isize);
            let is_in = |set: &libc::fd_set, ends: &[usize]| -> Vec<bool> {
                ends.iter()
                    .map(|&end| libc::FD_ISSET(fds[end], set))
                    .collect()
            };
            format!("{ready} {:?} {:?}", is_in(r, &read), is_in(w, &write))
        }
    })
}

/// An epoll of its own, with some ends.
pub(super) fn epoll(ends: Vec<(usize, u32)>, timeout: c_int) -> Call {
    call(move |fds| {
        // SAFETY: live events, our own descriptor.
        unsafe {
            let epoll = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            let mut added = Vec::new();
            for (at, &(end, events)) in ends.iter().enumerate() {
                let mut event = libc::epoll_event {
                    events,
                    u64: at as u64,
                };
                let add = libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fds[end], &raw mut event);
                added.push(plain(add as isize));
            }
            let mut release = libc::epoll_event {
                events: libc::EPOLLIN as u32,
                u64: 99,
            };
            libc::epoll_ctl(
                epoll,
                libc::EPOLL_CTL_ADD,
                fds[fds.len() - 1],
                &raw mut release,
            );
            let mut events = [libc::epoll_event { events: 0, u64: 0 }; 4];
            let ready = plain(libc::epoll_wait(epoll, events.as_mut_ptr(), 4, timeout) as isize);
            let mut told: Vec<_> = events
                .iter()
                .map(|one| ({ one.u64 }, { one.events }))
                .collect();
            told.sort_unstable();
            libc::close(epoll);
            format!("{added:?} {ready} {told:x?}")
        }
    })
}

pub(super) fn shutdown(end: usize, how: c_int) -> Call {
    // SAFETY: no pointers.
    call(move |fds| plain(unsafe { libc::shutdown(fds[end], how) } as isize))
}

pub(super) fn nonblocking(end: usize, yes: bool) -> Call {
    call(move |fds| {
        let mut yes = c_int::from(yes);
        // SAFETY: an int.
        plain(unsafe { libc::ioctl(fds[end], libc::FIONBIO, &raw mut yes) } as isize)
    })
}

/// What libc says, and what the kernel does.
pub(super) fn flags(ends: Vec<usize>) -> Call {
    call(move |fds| {
        let ask = |&end: &usize| {
            // SAFETY: no pointers.
            let [libc, kernel] = unsafe {
                let asked = libc::syscall(libc::SYS_fcntl, fds[end], libc::F_GETFL);
                [i64::from(libc::fcntl(fds[end], libc::F_GETFL)), asked]
            };
            format!("{libc:x} {kernel:x}")
        };
        ends.iter().map(ask).collect::<Vec<_>>().join(" ")
    })
}

/// The other side goes: its number is `/dev/null`'s from now on.
pub(super) fn replaced(end: usize) -> Call {
    call(move |fds| {
        let null = std::fs::File::open("/dev/null").unwrap();
        // SAFETY: no pointers; the number stays open.
        let new = unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&null), fds[end]) };
        (new == fds[end]).to_string()
    })
}

pub(super) fn splice(from: usize, to: usize, n: usize, flags: c_uint) -> Call {
    let none = std::ptr::null_mut;
    // SAFETY: no pointers.
    call(move |fds| plain(unsafe { libc::splice(fds[from], none(), fds[to], none(), n, flags) }))
}

pub(super) fn tee(from: usize, to: usize, n: usize, flags: c_uint) -> Call {
    // SAFETY: no pointers.
    call(move |fds| plain(unsafe { libc::tee(fds[from], fds[to], n, flags) }))
}

/// Into a pipe or out of it, whichever end this is.
pub(super) fn vmsplice(end: usize, n: usize, flags: c_uint) -> Call {
    call(move |fds| {
        let memory = vec![7_u8; n].leak();
        let part = libc::iovec {
            iov_base: memory.as_mut_ptr().cast::<c_void>(),
            iov_len: n,
        };
        // SAFETY: memory that is never freed.
        plain(unsafe { libc::vmsplice(fds[end], &raw const part, 1, flags) })
    })
}

pub(super) fn sendfile(from: usize, to: usize, at: Option<i64>, n: usize) -> Call {
    call(move |fds| {
        let mut at = at;
        let place = at.as_mut().map_or(std::ptr::null_mut(), std::ptr::from_mut);
        // SAFETY: a place, or none.
        let moved = plain(unsafe { libc::sendfile(fds[to], fds[from], place, n) });
        format!("{moved} {at:?}")
    })
}
