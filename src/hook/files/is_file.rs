//! Whether a descriptor is a file's, and whether its bytes come from the disk each time.

use std::os::fd::RawFd;

use crate::sched::CurrentTask;
use crate::sys::fcntl::status_flags;
use crate::sys::fd::table;
use crate::sys::stat::kind_of_open;
use crate::sys::terminal::is_terminal;

/// A regular file or a disk. Asked, unless it is known to be neither.
pub(super) fn is_file(cx: CurrentTask, fd: RawFd) -> bool {
    let known = table::cached(fd);
    if known & (table::NOT_A_FILE | table::TERMINAL) != 0 || cx.is_stream(fd) {
        return false;
    }
    let probe = table::Probe::begin(fd);
    let found = match kind_of_open(fd) {
        Ok(libc::S_IFREG | libc::S_IFBLK) if known & table::A_FILE != 0 => return true,
        Ok(libc::S_IFREG | libc::S_IFBLK) => match status_flags(fd) {
            Ok(flags) if flags & libc::O_DIRECT != 0 => table::A_FILE | table::DIRECT,
            _ => table::A_FILE,
        },
        Ok(libc::S_IFCHR) if is_terminal(fd) => table::TERMINAL,
        Ok(_) => table::NOT_A_FILE,
        // Of what may begin here nothing is known.
        Err(_) => return false,
    };
    probe.commit(found);
    found & table::A_FILE != 0
}

/// A file with `O_DIRECT`, when it was asked last.
pub(super) fn is_direct(cx: CurrentTask, fd: RawFd) -> bool {
    (table::known(fd, table::A_FILE) || is_file(cx, fd)) && table::known(fd, table::DIRECT)
}
