//! [`Io`]: try, and where that would block, park until ready and try again.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use super::{park, plain};
use crate::driver::Direction;
use crate::sched::{self, CurrentTask};
use crate::sys::fd::nonblocking::set_nonblocking;

/// Anything with a descriptor, made to park its coroutine where it would block.
///
/// The descriptor is switched to non-blocking mode while it is in here, which
/// every duplicate of it sees. [`into_inner`](Self::into_inner) switches back.
/// Where the inner type reads and writes, so does this, also through a shared
/// reference if the inner type does: one coroutine may read while another
/// writes. On a plain thread the thread blocks.
///
/// With the hooks active, plain `std::net` does the same without it.
///
/// ```
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
/// # fn main() -> std::io::Result<()> {
/// crore::run(|| {
///     let (here, there) = UnixStream::pair()?;
///     let (mut here, mut there) = (crore::io::Io::new(here)?, crore::io::Io::new(there)?);
///     let other = crore::spawn(move || there.write_all(b"hello"));
///     let mut five = [0; 5];
///     here.read_exact(&mut five)?;
///     assert_eq!(&five, b"hello");
///     other.join().unwrap()
/// })?
/// # }
/// ```
pub struct Io<T: AsFd> {
    // Fields are dropped in this order: the reactor forgets the number while
    // it still names our descriptor.
    renew_fd: RenewFd,
    inner: T,
    /// The descriptor blocked before: `into_inner` gives it back that way.
    was_blocking: bool,
}

/// Tells the reactor that a number will mean another descriptor.
struct RenewFd(RawFd);

impl Drop for RenewFd {
    fn drop(&mut self) {
        sched::renew_fd(self.0);
    }
}

impl<T: AsFd> Io<T> {
    /// Takes `inner` and makes its descriptor non-blocking.
    ///
    /// # Errors
    ///
    /// What `fcntl` says.
    ///
    /// # Examples
    ///
    /// ```
    /// let (reader, writer) = std::io::pipe()?;
    /// let (mut reader, mut writer) = (crore::io::Io::new(reader)?, crore::io::Io::new(writer)?);
    /// crore::run(|| {
    ///     use std::io::{Read, Write};
    ///     let other = crore::spawn(move || writer.write_all(b"hi"));
    ///     let mut two = [0; 2];
    ///     reader.read_exact(&mut two)?; // parks; the other coroutine runs
    ///     assert_eq!(&two, b"hi");
    ///     other.join().unwrap()
    /// })??;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn new(inner: T) -> io::Result<Self> {
        let was_blocking = !set_nonblocking(inner.as_fd(), true)?;
        let renew_fd = RenewFd(inner.as_fd().as_raw_fd());
        Ok(Self {
            renew_fd,
            inner,
            was_blocking,
        })
    }

    /// For what is fresh and non-blocking from birth.
    pub(super) fn born_nonblocking(inner: T) -> Self {
        let renew_fd = RenewFd(inner.as_fd().as_raw_fd());
        Self {
            renew_fd,
            inner,
            was_blocking: true,
        }
    }

    /// Gives the inner value back, blocking if it was so before.
    ///
    /// # Errors
    ///
    /// What `fcntl` says; the value is dropped then.
    ///
    /// # Examples
    ///
    /// ```
    /// let (reader, _writer) = std::io::pipe()?;
    /// let io = crore::io::Io::new(reader)?;
    /// let _reader: std::io::PipeReader = io.into_inner()?; // blocks again, as it did before
    /// # std::io::Result::Ok(())
    /// ```
    pub fn into_inner(self) -> io::Result<T> {
        if self.was_blocking {
            set_nonblocking(self.inner.as_fd(), false)?;
        }
        let Self {
            renew_fd, inner, ..
        } = self;
        drop(renew_fd);
        Ok(inner)
    }

    /// The inner value.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// The inner value. Keep its descriptor, and keep that non-blocking.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// Waits until there is something to read. See [`readable`](super::readable).
    ///
    /// # Errors
    ///
    /// As for [`readable`](super::readable).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::Write;
    /// let (reader, mut writer) = std::io::pipe()?;
    /// let reader = crore::io::Io::new(reader)?;
    /// crore::run(|| {
    ///     writer.write_all(b"hi")?;
    ///     reader.readable() // does not read
    /// })??;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn readable(&self) -> io::Result<()> {
        super::readable(self)
    }

    /// Waits until bytes are taken. See [`writable`](super::writable).
    ///
    /// # Errors
    ///
    /// As for [`writable`](super::writable).
    pub fn writable(&self) -> io::Result<()> {
        super::writable(self)
    }

    /// Calls `f` until it says something else than `WouldBlock`, waiting for
    /// something to read between. For reading calls that are not [`Read`].
    ///
    /// # Errors
    ///
    /// What `f` says, and what [`readable`](super::readable) says.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let socket = crore::io::Io::new(std::net::UdpSocket::bind("127.0.0.1:0")?)?;
    /// socket.get_ref().send_to(b"me", socket.get_ref().local_addr()?)?;
    /// let mut two = [0; 2];
    /// assert_eq!(socket.read_with(|s| s.peek(&mut two))?, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_with<R>(&self, mut f: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        retry(Direction::Read, &mut &self.inner, |inner| f(inner))
    }

    /// The same for writing calls.
    ///
    /// # Errors
    ///
    /// What `f` says, and what [`writable`](super::writable) says.
    pub fn write_with<R>(&self, mut f: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        retry(Direction::Write, &mut &self.inner, |inner| f(inner))
    }
}

