//! A thread as others of its process see it: how long it has run, and what it waits for
//! in the kernel.

use std::ffi::c_int;
use std::fmt;
use std::io;
use std::time::Duration;

use super::syscall::{self, sys};

/// What asks a thread what it does: by default it is ignored, and it is not used for much.
pub(crate) const ASK: c_int = libc::SIGURG;

/// A thread of this process, by the kernel's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KernelThread(u32);

/// A system call that a thread waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WaitsIn {
    number: libc::c_long,
    first: u64,
}

impl KernelThread {
    pub(crate) fn here() -> Self {
        Self(syscall::tid())
    }

    pub(crate) fn number(self) -> u32 {
        self.0
    }

    pub(crate) fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// The processor time that it has used.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if there is no such thread.
    pub(crate) fn cpu_time(self) -> io::Result<Duration> {
        /// The kernel's flags for a thread's clock, beside the thread's number.
        const PER_THREAD: c_int = 4;
        const SCHEDULED: c_int = 2;
        let clock = (!(self.0 as c_int) << 3) | PER_THREAD | SCHEDULED;
        // SAFETY: plain integers, for which all zeros are valid.
        let mut time: libc::timespec = unsafe { std::mem::zeroed() };
        // SAFETY: the call writes one timespec to our local.
        let answer = unsafe { sys!(SYS_clock_gettime, clock, &raw mut time) };
        syscall::to_io(answer)?;
        Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }

    /// Sends it a signal that carries a number.
    ///
    /// # Errors
    ///
    /// `NotFound` (`ESRCH`) if there is no such thread; too many signals are queued.
    pub(crate) fn send(self, signal: c_int, value: u32) -> io::Result<()> {
        // SAFETY: all zeros are a valid siginfo.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        info.si_signo = signal;
        info.si_code = libc::SI_QUEUE;
        let queued = (&raw mut info).cast::<Queued>();
        // SAFETY: a siginfo begins with these fields, and is larger.
        unsafe {
            (*queued).process = std::process::id();
            (*queued).value = value as usize;
        }
        // SAFETY: a live siginfo; a signal has no other effect than its handler's.
        let answer = unsafe {
            sys!(
                SYS_rt_tgsigqueueinfo,
                std::process::id(),
                self.0,
                signal,
                &raw const info
            )
        };
        syscall::to_io(answer).map(drop)
    }
}

/// The kernel's `siginfo_t` of a signal that was queued.
#[repr(C)]
pub(crate) struct Queued {
    _number: c_int,
    _errno: c_int,
    _code: c_int,
    _padding: c_int,
    pub(crate) process: u32,
    _user: u32,
    pub(crate) value: usize,
}

impl WaitsIn {
    /// What the kernel says in `/proc/PID/syscall`: a number, six arguments, two
    /// addresses.
    pub(crate) fn parse(said: &str) -> Option<Self> {
        let mut words = said.split_whitespace();
        let number = words.next()?.parse().ok()?;
        let first = words.next()?.strip_prefix("0x")?;
        let first = u64::from_str_radix(first, 16).ok()?;
        Some(Self { number, first })
    }
}

