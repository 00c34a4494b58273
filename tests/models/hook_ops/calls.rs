//! The coroutines that make hooked calls, and the plain calls of their peer.

use std::cell::RefCell;
use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use crore::JoinHandle;
use crore::sync::channel::{self, Sender};

use super::byte;

/// Of the user's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    In,
    Out,
}

/// One hooked call and what its result is judged by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    fd: RawFd,
    how: How,
    pub(crate) len: usize,
    /// Bytes that were there to be read when it began.
    pub(crate) there: usize,
    /// Where the stream is, for what is written.
    place: u64,
    pub(crate) peeks: bool,
    /// It waits for all.
    pub(crate) all: bool,
    /// The user made it non-blocking, at some time of the call.
    pub(crate) may_refuse: bool,
    /// The user's time limit may end it.
    pub(crate) limited: bool,
    /// It was non-blocking from the beginning.
    never_waits: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Plain,
    Vector,
    /// `recv` or `send`, with these flags.
    Flags(libc::c_int),
    /// `recvmsg` or `sendmsg`.
    Message,
    /// After a `poll` without a time limit.
    Polled,
}

/// A call that has ended.
pub(crate) struct Done {
    pub(crate) call: Call,
    pub(crate) result: Result<usize, libc::c_int>,
    pub(crate) bytes: Vec<u8>,
}

/// A coroutine that makes calls in one direction.
pub(crate) struct Seat {
    pub(crate) direction: Direction,
    tell: Sender<Call>,
    now: Option<Call>,
    done: Rc<RefCell<Option<Done>>>,
    handle: JoinHandle<()>,
    /// The user's flag was set since the call began. Such a call may be
    /// refused when it looks again, or go on, as in the kernel.
    pub(crate) may_refuse: bool,
    /// The same for a time limit.
    pub(crate) may_be_late: bool,
    /// The user has set a time limit.
    pub(crate) limited: bool,
}

impl Seat {
    pub(crate) fn spawn(direction: Direction) -> Self {
        let (tell, calls) = channel::unbounded::<Call>();
        let done = Rc::new(RefCell::new(None));
        let theirs = Rc::clone(&done);
        let handle = crore::spawn_local(move || {
            for call in calls {
                let mut bytes = match direction {
                    Direction::In => vec![0; call.len],
                    Direction::Out => (call.place..call.place + call.len as u64)
                        .map(|place| byte(direction, place))
                        .collect(),
                };
                let result = make(direction, &call, &mut bytes);
                *theirs.borrow_mut() = Some(Done {
                    call,
                    result,
                    bytes,
                });
            }
        });
        Self {
            direction,
            tell,
            now: None,
            done,
            handle,
            may_refuse: false,
            may_be_late: false,
            limited: false,
        }
    }

    #[allow(clippy::too_many_arguments, reason = "each is a fact about the call")]
    pub(crate) fn start(
        &mut self,
        fd: RawFd,
        how: u8,
        len: usize,
        there: usize,
        nonblocking: bool,
        socket: bool,
        place: u64,
    ) {
        if self.now.is_some() {
            return;
        }
        let how = match how % 8 {
            0 | 1 => How::Plain,
            2 => How::Vector,
            3 if socket => How::Flags(libc::MSG_DONTWAIT),
            4 if socket => How::Flags(0),
            5 if socket && self.direction == Direction::In => How::Flags(libc::MSG_WAITALL),
            6 if socket && self.direction == Direction::In => How::Flags(libc::MSG_PEEK),
            6 if socket => How::Message,
            _ => How::Polled,
        };
        let now = how == How::Flags(libc::MSG_DONTWAIT);
        let call = Call {
            fd,
            how,
            len,
            there,
            place,
            peeks: how == How::Flags(libc::MSG_PEEK),
            all: how == How::Flags(libc::MSG_WAITALL),
            may_refuse: nonblocking || now,
            limited: self.limited,
            never_waits: (nonblocking || now) && how != How::Polled,
        };
        self.may_refuse = call.may_refuse;
        self.may_be_late = call.limited;
        self.now = Some(call);
        self.tell.send(call).expect("the coroutine lives");
    }

    /// What the call came to, once.
    pub(crate) fn done(&mut self) -> Option<Done> {
        let mut done = self.done.borrow_mut().take()?;
        self.now = None;
        done.call.may_refuse |= self.may_refuse;
        done.call.limited |= self.may_be_late;
        Some(done)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.now.is_none()
    }

    /// Whether the call must not go on waiting, ready or not.
    pub(crate) fn must_end(&self) -> bool {
        let ends = |call: &Call| call.never_waits || (call.limited && call.how != How::Polled);
        self.now.as_ref().is_some_and(ends)
    }

    /// Whether a read may have got a part and waits for the rest.
    pub(crate) fn collects(&self) -> bool {
        self.now.as_ref().is_some_and(|call| call.all)
    }

    /// Bytes that may be written and not reported.
    pub(crate) fn under_way(&self) -> usize {
        self.now.as_ref().map_or(0, |call| call.len)
    }

    pub(crate) fn end(self) {
        drop(self.tell);
        self.handle.join().expect("it ends when nobody tells it");
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.now.fmt(f)
    }
}

