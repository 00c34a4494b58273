//! No descriptor's number is left, no thread can be started, no flag may be set: what is
//! needed inside of hooks is done without.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixDatagram, UnixStream};

use super::seccomp::{Rule, When, always, refuse};
use super::succeeds;

/// The kernel's refusal of a thread. (Children come by another call.)
fn no_threads() -> [Rule; 2] {
    let thread = libc::CLONE_THREAD as u32;
    [
        always(libc::SYS_clone3, libc::EAGAIN),
        Rule {
            call: libc::SYS_clone,
            when: When::AtLeast(0, thread),
            error: libc::EAGAIN,
        },
    ]
}

/// A terminal's master, and its slave.
fn terminal() -> [File; 2] {
    let (mut master, mut slave) = (-1, -1);
    let (name, none, size) = (std::ptr::null_mut(), std::ptr::null(), std::ptr::null());
    // SAFETY: places for two descriptors.
    let opened = unsafe { libc::openpty(&mut master, &mut slave, name, none, size) };
    assert_eq!(opened, 0);
    // SAFETY: made just now.
    [master, slave].map(|fd| unsafe { File::from_raw_fd(fd) })
}

#[test]
fn without_threads_hooks_do_their_work_themselves() {
    succeeds(
        "numbers_and_threads::without_threads_hooks_do_their_work_themselves",
        || {
            crore::run(|| {
                let mut file = super::files::file();
                let [_master, slave] = terminal();
                // SAFETY: two strings.
                let command = unsafe { libc::popen(c"exit 3".as_ptr(), c"r".as_ptr()) };
                refuse(&no_threads());
                file.write_all(b"bytes").unwrap();
                file.sync_all().unwrap();
                file.set_len(3).unwrap();
                let found = ("localhost", 80).to_socket_addrs();
                assert!(found.is_ok_and(|mut all| all.next().is_some()));
                // SAFETY: a terminal, and a command's file.
                unsafe {
                    assert_eq!(libc::tcdrain(slave.as_raw_fd()), 0);
                    assert_eq!(libc::WEXITSTATUS(libc::pclose(command)), 3);
                }
                // Many at one time, too.
                let file = std::sync::Arc::new(file);
                let all: Vec<_> = (0..100)
                    .map(|_| {
                        let file = std::sync::Arc::clone(&file);
                        crore::spawn(move || file.sync_data().is_ok())
                    })
                    .collect();
                assert!(all.into_iter().all(|one| one.join().unwrap()));
                let users = crore::spawn_blocking(|| ()).join().unwrap_err();
                assert!(users.to_string().contains("no helper thread"), "{users}");
            })
            .unwrap();
        },
    );
}

/// Takes all numbers up to the limit but so many.
fn take_numbers(left: usize) -> Vec<File> {
    let limit = libc::rlimit {
        rlim_cur: 128,
        rlim_max: 128,
    };
    // SAFETY: a limit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    let mut all = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        all.push(file);
    }
    all.truncate(all.len() - left);
    all
}

#[test]
fn without_numbers_hooks_do_their_work_themselves() {
    succeeds(
        "numbers_and_threads::without_numbers_hooks_do_their_work_themselves",
        || {
            crore::run(|| {
                let path = std::env::temp_dir().join(format!("crore-fifo-{}", std::process::id()));
                let name = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
                // SAFETY: a path.
                assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
                let [_master, slave] = terminal();
                let mut set: Vec<u64> = vec![0; 2048 / 64];
                // A thread is there: to start one takes no number, but reads files.
                super::files::file().sync_all().unwrap();
                let taken = take_numbers(2);
                // SAFETY: a terminal, and a large enough set.
                unsafe {
                    let [one, two] = [File::open("/dev/null"), File::open("/dev/null")];
                    assert!(one.is_ok() && two.is_ok());
                    assert_eq!(libc::tcdrain(slave.as_raw_fd()), 0);
                    let (none, sets) = (std::ptr::null_mut(), set.as_mut_ptr().cast());
                    let mut soon: libc::timeval = std::mem::zeroed();
                    assert_eq!(libc::select(2048, sets, none, none, &mut soon), 0);
                    // It parks.
                    soon.tv_usec = 1000;
                    let resumed = || crore::Handle::current().unwrap().metrics().resumed;
                    let before = resumed();
                    assert_eq!(libc::select(2048, sets, none, none, &mut soon), 0);
                    assert!(resumed() > before);
                }
                // Two ends take the two numbers that there are.
                let theirs = path.clone();
                let reader = crore::spawn(move || {
                    let mut text = String::new();
                    File::open(theirs)
                        .unwrap()
                        .read_to_string(&mut text)
                        .unwrap();
                    text
                });
                crore::yield_now();
                File::options()
                    .write(true)
                    .open(&path)
                    .unwrap()
                    .write_all(b"fifo")
                    .unwrap();
                assert_eq!(reader.join().unwrap(), "fifo");
                std::fs::remove_file(&path).unwrap();
                drop(taken);
            })
            .unwrap();
        },
    );
}