/// Makes a table of system calls' names.
macro_rules! names {
    ($($(#[$attribute:meta])* $number:ident)*) => {
        &[$($(#[$attribute])* (libc::$number, stringify!($number))),*]
    };
}

/// Calls that may wait, and whose first argument is a descriptor.
const OF_DESCRIPTOR: &[(libc::c_long, &str)] = names! {
    SYS_read SYS_readv SYS_pread64 SYS_preadv SYS_preadv2 SYS_write SYS_writev SYS_pwrite64
    SYS_pwritev SYS_pwritev2 SYS_close SYS_fsync SYS_fdatasync SYS_ftruncate SYS_fcntl SYS_flock
    SYS_ioctl SYS_connect SYS_accept SYS_accept4 SYS_recvfrom SYS_recvmsg SYS_recvmmsg SYS_sendto
    SYS_sendmsg SYS_sendmmsg SYS_epoll_pwait SYS_epoll_pwait2 SYS_io_uring_enter SYS_sendfile
    SYS_splice SYS_vmsplice SYS_tee SYS_getdents64 SYS_mq_timedreceive SYS_mq_timedsend
    #[cfg(target_arch = "x86_64")] SYS_epoll_wait
};

/// Other calls that may wait.
const OTHERS: &[(libc::c_long, &str)] = names! {
    SYS_nanosleep SYS_clock_nanosleep SYS_futex SYS_ppoll SYS_pselect6 SYS_openat SYS_wait4
    SYS_waitid SYS_msync SYS_munmap SYS_semop SYS_semtimedop SYS_msgrcv SYS_msgsnd
    SYS_rt_sigsuspend SYS_rt_sigtimedwait SYS_io_getevents SYS_getrandom SYS_statx SYS_unlinkat
    SYS_renameat2 SYS_mkdirat SYS_sync SYS_execve SYS_restart_syscall
    #[cfg(target_arch = "x86_64")] SYS_open #[cfg(target_arch = "x86_64")] SYS_poll
    #[cfg(target_arch = "x86_64")] SYS_select #[cfg(target_arch = "x86_64")] SYS_pause
    #[cfg(target_arch = "x86_64")] SYS_stat #[cfg(target_arch = "x86_64")] SYS_unlink
};

/// Calls that wait for others: they may last for ever, whatever the disk does.
const OF_OTHERS: &[(libc::c_long, &str)] = names! {
    SYS_futex SYS_io_uring_enter SYS_io_getevents SYS_epoll_pwait SYS_epoll_pwait2 SYS_ppoll
    SYS_pselect6 SYS_nanosleep SYS_clock_nanosleep SYS_rt_sigsuspend SYS_rt_sigtimedwait
    SYS_wait4 SYS_waitid SYS_semop SYS_semtimedop SYS_msgrcv SYS_msgsnd SYS_mq_timedreceive
    SYS_accept SYS_accept4 SYS_recvfrom SYS_recvmsg SYS_recvmmsg
    #[cfg(target_arch = "x86_64")] SYS_epoll_wait #[cfg(target_arch = "x86_64")] SYS_poll
    #[cfg(target_arch = "x86_64")] SYS_select #[cfg(target_arch = "x86_64")] SYS_pause
};

impl WaitsIn {
    /// Whether it waits for what others do, and not for a disk.
    pub(crate) fn for_others(&self) -> bool {
        OF_OTHERS.iter().any(|(number, _)| *number == self.number)
    }
}

impl fmt::Display for WaitsIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |table: &[(libc::c_long, &'static str)]| {
            let known = table.iter().find(|(number, _)| *number == self.number);
            known.map(|(_, name)| name.trim_start_matches("SYS_"))
        };
        match (name(OF_DESCRIPTOR), name(OTHERS)) {
            (Some(name), _) => write!(f, "{name} on descriptor {}", self.first),
            (None, Some(name)) => write!(f, "{name}"),
            (None, None) => write!(f, "number {}", self.number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn processor_time_grows_with_work_and_not_with_sleep() {
        let here = KernelThread::here();
        let before = here.cpu_time().unwrap();
        thread::sleep(Duration::from_millis(50));
        let slept = here.cpu_time().unwrap() - before;
        while here.cpu_time().unwrap() - before < Duration::from_millis(60) {
            std::hint::black_box((0..1_000).sum::<u64>());
        }
        assert!(slept < Duration::from_millis(50), "{slept:?}");
    }

    #[test]
    fn a_call_that_has_no_name_is_a_number() {
        let waits = WaitsIn::parse("4000 0x1 0x2 0x3 0x4 0x5 0x6 0x7 0x8").unwrap();
        assert_eq!(waits.to_string(), "number 4000");
        assert!(!waits.for_others());
        let of = |number| WaitsIn { number, first: 0 }.for_others();
        assert!(of(libc::SYS_futex) && !of(libc::SYS_fsync));
        assert_eq!(WaitsIn::parse("running"), None);
    }
}
