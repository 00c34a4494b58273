//! Exceptional conditions: urgent data, changes of the kernel's files, ends and errors
//! without data, and what waiting for them leaves to others.

use std::ffi::{CString, c_int};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::common::in_child;
use crate::hook_common::{On, in_coroutines, read, recv, said, same, tcp_pair};

/// Waits for some of the events: what there is.
fn poll(fd: RawFd, events: i16) -> i16 {
    let mut entry = libc::pollfd {
        fd,
        events,
        revents: 0,
    };
    // SAFETY: one entry.
    assert_eq!(unsafe { libc::poll(&mut entry, 1, -1) }, 1);
    entry.revents
}

/// Waits for an exception, or for bytes: how many of the sets it is in.
fn select(fd: RawFd, bytes: bool) -> c_int {
    let none = std::ptr::null_mut();
    // SAFETY: zeros are an empty set; numbers are small here.
    unsafe {
        let mut sets: [libc::fd_set; 2] = std::mem::zeroed();
        for set in &mut sets {
            libc::FD_SET(fd, set);
        }
        let [read, except] = &mut sets;
        let read = if bytes { &raw mut *read } else { none };
        libc::select(fd + 1, read, none, except, std::ptr::null_mut())
    }
}

/// Waits by an epoll for some of the events: what there is.
fn epoll(fd: RawFd, events: i16) -> u32 {
    let mut event = libc::epoll_event {
        events: events as u32,
        u64: 0,
    };
    // SAFETY: an epoll made just now, and a place for one event.
    unsafe {
        let epoll = OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC));
        let epoll = epoll.as_raw_fd();
        libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event);
        assert_eq!(libc::epoll_wait(epoll, &mut event, 1, -1), 1);
    }
    event.events
}

/// Lets coroutines begin to wait; threads do when they do.
fn begun(on: On) {
    if on == On::Coroutines {
        crore::yield_now();
    }
}

const PRI: i16 = libc::POLLPRI;
const BOTH: i16 = libc::POLLPRI | libc::POLLIN;

#[test]
fn urgent_data_ends_all_kinds_of_waits_for_it() {
    same(|on| {
        let (a, b) = tcp_pair();
        let fd = a.as_raw_fd();
        let waiters = [
            on.go(move || i32::from(poll(fd, PRI))),
            on.go(move || i32::from(poll(fd, BOTH))),
            on.go(move || i32::from(poll(fd, PRI | libc::POLLRDHUP))),
            on.go(move || select(fd, false)),
            on.go(move || select(fd, true)),
            on.go(move || epoll(fd, PRI) as i32),
            on.go(move || epoll(fd, BOTH) as i32),
        ];
        begun(on);
        // SAFETY: one byte.
        let sent = unsafe { libc::send(b.as_raw_fd(), b"!".as_ptr().cast(), 1, libc::MSG_OOB) };
        let woken = waiters.map(|one| one.join());
        let byte = recv(fd, &mut [0; 1], libc::MSG_OOB);
        // Now there is none, and plain data are no such thing.
        let later = on.go(move || poll(fd, PRI));
        (&b).write_all(b"plain").unwrap();
        begun(on);
        // SAFETY: one byte.
        unsafe { libc::send(b.as_raw_fd(), b"!".as_ptr().cast(), 1, libc::MSG_OOB) };
        (sent, woken, byte, later.join())
    });
}

