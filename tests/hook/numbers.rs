//! What is known of a descriptor's number ends with it, whoever ends it and however
//! it begins again.

use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use crate::common::{in_child, kernel_has};
use crate::hook_common::{in_coroutines, read, said, tcp_pair};

/// A number of a socket of which all is known: that it blocks, that it is no file,
/// that it is not ready. It is far above all others. And the other half.
fn known() -> (RawFd, std::net::TcpStream) {
    let (a, b) = tcp_pair();
    // SAFETY: no pointers.
    let fd = unsafe { libc::fcntl(a.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 700) };
    drop(a);
    assert!(fd >= 700);
    let reader = crore::spawn(move || read(fd, &mut [0; 64]));
    crore::yield_now();
    (&b).write_all(b"x").unwrap();
    assert_eq!(reader.join().unwrap(), Ok(1));
    (fd, b)
}

const READ_WRITE: &CStr = c"r+";

/// What ends a number, inside of libc and by a range.
fn ends() -> Vec<(&'static str, fn(RawFd))> {
    // SAFETY: in all of them the number is given up, and what is opened is closed.
    let mut ends: Vec<(_, fn(RawFd))> = unsafe {
        vec![
            ("fclose", |fd| {
                assert_eq!(libc::fclose(libc::fdopen(fd, READ_WRITE.as_ptr())), 0);
            }),
            ("closedir", |fd| {
                // The directory takes the number unseen.
                let folder = File::open("/").unwrap();
                unseen_dup(folder.as_raw_fd(), fd);
                assert_eq!(libc::closedir(libc::fdopendir(fd)), 0);
            }),
            ("freopen", |fd| {
                let stream = libc::fdopen(fd, READ_WRITE.as_ptr());
                let null = c"/dev/null".as_ptr();
                assert!(!libc::freopen(null, READ_WRITE.as_ptr(), stream).is_null());
                assert_eq!(libc::fileno(stream), fd);
                // What it means now is known for itself.
                assert_eq!(read(fd, &mut [0; 8]), Ok(0));
                libc::close(fd);
            }),
            ("freopen64, which fails", |fd| {
                let stream = libc::fdopen(fd, READ_WRITE.as_ptr());
                let path = c"/nowhere/at/all".as_ptr();
                assert!(libc::freopen64(path, READ_WRITE.as_ptr(), stream).is_null());
            }),
            ("mq_close", |fd| {
                assert_eq!(libc::mq_close(fd), 0);
            }),
            ("close_range", |fd| {
                assert_eq!(libc::close_range(fd as u32, fd as u32, 0), 0);
            }),
        ]
    };
    if !kernel_has(libc::SYS_close_range) {
        ends.pop();
    }
    ends
}

fn unseen_dup(old: RawFd, new: RawFd) {
    // SAFETY: no pointers.
    let made = unsafe { libc::syscall(libc::SYS_dup3, old, new, 0) };
    assert_eq!(made, new.into());
}

/// Begins the number anew, as a call that is not hooked does.
fn begin(fd: RawFd, other: OwnedFd) -> OwnedFd {
    unseen_dup(other.as_raw_fd(), fd);
    // SAFETY: made just now.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn eventfd(value: u32, flags: i32) -> OwnedFd {
    // SAFETY: made just now.
    unsafe { OwnedFd::from_raw_fd(libc::eventfd(value, flags)) }
}

/// Reads at once: no other coroutine runs meanwhile.
fn read_at_once(fd: RawFd, buf: &mut [u8]) -> Result<usize, i32> {
    let other = crore::spawn(|| ());
    let got = read(fd, buf);
    assert!(!other.is_finished(), "it waited");
    got
}

#[test]
fn what_has_ended_is_forgotten() {
    let name = "what_has_ended_is_forgotten";
    let output = in_child(name, || {
        in_coroutines(|_| {
            for (how, end) in ends() {
                eprintln!("{how}");
                // It does not block.
                let (fd, _peer) = known();
                end(fd);
                let new = begin(fd, eventfd(0, libc::EFD_NONBLOCK));
                assert_eq!(read_at_once(fd, &mut [0; 8]), Err(libc::EAGAIN), "{how}");
                drop(new);
                // It is ready.
                let (fd, _peer) = known();
                end(fd);
                let new = begin(fd, eventfd(7, 0));
                assert_eq!(read_at_once(fd, &mut [0; 8]), Ok(8), "{how}");
                drop(new);
                // It has a time limit.
                let (fd, _peer) = known();
                end(fd);
                let (a, _b) = tcp_pair();
                let limit = std::time::Duration::from_millis(5);
                a.set_read_timeout(Some(limit)).unwrap();
                let new = begin(fd, a.into());
                assert_eq!(read(fd, &mut [0; 8]), Err(libc::EAGAIN), "{how}");
                drop(new);
                // It is a file.
                let (fd, _peer) = known();
                end(fd);
                let exe = File::open("/proc/self/exe").unwrap();
                let len = exe.metadata().unwrap().len() as usize;
                let mut new = File::from(begin(fd, exe.into()));
                let mut bytes = Vec::new();
                assert_eq!(new.read_to_end(&mut bytes).unwrap(), len, "{how}");
                drop(new);
                // Messages have room at the other side, or not.
                let (fd, _peer) = known();
                end(fd);
                let (a, b) = std::os::unix::net::UnixDatagram::pair().unwrap();
                let new = begin(fd, a.into());
                let writer = crore::spawn(move || {
                    for _ in 0..100 {
                        // SAFETY: one byte.
                        let sent = unsafe { libc::write(fd, b"x".as_ptr().cast(), 1) };
                        assert_eq!(said(sent), Ok(1));
                    }
                });
                for _ in 0..100 {
                    b.recv(&mut [0; 8]).unwrap();
                }
                writer.join().unwrap();
                drop(new);
            }
        });
    });
    assert!(output.status.success(), "{output:?}");
}