/// Calls `f` on `inner` until it says something else than `WouldBlock`.
fn retry<I, R>(
    dir: Direction,
    inner: &mut I,
    mut f: impl FnMut(&mut I) -> io::Result<R>,
) -> io::Result<R>
where
    I: AsFd,
{
    loop {
        let cx = CurrentTask::current();
        if let Some(cx) = cx {
            plain(cx.check_for(dir))?;
        }
        let try_it = cx.is_none_or(|cx| cx.worth_trying(inner.as_fd().as_raw_fd(), dir));
        if try_it {
            match f(inner) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    if let Some(cx) = cx {
                        cx.spend();
                    }
                    return result;
                }
            }
        }
        park(inner.as_fd(), dir)?;
    }
}

/// [`retry`] for `len` bytes: a short transfer on a stream clears its readiness.
fn transfer<I: AsFd>(
    dir: Direction,
    inner: &mut I,
    len: usize,
    mut f: impl FnMut(&mut I) -> io::Result<usize>,
) -> io::Result<usize> {
    if len == 0 {
        return f(inner);
    }
    retry(dir, inner, |inner| {
        let moved = f(inner)?;
        let fd = inner.as_fd().as_raw_fd();
        if let Some(cx) =
            CurrentTask::current().filter(|cx| 0 < moved && moved < len && cx.is_stream(fd))
        {
            cx.clear_readiness(fd, dir);
        }
        Ok(moved)
    })
}

impl<T: AsFd + Read> Read for Io<T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        transfer(
            Direction::Read,
            &mut Mut(&mut self.inner),
            buf.len(),
            |inner| inner.0.read(buf),
        )
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let len = bufs.iter().map(|b| b.len()).sum();
        transfer(Direction::Read, &mut Mut(&mut self.inner), len, |inner| {
            inner.0.read_vectored(bufs)
        })
    }
}

impl<T: AsFd + Write> Write for Io<T> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        transfer(
            Direction::Write,
            &mut Mut(&mut self.inner),
            buf.len(),
            |inner| inner.0.write(buf),
        )
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let len = bufs.iter().map(|b| b.len()).sum();
        transfer(Direction::Write, &mut Mut(&mut self.inner), len, |inner| {
            inner.0.write_vectored(bufs)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        retry(Direction::Write, &mut Mut(&mut self.inner), |inner| {
            inner.0.flush()
        })
    }
}

impl<T: AsFd> Read for &Io<T>
where
    for<'a> &'a T: Read,
{
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        transfer(Direction::Read, &mut &self.inner, buf.len(), |inner| {
            (&**inner).read(buf)
        })
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let len = bufs.iter().map(|b| b.len()).sum();
        transfer(Direction::Read, &mut &self.inner, len, |inner| {
            (&**inner).read_vectored(bufs)
        })
    }
}

impl<T: AsFd> Write for &Io<T>
where
    for<'a> &'a T: Write,
{
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        transfer(Direction::Write, &mut &self.inner, buf.len(), |inner| {
            (&**inner).write(buf)
        })
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let len = bufs.iter().map(|b| b.len()).sum();
        transfer(Direction::Write, &mut &self.inner, len, |inner| {
            (&**inner).write_vectored(bufs)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        retry(Direction::Write, &mut &self.inner, |inner| {
            (&**inner).flush()
        })
    }
}

/// A mutable reference as an owner of its descriptor.
struct Mut<'a, T>(&'a mut T);

impl<T: AsFd> AsFd for Mut<'_, T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl<T: AsFd> AsFd for Io<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl<T: AsFd + fmt::Debug> fmt::Debug for Io<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Io").field(&self.inner).finish()
    }
}