#[test]
fn ends_and_errors_are_heard_without_asking() {
    same(|on| {
        let ends: [fn(&std::net::TcpStream); 3] = [
            |end| end.shutdown(std::net::Shutdown::Write).unwrap(),
            |end| end.shutdown(std::net::Shutdown::Both).unwrap(),
            |end| {
                // It is reset.
                let now = libc::linger {
                    l_onoff: 1,
                    l_linger: 0,
                };
                // SAFETY: eight bytes; the descriptor is given up for another file.
                unsafe {
                    libc::setsockopt(
                        end.as_raw_fd(),
                        libc::SOL_SOCKET,
                        libc::SO_LINGER,
                        (&raw const now).cast(),
                        8,
                    );
                    let null = File::open("/dev/null").unwrap();
                    libc::dup2(null.as_raw_fd(), end.as_raw_fd());
                }
            },
        ];
        ends.map(|end| {
            let (a, b) = tcp_pair();
            let fd = a.as_raw_fd();
            let waiters = [
                libc::POLLRDHUP,
                libc::POLLRDHUP | PRI,
                libc::POLLRDHUP | libc::POLLERR,
            ]
            .map(|events| on.go(move || poll(fd, events)));
            begun(on);
            end(&b);
            // The kernel tells of a reset in steps, of the error first: who is quick sees
            // no more of it.
            waiters.map(|one| match one.join() {
                said if said & libc::POLLERR != 0 => libc::POLLERR,
                said => said,
            })
        })
    });
    same(|on| {
        let (reader, writer) = std::io::pipe().unwrap();
        let fd = reader.as_raw_fd();
        let hang_up = on.go(move || poll(fd, 0));
        begun(on);
        drop(writer);
        let hang_up = hang_up.join();
        let (reader, writer) = std::io::pipe().unwrap();
        let fd = writer.as_raw_fd();
        let error = on.go(move || (poll(fd, 0), poll(fd, PRI)));
        begun(on);
        drop(reader);
        (hang_up, error.join())
    });
}

/// What waits for an end says nothing of the bytes that are there.
#[test]
fn waiting_for_an_end_leaves_the_bytes_to_readers() {
    in_coroutines(|_| {
        for events in [libc::POLLRDHUP, PRI, 0] {
            let (a, b) = tcp_pair();
            let fd = a.as_raw_fd();
            // It is known to block, and watched.
            let first = crore::spawn(move || read(fd, &mut [0; 8]));
            crore::yield_now();
            (&b).write_all(b"x").unwrap();
            assert_eq!(first.join().unwrap(), Ok(1));
            (&b).write_all(b"bytes").unwrap();
            // The worker has heard of them.
            crore::sleep(Duration::from_millis(1));
            assert_eq!(poll(fd, libc::POLLIN), libc::POLLIN);
            let end = crore::spawn(move || poll(fd, events));
            crore::yield_now();
            let other = crore::spawn(|| ());
            assert_eq!(read(fd, &mut [0; 8]), Ok(5));
            assert!(!other.is_finished(), "the bytes were there, and waited for");
            // What the peer got was read: it ends, and is not reset.
            a.shutdown(std::net::Shutdown::Both).unwrap();
            drop(b);
            assert_ne!(end.join().unwrap() & libc::POLLHUP, 0);
        }
    });
}

#[test]
fn terminals_in_packet_mode_tell() {
    same(|on| {
        let (mut master, mut slave) = (0, 0);
        let none = std::ptr::null_mut();
        let nothing = std::ptr::null();
        // SAFETY: places for two descriptors, which are ours then.
        let (master, slave) = unsafe {
            assert_eq!(
                libc::openpty(&mut master, &mut slave, none, nothing, std::ptr::null()),
                0
            );
            (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave))
        };
        let yes: c_int = 1;
        // SAFETY: a number.
        unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCPKT, &raw const yes) };
        let fd = master.as_raw_fd();
        let waiter = on.go(move || {
            let told = poll(fd, PRI);
            (told, read(fd, &mut [0; 8]))
        });
        begun(on);
        // SAFETY: no pointers.
        let flushed = unsafe { libc::tcflush(slave.as_raw_fd(), libc::TCIOFLUSH) };
        (flushed, waiter.join())
    });
}

/// The kernel tells each change of the mounts to one `poll` only.
#[test]
fn changes_of_the_mounts_are_told() {
    let output = in_child("changes_of_the_mounts_are_told", || same(changes_of_mounts));
    assert!(output.status.success(), "{output:?}");
}

