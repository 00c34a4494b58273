//! Locks on files: `flock`, `lockf`, `fcntl`. Those that wait park, and what is locked
//! stays locked as on a thread.

use std::ffi::c_int;
use std::fs;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};

use crate::files::{file, path};
use crate::hook_common::{in_coroutines, said, same};

/// The ways to lock a file: lock (waiting or not) and unlock.
fn locks() -> [(&'static str, fn(RawFd, bool) -> c_int, fn(RawFd) -> c_int); 3] {
    fn record(fd: RawFd, command: c_int, kind: c_int) -> c_int {
        // SAFETY: zeros are a valid one: the whole file.
        let mut range: libc::flock = unsafe { std::mem::zeroed() };
        range.l_type = kind as i16;
        // SAFETY: a valid range.
        unsafe { libc::fcntl(fd, command, &raw mut range) }
    }
    [
        (
            "flock",
            // SAFETY: no pointers.
            |fd, wait| unsafe {
                libc::flock(fd, libc::LOCK_EX | if wait { 0 } else { libc::LOCK_NB })
            },
            // SAFETY: no pointers.
            |fd| unsafe { libc::flock(fd, libc::LOCK_UN) },
        ),
        (
            "F_OFD_SETLKW",
            |fd, wait| {
                let command = if wait {
                    libc::F_OFD_SETLKW
                } else {
                    libc::F_OFD_SETLK
                };
                record(fd, command, libc::F_WRLCK)
            },
            |fd| record(fd, libc::F_OFD_SETLK, libc::F_UNLCK),
        ),
        (
            "F_SETLKW",
            |fd, wait| {
                record(
                    fd,
                    if wait { libc::F_SETLKW } else { libc::F_SETLK },
                    libc::F_WRLCK,
                )
            },
            |fd| record(fd, libc::F_SETLK, libc::F_UNLCK),
        ),
    ]
}

#[test]
fn a_lock_is_waited_for() {
    same(|on| {
        let mut out = Vec::new();
        // The last belongs to the process: nobody here could hold it from us.
        for (name, lock, unlock) in &locks()[..2] {
            let path = path();
            let [a, b] = [0; 2].map(|_| {
                let mut options = OpenOptions::new();
                options.read(true).write(true).create(true).truncate(false);
                options.open(&path).unwrap()
            });
            fs::remove_file(path).unwrap();
            out.push((*name, said(lock(a.as_raw_fd(), true) as isize)));
            out.push((*name, said(lock(b.as_raw_fd(), false) as isize)));
            let lock = *lock;
            let (tx, rx) = std::io::pipe().unwrap();
            let waits = on.go(move || {
                drop(rx);
                (said(lock(b.as_raw_fd(), true) as isize), b)
            });
            // It is about to wait, or waits.
            (&tx).read_to_end(&mut Vec::new()).unwrap();
            out.push((*name, said(unlock(a.as_raw_fd()) as isize)));
            let (locked, b) = waits.join();
            out.push((*name, locked));
            out.push((*name, said(lock(a.as_raw_fd(), false) as isize)));
            // Closing would not do: the child of a test that forks may hold a
            // copy for a moment, and the lock is the open file's.
            out.push((*name, said(unlock(b.as_raw_fd()) as isize)));
            out.push((*name, said(lock(a.as_raw_fd(), false) as isize)));
            out.push((*name, said(lock(-1, true) as isize)));
        }
        out
    });
}

/// To close any number of a file ends the process's record locks on it: a wait for
/// another lock closes none.
#[test]
fn waiting_for_a_lock_gives_up_no_other() {
    same(|on| {
        let path = path();
        let [a, b] = [0; 2].map(|_| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            options.open(&path).unwrap()
        });
        let [(_, flock, unflock), _, (_, lock, _)] = locks();
        let mut out = vec![lock(a.as_raw_fd(), false), flock(a.as_raw_fd(), false)];
        let (number, (tx, rx)) = (b.as_raw_fd(), std::io::pipe().unwrap());
        let waits = on.go(move || {
            drop(rx);
            flock(number, true)
        });
        (&tx).read_to_end(&mut Vec::new()).unwrap();
        out.push(unflock(a.as_raw_fd()));
        out.push(waits.join());
        // SAFETY: the child makes system calls only, then ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: ends the child.
            unsafe { libc::_exit(i32::from(lock(b.as_raw_fd(), false) == 0)) };
        }
        let mut status = 0;
        // SAFETY: our own child.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        fs::remove_file(path).unwrap();
        out.push(status);
        out
    });
}

