//! Calls that move bytes, and the same calls with room for a part of them.

use std::ffi::{c_int, c_long};
use std::ptr::{with_exposed_provenance, with_exposed_provenance_mut};

use libc::{iovec, msghdr};

/// What a call moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moves {
    /// To the program.
    pub(super) reads: bool,
    pub(super) bytes: usize,
    /// `MSG_…`.
    pub(super) flags: c_int,
}

/// Where a call has its buffers.
enum BufferPlace {
    /// One, behind its descriptor.
    Here,
    Vectors,
    Message,
}

/// Whether a call moves bytes, whether to the program, and where they are.
fn form(number: c_long) -> Option<(bool, BufferPlace)> {
    Some(match number {
        libc::SYS_read | libc::SYS_pread64 | libc::SYS_recvfrom => (true, BufferPlace::Here),
        libc::SYS_readv | libc::SYS_preadv | libc::SYS_preadv2 => (true, BufferPlace::Vectors),
        libc::SYS_recvmsg => (true, BufferPlace::Message),
        libc::SYS_write | libc::SYS_pwrite64 | libc::SYS_sendto => (false, BufferPlace::Here),
        libc::SYS_writev | libc::SYS_pwritev | libc::SYS_pwritev2 => (false, BufferPlace::Vectors),
        libc::SYS_sendmsg => (false, BufferPlace::Message),
        _ => return None,
    })
}

/// What a call moves, if it is one of those.
///
/// # Safety
///
/// - As for the system call.
pub(super) unsafe fn moves(number: c_long, args: [usize; 6]) -> Option<Moves> {
    let [_, place, len, flags, ..] = args;
    let (reads, form) = form(number)?;
    // SAFETY: the caller's buffers.
    let bytes = unsafe {
        match form {
            BufferPlace::Here => len,
            BufferPlace::Vectors => sum(vectors(place, len)),
            BufferPlace::Message => {
                let header = with_exposed_provenance::<msghdr>(place).read_unaligned();
                sum(vectors(
                    header.msg_iov.expose_provenance(),
                    header.msg_iovlen as _,
                ))
            }
        }
    };
    let flags = match number {
        libc::SYS_recvfrom | libc::SYS_sendto => flags,
        libc::SYS_recvmsg | libc::SYS_sendmsg => len,
        _ => 0,
    };
    Some(Moves {
        reads,
        bytes,
        flags: flags as c_int,
    })
}

/// Where the bytes go that a call reads, if it is one of those.
///
/// # Safety
///
/// - As for the system call.
pub(super) unsafe fn room(number: c_long, args: [usize; 6]) -> Option<Vec<iovec>> {
    let [_, place, len, ..] = args;
    match form(number)? {
        (true, BufferPlace::Here) => Some(vec![iovec {
            iov_base: with_exposed_provenance_mut(place),
            iov_len: len,
        }]),
        // SAFETY: the caller's buffers.
        (true, BufferPlace::Vectors) => Some(unsafe { vectors(place, len) }.to_vec()),
        _ => None,
    }
}

/// Makes a call with room for the first `most` of its bytes.
///
/// # Safety
///
/// - As for the system call, which [moves](moves) bytes, and which `call` makes.
pub(super) unsafe fn with_part<T>(
    number: c_long,
    mut args: [usize; 6],
    most: usize,
    call: impl FnOnce([usize; 6]) -> T,
) -> T {
    let [_, place, len, ..] = args;
    // SAFETY: the caller's buffers and header.
    unsafe {
        match form(number) {
            Some((_, BufferPlace::Vectors)) => {
                let part = first(vectors(place, len), most);
                args[1] = part.as_ptr().expose_provenance();
                args[2] = part.len();
                call(args)
            }
            Some((reads, BufferPlace::Message)) => {
                let theirs = with_exposed_provenance_mut::<msghdr>(place);
                let whole = theirs.read_unaligned();
                let all = vectors(whole.msg_iov.expose_provenance(), whole.msg_iovlen as _);
                let mut part = first(all, most);
                let mut header = whole;
                header.msg_iov = part.as_mut_ptr();
                header.msg_iovlen = part.len() as _;
                args[1] = (&raw mut header).expose_provenance();
                let result = call(args);
                if reads {
                    header.msg_iov = whole.msg_iov;
                    header.msg_iovlen = whole.msg_iovlen;
                    theirs.write_unaligned(header);
                }
                result
            }
            _ => {
                args[2] = len.min(most);
                call(args)
            }
        }
    }
}