/// What each `poll` said; nothing where it is not allowed to mount.
fn changes_of_mounts(on: On) -> Vec<i32> {
    let folder = std::env::temp_dir().join(format!("crore-mounts-{}-{on:?}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = CString::new(folder.to_str().unwrap()).unwrap();
    let tmpfs = c"tmpfs".as_ptr();
    let none = std::ptr::null();
    // SAFETY: paths; the mounts are this thread's, and those that it starts.
    let allowed = unsafe {
        libc::unshare(libc::CLONE_NEWNS | libc::CLONE_FS) == 0
            && libc::mount(
                none,
                c"/".as_ptr(),
                none,
                libc::MS_REC | libc::MS_PRIVATE,
                none.cast(),
            ) == 0
    };
    if !allowed {
        return Vec::new();
    }
    // SAFETY: paths.
    let change = |mount: bool| unsafe {
        let done = match mount {
            true => libc::mount(tmpfs, path.as_ptr(), tmpfs, 0, none.cast()),
            false => libc::umount2(path.as_ptr(), libc::MNT_DETACH),
        };
        assert_eq!(done, 0);
    };
    let mut mounts = File::open("/proc/thread-self/mounts").unwrap();
    mounts.read_to_end(&mut Vec::new()).unwrap();
    let fd = mounts.as_raw_fd();
    let mut told = Vec::new();
    let waits: [fn(RawFd) -> i32; 3] = [
        |fd| poll(fd, PRI).into(),
        |fd| poll(fd, PRI | libc::POLLRDHUP).into(),
        |fd| select(fd, false),
    ];
    for wait in waits {
        // During the wait, and before it.
        let waiter = on.go(move || wait(fd));
        begun(on);
        change(true);
        told.push(waiter.join());
        change(false);
        std::thread::sleep(Duration::from_millis(5));
        told.push(on.go(move || wait(fd)).join());
    }
    // SAFETY: one entry each; nothing has changed.
    let nothing = unsafe {
        let mut entry = libc::pollfd {
            fd,
            events: PRI,
            revents: 0,
        };
        libc::poll(&mut entry, 1, 5)
    };
    told.push(nothing);
    std::fs::remove_dir(&folder).unwrap();
    told
}

#[test]
fn what_is_always_ready_is_waited_for_in_vain() {
    same(|on| {
        on.go(|| {
            let file = File::open("/proc/self/exe").unwrap();
            let mut entries = [0, PRI].map(|events| libc::pollfd {
                fd: file.as_raw_fd(),
                events,
                revents: 0,
            });
            // SAFETY: two entries.
            said(unsafe { libc::poll(entries.as_mut_ptr(), 2, 20) } as isize)
        })
        .join()
    });
}

/// Ours is one epoll too many.
#[test]
fn the_last_of_nested_epolls_is_polled() {
    same(|on| {
        let (a, b) = tcp_pair();
        let mut epolls = vec![OwnedFd::from(a)];
        loop {
            let mut event = libc::epoll_event {
                events: libc::EPOLLIN as u32,
                u64: 0,
            };
            let inner = epolls.last().unwrap().as_raw_fd();
            // SAFETY: an epoll made just now, and an event.
            let added = unsafe {
                let outer = OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC));
                let fd = outer.as_raw_fd();
                let added = libc::epoll_ctl(fd, libc::EPOLL_CTL_ADD, inner, &mut event);
                (added == 0).then_some(outer)
            };
            let Some(outer) = added else { break };
            epolls.push(outer);
        }
        let fd = epolls.last().unwrap().as_raw_fd();
        let waiters = [
            on.go(move || i32::from(poll(fd, libc::POLLIN))),
            on.go(move || select(fd, true)),
        ];
        begun(on);
        (&b).write_all(b"x").unwrap();
        waiters.map(|one| one.join())
    });
}