/// Makes the hooked call.
fn make(direction: Direction, call: &Call, bytes: &mut [u8]) -> Result<usize, libc::c_int> {
    let (fd, at, len) = (call.fd, bytes.as_mut_ptr(), bytes.len());
    let reads = direction == Direction::In;
    // Two pieces, one of which may be empty.
    let (one, two) = bytes.split_at_mut(len / 3);
    let mut pieces = [one, two].map(|piece| libc::iovec {
        iov_base: piece.as_mut_ptr().cast(),
        iov_len: piece.len(),
    });
    if call.how == How::Polled {
        let mut entry = libc::pollfd {
            fd,
            events: if reads { libc::POLLIN } else { libc::POLLOUT },
            revents: 0,
        };
        // SAFETY: one entry.
        let ready = unsafe { libc::poll(&mut entry, 1, -1) };
        assert!(
            ready == 1 && entry.revents != 0,
            "poll says {ready}, error {}",
            errno()
        );
    }
    // SAFETY: all pointers lead to `bytes`, with its length.
    let result = unsafe {
        match call.how {
            How::Plain | How::Polled if reads => libc::read(fd, at.cast(), len),
            How::Plain | How::Polled => libc::write(fd, at.cast(), len),
            How::Vector if reads => libc::readv(fd, pieces.as_ptr(), 2),
            How::Vector => libc::writev(fd, pieces.as_ptr(), 2),
            How::Flags(flags) if reads => libc::recv(fd, at.cast(), len, flags),
            How::Flags(flags) => libc::send(fd, at.cast(), len, flags),
            How::Message => {
                let mut message: libc::msghdr = std::mem::zeroed();
                message.msg_iov = pieces.as_mut_ptr();
                message.msg_iovlen = 2;
                if reads {
                    libc::recvmsg(fd, &mut message, 0)
                } else {
                    libc::sendmsg(fd, &message, 0)
                }
            }
        }
    };
    usize::try_from(result).map_err(|_| errno())
}

fn errno() -> libc::c_int {
    std::io::Error::last_os_error()
        .raw_os_error()
        .expect("an error of libc")
}

pub(crate) fn set_nonblocking(fd: RawFd, yes: bool, by_ioctl: bool) {
    // SAFETY: a live number where one is asked for.
    let result = unsafe {
        if by_ioctl {
            let mut value = libc::c_int::from(yes);
            libc::ioctl(fd, libc::FIONBIO, &raw mut value)
        } else {
            let flags = libc::fcntl(fd, libc::F_GETFL) & !libc::O_NONBLOCK;
            let flag = if yes { libc::O_NONBLOCK } else { 0 };
            libc::fcntl(fd, libc::F_SETFL, flags | flag)
        }
    };
    assert_eq!(result, 0);
}

fn set<T>(fd: &OwnedFd, name: libc::c_int, value: &T) {
    let size = size_of::<T>() as libc::socklen_t;
    // SAFETY: a live value of the size that is said.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            std::ptr::from_ref(value).cast(),
            size,
        )
    };
    // Some options are refused on a connection that is gone.
    assert!(result == 0 || errno() == libc::EINVAL);
}

pub(crate) fn set_number(fd: &OwnedFd, name: libc::c_int, value: libc::c_int) {
    set(fd, name, &value);
}

/// `SO_SNDTIMEO` or `SO_RCVTIMEO`.
pub(crate) fn set_limit(fd: &OwnedFd, write: bool, micros: i64) {
    let name = if write {
        libc::SO_SNDTIMEO
    } else {
        libc::SO_RCVTIMEO
    };
    let time = libc::timeval {
        tv_sec: 0,
        tv_usec: micros,
    };
    set(fd, name, &time);
}

pub(crate) fn reset_on_close(fd: &OwnedFd) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    set(fd, libc::SO_LINGER, &linger);
}

pub(crate) fn readable_bytes(fd: RawFd) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: a place for a number.
    let result = unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut count) };
    if result == 0 { count as usize } else { 0 }
}

/// Past the hooks.
pub(crate) mod plain {
    use super::{Direction, RawFd, errno};

    fn answer(result: isize) -> Result<usize, libc::c_int> {
        usize::try_from(result).map_err(|_| errno())
    }

    pub(crate) fn read(fd: RawFd, bytes: &mut [u8]) -> Result<usize, libc::c_int> {
        let (at, len) = (bytes.as_mut_ptr().cast(), bytes.len());
        // SAFETY: a live buffer.
        crore::unhooked(|| answer(unsafe { libc::read(fd, at, len) }))
    }

    pub(crate) fn write(fd: RawFd, bytes: &[u8]) -> Result<usize, libc::c_int> {
        let (at, len) = (bytes.as_ptr().cast(), bytes.len());
        // SAFETY: a live buffer.
        crore::unhooked(|| answer(unsafe { libc::write(fd, at, len) }))
    }

    pub(crate) fn recv_now(fd: RawFd, bytes: &mut [u8]) -> Result<usize, libc::c_int> {
        let (at, len) = (bytes.as_mut_ptr().cast(), bytes.len());
        // SAFETY: a live buffer.
        crore::unhooked(|| answer(unsafe { libc::recv(fd, at, len, libc::MSG_DONTWAIT) }))
    }

    pub(crate) fn is_ready(fd: RawFd, direction: Direction) -> bool {
        let mut entry = libc::pollfd {
            fd,
            events: match direction {
                Direction::In => libc::POLLIN,
                Direction::Out => libc::POLLOUT,
            },
            revents: 0,
        };
        // SAFETY: one entry.
        crore::unhooked(|| unsafe { libc::poll(&mut entry, 1, 0) }) > 0
    }

    pub(crate) fn is_nonblocking(fd: RawFd) -> bool {
        // SAFETY: no pointers.
        let flags = crore::unhooked(|| unsafe { libc::fcntl(fd, libc::F_GETFL) });
        flags & libc::O_NONBLOCK != 0
    }
}