#[test]
fn a_lock_of_another_process_is_waited_for() {
    in_coroutines(|_| {
        let (_, lock, unlock) = locks()[2];
        let file = file();
        let fd = file.as_raw_fd();
        let (mut ready, mut is_ready) = std::io::pipe().unwrap();
        let (mut go, gone) = std::io::pipe().unwrap();
        // SAFETY: the child makes system calls only, then ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            drop(gone);
            let locked = lock(fd, true);
            let told = is_ready.write(b"x").is_ok();
            let _ = go.read(&mut [0]);
            // SAFETY: ends the child.
            unsafe { libc::_exit(i32::from(locked != 0 || !told)) };
        }
        ready.read_exact(&mut [0]).unwrap();
        assert_eq!(said(lock(fd, false) as isize), Err(libc::EAGAIN));
        let waits = crore::spawn(move || said(lock(fd, true) as isize));
        let cancelled = crore::spawn(move || {
            // SAFETY: no pointers.
            said(unsafe { libc::lockf(fd, libc::F_LOCK, 0) } as isize)
        });
        crore::yield_now();
        cancelled.cancel();
        assert_eq!(cancelled.join().unwrap(), Err(libc::ECANCELED));
        drop(gone);
        assert_eq!(waits.join().unwrap(), Ok(0));
        let mut status = 0;
        // SAFETY: our own child.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
        // SAFETY: no pointers.
        assert_eq!(unsafe { libc::lockf(fd, libc::F_TEST, 0) }, 0);
        assert_eq!(unlock(fd), 0);
    });
}

/// Whether another process can lock what this one should have locked: 0 if not.
fn others_lock(fd: RawFd) -> c_int {
    let (_, lock, _) = locks()[2];
    // SAFETY: the child makes system calls only, then ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: ends the child.
        unsafe { libc::_exit(i32::from(lock(fd, false) == 0)) };
    }
    let mut status = 0;
    // SAFETY: our own child.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    status
}

/// What FIFOs and terminals need for a call that does not wait closes no number of
/// theirs while somebody has them locked.
#[test]
fn reads_and_writes_give_up_no_lock() {
    fn path_of(path: &std::path::Path) -> std::ffi::CString {
        use std::os::unix::ffi::OsStrExt;
        std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap()
    }
    same(|on| {
        let path = path();
        // SAFETY: a path.
        assert_eq!(unsafe { libc::mkfifo(path_of(&path).as_ptr(), 0o600) }, 0);
        let mut options = OpenOptions::new();
        let fifo = options.read(true).write(true).open(&path).unwrap();
        let (mut master, mut slave) = (-1, -1);
        let none = std::ptr::null_mut();
        // SAFETY: places for two descriptors.
        let slave = unsafe {
            let opened = libc::openpty(&mut master, &mut slave, none, none.cast(), none.cast());
            assert_eq!(opened, 0);
            <fs::File as std::os::fd::FromRawFd>::from_raw_fd(slave)
        };
        // SAFETY: ours.
        let mut master = unsafe { <fs::File as std::os::fd::FromRawFd>::from_raw_fd(master) };
        let (_, lock, _) = locks()[2];
        let mut out = Vec::new();
        for mut file in [fifo, slave] {
            let fd = file.as_raw_fd();
            out.push(lock(fd, false));
            out.push(file.write(b"line\n").unwrap() as c_int);
            let mut master = master.try_clone().unwrap();
            let feeds = on.go(move || master.write(b"line\n").unwrap());
            out.push(file.read(&mut [0; 5]).unwrap() as c_int);
            feeds.join();
            // SAFETY: no pointers.
            out.push(unsafe { libc::tcdrain(fd) });
            out.push(others_lock(fd));
        }
        master.flush().unwrap();
        fs::remove_file(path).unwrap();
        out
    });
}