/// Neither the end nor the beginning is seen: it is found out after a while.
#[test]
fn what_changes_unseen_is_found_out() {
    let output = in_child("what_changes_unseen_is_found_out", || {
        in_coroutines(|_| {
            let (fd, _peer) = known();
            let new = begin(fd, eventfd(0, libc::EFD_NONBLOCK));
            assert_eq!(read(fd, &mut [0; 8]), Err(libc::EAGAIN));
            drop(new);
            let (fd, _peer) = known();
            let new = begin(fd, eventfd(7, 0));
            assert_eq!(read(fd, &mut [0; 8]), Ok(8));
            drop(new);
            let (fd, _peer) = known();
            let (a, _b) = tcp_pair();
            let limit = std::time::Duration::from_millis(5);
            a.set_read_timeout(Some(limit)).unwrap();
            let new = begin(fd, a.into());
            assert_eq!(read(fd, &mut [0; 8]), Err(libc::EAGAIN));
            drop(new);
        });
    });
    assert!(output.status.success(), "{output:?}");
}

/// Who waits for a number that ends hears of it.
#[test]
fn waits_end_with_the_number() {
    let output = in_child("waits_end_with_the_number", || {
        in_coroutines(|_| {
            for (how, end) in ends() {
                let (fd, peer) = known();
                let reader = crore::spawn(move || read(fd, &mut [0; 8]));
                crore::yield_now();
                if how == "closedir" {
                    // The number was replaced unseen before it: a reader stays.
                    (&peer).write_all(b"x").unwrap();
                    assert_eq!(reader.join().unwrap(), Ok(1));
                    end(fd);
                } else {
                    end(fd);
                    assert_eq!(reader.join().unwrap(), Err(libc::EBADF), "{how}");
                }
            }
        });
    });
    assert!(output.status.success(), "{output:?}");
}

/// Streams of memory have no number, and errno stays.
#[test]
fn streams_without_a_number_are_closed() {
    in_coroutines(|_| {
        let mut bytes = *b"memory";
        // SAFETY: a buffer that outlives the stream.
        unsafe {
            let stream = libc::fmemopen(bytes.as_mut_ptr().cast(), bytes.len(), c"r".as_ptr());
            assert_eq!(libc::fgetc(stream), i32::from(b'm'));
            *libc::__errno_location() = 77;
            assert_eq!(libc::fclose(stream), 0);
            assert_eq!(*libc::__errno_location(), 77);
        }
    });
}

/// The listeners of `bind_per_worker` begin where no hook sees it.
#[test]
fn whoever_waits_for_a_number_learns_that_a_listener_has_it_now() {
    let name = "whoever_waits_for_a_number_learns_that_a_listener_has_it_now";
    // Nobody else opens anything there.
    let child = in_child(name, || {
        crore::run(|| {
            let (a, _b) = tcp_pair();
            let fd = a.into_raw_fd();
            let reader = crore::spawn(move || read(fd, &mut [0; 8]));
            crore::yield_now();
            // It is to be the lowest that is free.
            let _lower: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok())
                .take_while(|file| file.as_raw_fd() < fd)
                .collect();
            // SAFETY: its only owner gives it up.
            assert_eq!(unsafe { libc::syscall(libc::SYS_close, fd) }, 0);
            let listeners = crore::io::bind_per_worker("127.0.0.1:0").unwrap();
            assert_eq!(listeners[0].as_raw_fd(), fd);
            assert_eq!(reader.join().unwrap(), Err(libc::EBADF));
        })
        .unwrap();
    });
    assert!(child.status.success(), "{child:?}");
}

/// To the program the runtime's own numbers are unused: closing all there are, as
/// programs do before they execute another, is told so and does no harm.
#[test]
fn the_runtimes_own_stay_open() {
    let output = in_child("the_runtimes_own_stay_open", || {
        in_coroutines(|_| {
            let queues = |fd: &RawFd| {
                let link = std::fs::read_link(format!("/proc/self/fd/{fd}"));
                link.is_ok_and(|link| link.as_os_str() == "anon_inode:[eventpoll]")
            };
            let own: Vec<RawFd> = (3..20_000).filter(queues).collect();
            assert!(!own.is_empty());
            for &fd in &own {
                // SAFETY: no pointers; it is refused.
                assert_eq!(said(unsafe { libc::close(fd) } as isize), Err(libc::EBADF));
            }
            assert!(own.iter().all(queues));
            drop(known());
        });
    });
    assert!(output.status.success(), "{output:?}");
}