/// # Safety
///
/// - `count` vectors may be read at `place`, which stay as long as they are used.
unsafe fn vectors<'a>(place: usize, count: usize) -> &'a [iovec] {
    /// The kernel takes no more (`UIO_MAXIOV`).
    const MOST: usize = 1024;
    if place == 0 || count == 0 || count > MOST {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(with_exposed_provenance(place), count) }
}

fn sum(vectors: &[iovec]) -> usize {
    let lens = vectors.iter().map(|one| one.iov_len);
    lens.fold(0, usize::saturating_add)
}

fn first(vectors: &[iovec], mut most: usize) -> Vec<iovec> {
    let mut part = vectors.to_vec();
    for one in &mut part {
        one.iov_len = one.iov_len.min(most);
        most -= one.iov_len;
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use crate::sys::syscall::syscall;

    fn vector(bytes: &mut [u8]) -> iovec {
        iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        }
    }

    /// Each form of call moves the first bytes, and says what it would have moved.
    #[test]
    fn every_call_moves_its_first_bytes() {
        let (here, mut there) = UnixStream::pair().unwrap();
        let fd = here.as_raw_fd() as usize;
        let (mut one, mut two) = (*b"abc", *b"defgh");
        let parts = [vector(&mut one), vector(&mut two)];
        let at = parts.as_ptr().expose_provenance();
        // SAFETY: zeros are a header.
        let mut header: msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = parts.as_ptr().cast_mut();
        header.msg_iovlen = parts.len() as _;
        let message = (&raw mut header).expose_provenance();
        let bytes = b"abcdefgh".as_ptr().expose_provenance();
        let own = usize::MAX;
        let writes = [
            (libc::SYS_write, [fd, bytes, 8, 0, 0, 0]),
            (libc::SYS_writev, [fd, at, 2, 0, 0, 0]),
            (libc::SYS_pwritev2, [fd, at, 2, own, own, 0]),
            (libc::SYS_sendto, [fd, bytes, 8, 0, 0, 0]),
            (libc::SYS_sendmsg, [fd, message, 0, 0, 0, 0]),
        ];
        for (number, args) in writes {
            // SAFETY: buffers of ours.
            let (moves, moved) = unsafe {
                let make = |args| syscall(number, args);
                (
                    moves(number, args).unwrap(),
                    with_part(number, args, 5, make),
                )
            };
            assert_eq!((moves.bytes, moves.reads, moved), (8, false, Ok(5)));
            let mut got = [0; 9];
            assert_eq!(there.read(&mut got).unwrap(), 5);
            assert_eq!(&got[..5], b"abcde");
        }
        assert_eq!(header.msg_iov, parts.as_ptr().cast_mut());
    }

    #[test]
    fn a_message_that_is_received_in_part_has_its_header_back() {
        let (here, there) = UnixStream::pair().unwrap();
        std::io::Write::write_all(&mut &there, b"abcdefgh").unwrap();
        let (mut one, mut two) = ([0; 3], [0; 5]);
        let parts = [vector(&mut one), vector(&mut two)];
        // SAFETY: zeros are a header.
        let mut header: msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = parts.as_ptr().cast_mut();
        header.msg_iovlen = parts.len() as _;
        header.msg_flags = 77;
        let place = (&raw mut header).expose_provenance();
        let args = [
            here.as_raw_fd() as usize,
            place,
            libc::MSG_PEEK as usize,
            0,
            0,
            0,
        ];
        let number = libc::SYS_recvmsg;
        // SAFETY: a header with places of ours.
        let (moves, moved) = unsafe {
            let make = |args| syscall(number, args);
            (
                moves(number, args).unwrap(),
                with_part(number, args, 4, make),
            )
        };
        let expected = Moves {
            reads: true,
            bytes: 8,
            flags: libc::MSG_PEEK,
        };
        assert_eq!((moves, moved), (expected, Ok(4)));
        assert_eq!(
            (header.msg_iov, header.msg_iovlen as usize),
            (parts.as_ptr().cast_mut(), 2)
        );
        assert_eq!(header.msg_flags, 0);
        assert_eq!((&one, &two), (b"abc", b"d\0\0\0\0"));
    }

    #[test]
    fn other_calls_move_nothing() {
        // SAFETY: nothing is looked at.
        assert_eq!(unsafe { moves(libc::SYS_close, [0; 6]) }, None);
    }
}
