//! What the kernel tells of a thread in `/proc`, by files that are kept open: so who looks
//! at it again and again never takes a descriptor that the program may need.

use std::ffi::CString;
use std::time::Duration;

use super::fd::own::OwnFd;
use super::kernel_thread::{KernelThread, WaitsIn};
use super::proc;

/// A thread's files; what could not be opened tells nothing.
pub(crate) struct ThreadFiles {
    thread: KernelThread,
    stat: Option<OwnFd>,
    schedstat: Option<OwnFd>,
    syscall: Option<OwnFd>,
}

impl ThreadFiles {
    pub(crate) fn open(thread: KernelThread) -> Self {
        let open = |name| {
            let path = format!("/proc/self/task/{}/{name}", thread.number());
            proc::open(&CString::new(path).ok()?).ok().map(OwnFd::new)
        };
        Self {
            thread,
            stat: open("stat"),
            schedstat: open("schedstat"),
            syscall: open("syscall"),
        }
    }

    pub(crate) fn thread(&self) -> KernelThread {
        self.thread
    }

    /// For how long it has wanted a processor and had none, as far as that is over; nothing
    /// where the kernel does not count it.
    pub(crate) fn run_delay(&self) -> Option<Duration> {
        let said = proc::contents(self.schedstat.as_ref()?).ok()?;
        let nanos = said.split_whitespace().nth(1)?.parse().ok()?;
        Some(Duration::from_nanos(nanos))
    }

    /// The system call that it waits in; nothing if it runs, or would if a processor
    /// were free, and where the kernel does not say.
    pub(crate) fn waits_in(&self) -> Option<WaitsIn> {
        let stat = proc::contents(self.stat.as_ref()?).ok()?;
        // The name before it is in parentheses, and may hold any character.
        let state = stat.rsplit(") ").next()?.chars().next()?;
        if !matches!(state, 'S' | 'D') {
            return None;
        }
        WaitsIn::parse(&proc::contents(self.syscall.as_ref()?).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::syscall::sys;
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::sync::mpsc;
    use std::thread;

    #[test]
    fn one_that_waits_says_in_which_call() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let fd = reader.as_raw_fd();
        let (say, said) = mpsc::channel();
        let thread = thread::spawn(move || {
            say.send(KernelThread::here()).unwrap();
            let mut byte = [0u8; 1];
            // SAFETY: a live buffer of one byte.
            unsafe { sys!(SYS_read, reader.as_raw_fd(), byte.as_mut_ptr(), 1) }
        });
        let other = ThreadFiles::open(said.recv().unwrap());
        let waits = loop {
            if let Some(waits) = other.waits_in() {
                break waits;
            }
            thread::yield_now();
        };
        writer.write_all(b"x").unwrap();
        assert_eq!(thread.join().unwrap(), Ok(1));
        assert_eq!(waits.to_string(), format!("read on descriptor {fd}"));
        assert_eq!(ThreadFiles::open(KernelThread::here()).waits_in(), None);
        // It is gone.
        assert_eq!(other.waits_in(), None);
    }
}
