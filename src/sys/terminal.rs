//! Terminals: how they are read (`termios`), and what is there to read.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::time::Duration;

use super::stat::kind;
use super::syscall::{Errno, sys};

/// The kernel's `struct termios`, which is not libc's.
#[repr(C)]
struct Termios {
    _input: u32,
    _output: u32,
    _control: u32,
    local: u32,
    _line: u8,
    characters: [u8; 19],
}

/// What a `read` of a terminal waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience {
    /// `VMIN`: the bytes that are waited for.
    pub(crate) least: usize,
    /// `VTIME`: the time between two bytes, or, without `VMIN`, for the first.
    pub(crate) time: Option<Duration>,
}

impl Patience {
    /// What is there is taken, or nothing.
    pub(crate) const NONE: Self = Self {
        least: 0,
        time: None,
    };

    /// A terminal with lines (`ICANON`) counts none of their bytes, nor does the master
    /// of a pseudoterminal.
    pub(crate) fn of(fd: RawFd) -> Result<Self, Errno> {
        let termios = termios(fd)?;
        let counts = termios.local & libc::ICANON == 0 && !is_master(fd);
        let [time, least] = match counts {
            true => [libc::VTIME, libc::VMIN].map(|at| termios.characters[at]),
            false => [0, 1],
        };
        Ok(Self {
            least: least.into(),
            time: (time > 0).then(|| Duration::from_millis(100) * time.into()),
        })
    }
}

fn termios(fd: RawFd) -> Result<Termios, Errno> {
    let mut termios = MaybeUninit::<Termios>::zeroed();
    // SAFETY: a place for the kernel's structure; zeros are a valid one.
    unsafe {
        sys!(SYS_ioctl, fd, libc::TCGETS, termios.as_mut_ptr())?;
        Ok(termios.assume_init())
    }
}

pub(crate) fn is_terminal(fd: RawFd) -> bool {
    kind(fd) == libc::S_IFCHR && termios(fd).is_ok()
}

/// The side of a pseudoterminal that programs read which are no terminal's users.
pub(crate) fn is_master(fd: RawFd) -> bool {
    number(fd, libc::TIOCGPTN).is_ok()
}

/// How many bytes can be read at once.
pub(crate) fn input(fd: RawFd) -> Result<usize, Errno> {
    number(fd, libc::FIONREAD).map(|bytes| usize::try_from(bytes).unwrap_or(0))
}

fn number(fd: RawFd, what: libc::c_ulong) -> Result<c_int, Errno> {
    let mut number: c_int = 0;
    // SAFETY: a place for an int, which these write.
    unsafe { sys!(SYS_ioctl, fd, what, &raw mut number) }.map(|_| number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::{AsRawFd, FromRawFd};

    #[test]
    fn a_terminal_is_known_with_its_ways_and_its_master() {
        let (mut master, mut other) = (-1, -1);
        // SAFETY: places for two descriptors, and a termios that is valid as zeros.
        let (master, other) = unsafe {
            let mut raw: libc::termios = std::mem::zeroed();
            (raw.c_cc[libc::VMIN], raw.c_cc[libc::VTIME]) = (4, 10);
            let none = std::ptr::null_mut();
            let done = libc::openpty(&mut master, &mut other, none, &raw, std::ptr::null());
            assert_eq!(done, 0);
            (File::from_raw_fd(master), File::from_raw_fd(other))
        };
        let [master, other] = [&master, &other].map(AsRawFd::as_raw_fd);
        assert!(is_terminal(master) && is_terminal(other) && !is_terminal(-1));
        assert!(is_master(master) && !is_master(other));
        let time = Some(Duration::from_secs(1));
        let usual = Patience {
            least: 1,
            time: None,
        };
        assert_eq!(Patience::of(other), Ok(Patience { least: 4, time }));
        assert_eq!(Patience::of(master), Ok(usual));
        assert_eq!((input(other), input(-1)), (Ok(0), Err(libc::EBADF)));
        let null = File::open("/dev/null").unwrap();
        assert!(!is_terminal(null.as_raw_fd()));
    }
}