/// Where nothing can be waited for the flags of the file are left alone.
#[test]
fn a_connect_of_datagrams_sets_no_flag() {
    succeeds(
        "numbers_and_threads::a_connect_of_datagrams_sets_no_flag",
        || {
            crore::run(|| {
                let [a, b] = [0; 2].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
                let (c, d) = (
                    UnixDatagram::unbound().unwrap(),
                    UnixDatagram::unbound().unwrap(),
                );
                let name =
                    std::env::temp_dir().join(format!("crore-datagram-{}", std::process::id()));
                let named = UnixDatagram::bind(&name).unwrap();
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let (pipe, _to) = std::io::pipe().unwrap();
                refuse(&[Rule {
                    call: libc::SYS_fcntl,
                    when: When::Is(1, libc::F_SETFL as u32),
                    error: libc::EPERM,
                }]);
                a.connect(b.local_addr().unwrap()).unwrap();
                b.connect(a.local_addr().unwrap()).unwrap();
                a.send(b"x").unwrap();
                assert_eq!(b.recv(&mut [0; 2]).unwrap(), 1);
                c.connect(&name).unwrap();
                c.send(b"x").unwrap();
                assert_eq!(named.recv(&mut [0; 2]).unwrap(), 1);
                std::fs::remove_file(name).unwrap();
                drop(d);
                // What is no socket, or is one that listens, is refused as ever.
                for fd in [pipe.as_raw_fd(), listener.as_raw_fd()] {
                    // SAFETY: zeros are an address.
                    let code = unsafe {
                        let address: libc::sockaddr = std::mem::zeroed();
                        libc::connect(fd, &raw const address, 16);
                        *libc::__errno_location()
                    };
                    let expected = if fd == pipe.as_raw_fd() {
                        libc::ENOTSOCK
                    } else {
                        libc::EPERM
                    };
                    assert_eq!(code, expected);
                }
            })
            .unwrap();
        },
    );
}

/// An anonymous file that no hook has seen the beginning of is waited for, and by no
/// helper: more wait than there are helpers.
#[test]
fn no_helper_waits_in_a_reads_place() {
    if !crate::common::kernel_has(libc::SYS_preadv2) {
        return;
    }
    succeeds(
        "numbers_and_threads::no_helper_waits_in_a_reads_place",
        || {
            crore::run(|| {
                crore::blocking::set_max_threads(2);
                let mut waiting = Vec::new();
                for at in 0..12 {
                    let (from, to): (OwnedFd, OwnedFd) = match at % 3 {
                        0 => std::io::pipe()
                            .map(|(from, to)| (from.into(), to.into()))
                            .unwrap(),
                        1 => UnixStream::pair()
                            .map(|(from, to)| (from.into(), to.into()))
                            .unwrap(),
                        _ => {
                            // SAFETY: no pointers; made just now.
                            let fd = unsafe {
                                let fd = libc::syscall(libc::SYS_eventfd2, 0, 0) as i32;
                                OwnedFd::from_raw_fd(fd)
                            };
                            (fd.try_clone().unwrap(), fd)
                        }
                    };
                    let reader = crore::spawn(move || {
                        let mut place = [0_u8; 8];
                        let one = libc::iovec {
                            iov_base: place.as_mut_ptr().cast(),
                            iov_len: 8,
                        };
                        // SAFETY: a valid buffer.
                        unsafe {
                            match at % 2 {
                                0 => libc::preadv2(from.as_raw_fd(), &one, 1, -1, libc::RWF_HIPRI),
                                _ => libc::readv(from.as_raw_fd(), &one, 1),
                            }
                        }
                    });
                    waiting.push((reader, to));
                }
                crore::yield_now();
                super::files::file().sync_all().unwrap();
                for (reader, to) in waiting {
                    assert_eq!(File::from(to).write(&1_u64.to_ne_bytes()).unwrap(), 8);
                    assert_eq!(reader.join().unwrap(), 8);
                }
            })
            .unwrap();
        },
    );
}
