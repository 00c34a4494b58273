//! System calls that may pass the hooks: what they say is neither time, chance, nor somebody
//! else's, or the kernel's as the module's documentation has it. All others are escapes, those
//! that are not known, too.

use std::ffi::{c_int, c_long};
use std::os::fd::RawFd;

use crate::sys::stat::kind;

/// Whether no simulation minds this call.
pub(super) fn is_harmless(number: c_long, args: [usize; 6]) -> bool {
    is_of_memory(number)
        || is_of_itself(number)
        || is_of_files(number)
        || match number {
            // Those that wait are others.
            libc::SYS_futex => !waits(args[1] as c_int),
            libc::SYS_write | libc::SYS_writev => args[0] == libc::STDERR_FILENO as usize,
            // Whether it is a terminal, and how large.
            libc::SYS_ioctl => matches!(args[1] as u64, libc::TCGETS | libc::TIOCGWINSZ),
            libc::SYS_fcntl => {
                matches!(
                    args[1] as c_int,
                    libc::F_GETFD | libc::F_SETFD | libc::F_GETFL
                )
            }
            _ => false,
        }
}

/// Whether a descriptor makes it so: what is in a file is the kernel's, and a number that no
/// socket has may end unnoticed. It asks the kernel.
pub(super) fn is_of_a_file(number: c_long, args: [usize; 6]) -> bool {
    let kind = || kind(args[0] as RawFd);
    match number {
        libc::SYS_read | libc::SYS_readv | libc::SYS_pread64 | libc::SYS_preadv => {
            kind() == libc::S_IFREG
        }
        libc::SYS_close => kind() != libc::S_IFSOCK,
        _ => false,
    }
}

fn waits(op: c_int) -> bool {
    const FLAGS: c_int = libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME;
    matches!(
        op & !FLAGS,
        libc::FUTEX_WAIT
            | libc::FUTEX_WAIT_BITSET
            | libc::FUTEX_LOCK_PI
            | libc::FUTEX_LOCK_PI2
            | libc::FUTEX_WAIT_REQUEUE_PI
    )
}

/// An allocator's and a loader's.
fn is_of_memory(number: c_long) -> bool {
    matches!(
        number,
        libc::SYS_brk
            | libc::SYS_mmap
            | libc::SYS_munmap
            | libc::SYS_mprotect
            | libc::SYS_mremap
            | libc::SYS_madvise
            | libc::SYS_mincore
            | libc::SYS_membarrier
            | libc::SYS_pkey_alloc
            | libc::SYS_pkey_free
            | libc::SYS_pkey_mprotect
    )
}

/// Of the process, the thread and the machine that they are on: the same in each run here.
fn is_of_itself(number: c_long) -> bool {
    matches!(
        number,
        libc::SYS_rt_sigaction
            | libc::SYS_rt_sigprocmask
            | libc::SYS_rt_sigpending
            | libc::SYS_rt_sigreturn
            | libc::SYS_sigaltstack
            | libc::SYS_tgkill
            | libc::SYS_exit
            | libc::SYS_exit_group
            | libc::SYS_getpid
            | libc::SYS_getppid
            | libc::SYS_gettid
            | libc::SYS_getuid
            | libc::SYS_geteuid
            | libc::SYS_getgid
            | libc::SYS_getegid
            | libc::SYS_getrlimit
            | libc::SYS_prlimit64
            | libc::SYS_prctl
            | libc::SYS_arch_prctl
            | libc::SYS_set_robust_list
            | libc::SYS_set_tid_address
            | libc::SYS_rseq
            | libc::SYS_uname
            // glibc's `qsort` asks how much memory there is. (It tells the time that the
            // machine is up, too.)
            | libc::SYS_sysinfo
            | libc::SYS_sched_getaffinity
            | libc::SYS_getcpu
    )
}

/// Names and descriptors, without what is in them.
fn is_of_files(number: c_long) -> bool {
    matches!(
        number,
        libc::SYS_open
            | libc::SYS_openat
            | libc::SYS_stat
            | libc::SYS_fstat
            | libc::SYS_lstat
            | libc::SYS_newfstatat
            | libc::SYS_statx
            | libc::SYS_statfs
            | libc::SYS_fstatfs
            | libc::SYS_access
            | libc::SYS_faccessat
            | libc::SYS_faccessat2
            | libc::SYS_readlink
            | libc::SYS_readlinkat
            | libc::SYS_getdents64
            | libc::SYS_getcwd
            | libc::SYS_chdir
            | libc::SYS_fchdir
            | libc::SYS_mkdir
            | libc::SYS_mkdirat
            | libc::SYS_rmdir
            | libc::SYS_chmod
            | libc::SYS_fchmod
            | libc::SYS_fchmodat
            | libc::SYS_umask
            | libc::SYS_utimensat
            | libc::SYS_lseek
            | libc::SYS_pipe
            | libc::SYS_pipe2
            | libc::SYS_socketpair
            | libc::SYS_memfd_create
            | libc::SYS_epoll_create
            | libc::SYS_epoll_create1
            | libc::SYS_epoll_ctl
            | libc::SYS_eventfd2
    )
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_is_in_files_is_the_kernels() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let socket = UnixStream::pair().unwrap().0;
        let [file, socket] = [file.as_raw_fd(), socket.as_raw_fd()]
            .map(|fd| move |number| is_of_a_file(number, [fd as usize, 0, 0, 0, 0, 0]));
        assert!(file(libc::SYS_read) && file(libc::SYS_close) && !file(libc::SYS_write));
        assert!(!socket(libc::SYS_read) && !socket(libc::SYS_close));
    }

    #[test]
    fn what_waits_or_tells_of_the_world_is_not_harmless() {
        let futex = |op: i32| is_harmless(libc::SYS_futex, [0, op as usize, 0, 0, 0, 0]);
        assert!(futex(libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG));
        assert!(!futex(libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG));
        assert!(!futex(libc::FUTEX_WAIT_BITSET | libc::FUTEX_CLOCK_REALTIME));
        let write = |fd: usize| is_harmless(libc::SYS_write, [fd, 0, 0, 0, 0, 0]);
        assert!(write(2) && !write(1));
        for number in [
            libc::SYS_clock_gettime,
            libc::SYS_getrandom,
            libc::SYS_read,
            libc::SYS_clone,
            9_999,
        ] {
            assert!(!is_harmless(number, [0; 6]), "{number}");
        }
    }
}
