//! Descriptors: pipes, files, and what happens when a number ends.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, RawFd};
use std::os::unix::net::UnixStream;

use crate::hook_common::{code, in_coroutines, pattern, read, recv, said, same, tcp_pair};

#[test]
fn pipes() {
    same(|on| {
        let (mut reader, mut writer) = io::pipe().unwrap();
        let data = pattern(1 << 20);
        let copy = data.clone();
        let feeder = on.go(move || code(writer.write(&copy)));
        let mut got = Vec::new();
        reader.read_to_end(&mut got).unwrap();
        assert!(got == data);
        // Small pieces come as they are; the end comes after them.
        let (mut reader, mut writer) = io::pipe().unwrap();
        let other = on.go(move || {
            let mut sizes = Vec::new();
            let mut buf = [0; 100];
            loop {
                let n = reader.read(&mut buf).unwrap();
                sizes.extend_from_slice(&buf[..n]);
                if n == 0 {
                    return sizes;
                }
            }
        });
        for part in [&b"one"[..], b"two", b"three"] {
            writer.write_all(part).unwrap();
        }
        drop(writer);
        (feeder.join(), other.join())
    });
}

#[test]
fn a_pipe_without_readers_is_broken() {
    same(|_| {
        let (reader, mut writer) = io::pipe().unwrap();
        drop(reader);
        code(writer.write(b"x"))
    });
}

#[test]
fn std_copies_between_pipe_and_socket() {
    same(|on| {
        let (mut reader, mut writer) = io::pipe().unwrap();
        let (a, b) = tcp_pair();
        let feeder = on.go(move || writer.write_all(&pattern(300_000)).unwrap());
        let copier = on.go(move || io::copy(&mut reader, &mut &a).unwrap());
        let mut got = Vec::new();
        let mut file = tempfile("copy");
        let n = io::copy(&mut &b, &mut got).unwrap();
        assert!(got == pattern(300_000));
        // A file goes out by what std does instead of sendfile.
        file.write_all(&got).unwrap();
        let (c, d) = tcp_pair();
        let path = file_path("copy");
        let sender =
            on.go(move || io::copy(&mut std::fs::File::open(path).unwrap(), &mut &c).unwrap());
        let mut again = Vec::new();
        (&d).read_to_end(&mut again).unwrap();
        assert!(again == got);
        feeder.join();
        (copier.join(), n, sender.join())
    });
    std::fs::remove_file(file_path("copy")).unwrap();
}

/// `O_NONBLOCK` is the open file's, whichever number it was set by, and what is
/// known of one number ends with it.
#[test]
fn a_flag_set_by_a_duplicate_is_felt_by_the_original() {
    same(|on| {
        let duplicates: [fn(RawFd) -> RawFd; 4] = [
            // SAFETY: no pointers.
            |fd| unsafe { libc::dup(fd) },
            // SAFETY: as above.
            |fd| unsafe { libc::fcntl(fd, libc::F_DUPFD, 0) },
            // SAFETY: as above.
            |fd| unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) },
            // SAFETY: as above.
            |fd| unsafe { libc::dup2(fd, libc::dup(0)) },
        ];
        duplicates.map(|duplicate| {
            let (mut a, b) = UnixStream::pair().unwrap();
            let fd = b.as_raw_fd();
            // SAFETY: made just now, nobody else's.
            let other = unsafe { UnixStream::from_raw_fd(duplicate(fd)) };
            // One wait, so that all is known of the number.
            let writer = on.go(move || {
                a.write_all(b"x").unwrap();
                a
            });
            let mut buffer = [0; 8];
            let got = read(fd, &mut buffer);
            let a = writer.join();
            other.set_nonblocking(true).unwrap();
            let nothing = read(fd, &mut buffer);
            drop(a);
            (got, nothing)
        })
    });
}

fn file_path(name: &str) -> std::path::PathBuf {
    std::env::temp_dir().join(format!("crore-{name}-{}", std::process::id()))
}

fn tempfile(name: &str) -> std::fs::File {
    std::fs::File::create(file_path(name)).unwrap()
}

#[test]
fn files_are_read_whole() {
    same(|_| {
        let mut file = tempfile("whole");
        let data = pattern(1 << 20);
        let wrote = file.write(&data).unwrap();
        let file = std::fs::File::open(file_path("whole")).unwrap();
        // SAFETY: no memory is involved.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        let mut buf = vec![0; 2 << 20];
        let first = read(file.as_raw_fd(), &mut buf);
        assert!(buf[..data.len()] == data);
        let end = read(file.as_raw_fd(), &mut buf);
        let dir = std::fs::File::open("/").unwrap();
        let strange = [
            read(dir.as_raw_fd(), &mut buf),
            read(
                std::fs::File::open("/dev/null").unwrap().as_raw_fd(),
                &mut buf,
            ),
            read(
                std::fs::File::open("/dev/zero").unwrap().as_raw_fd(),
                &mut buf[..77],
            ),
            read(
                std::fs::File::open("/proc/self/comm").unwrap().as_raw_fd(),
                &mut buf[..3],
            ),
            read(1 << 28, &mut buf),
        ];
        (wrote, first, end, strange)
    });
    std::fs::remove_file(file_path("whole")).unwrap();
}

#[test]
fn eventfds_and_fifos() {
    same(|on| {
        // SAFETY: no pointers.
        let event = unsafe { libc::eventfd(0, 0) };
        // Refused, not waited for, by `read`; `readv` says 0.
        let mut nothing = vec![read(event, &mut [])];
        let empty = libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        };
        // SAFETY: one empty buffer.
        nothing.push(said(unsafe { libc::readv(event, &empty, 1) }));
        // SAFETY: no pointers.
        let watch = unsafe { libc::inotify_init() };
        // SAFETY: as above.
        nothing.push(said(unsafe { libc::readv(watch, &empty, 1) }));
        // SAFETY: ours.
        assert_eq!(unsafe { libc::close(watch) }, 0);
        assert_eq!(nothing, [Err(libc::EINVAL), Ok(0), Ok(0)]);
        let waiter = on.go(move || {
            let mut eight = [0; 8];
            (read(event, &mut eight), u64::from_ne_bytes(eight))
        });
        // SAFETY: eight valid bytes.
        let wrote = said(unsafe { libc::write(event, 5u64.to_ne_bytes().as_ptr().cast(), 8) });
        let got = waiter.join();
        // SAFETY: ours.
        assert_eq!(unsafe { libc::close(event) }, 0);

        let path = file_path(&format!("fifo-{on:?}"));
        let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: a valid name.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        // Opened both ways: neither open waits for the other side.
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        let mut end = file.try_clone().unwrap();
        let waiter = on.go(move || {
            let mut buf = [0; 16];
            code((&file).read(&mut buf))
        });
        end.write_all(b"through").unwrap();
        (wrote, got, waiter.join())
    });
}

#[test]
fn println_from_many() {
    in_coroutines(|on| {
        let all: Vec<_> = (0..50)
            .map(|i| {
                on.go(move || {
                    for _ in 0..20 {
                        println!("line of {i}");
                        crore::yield_now();
                    }
                })
            })
            .collect();
        all.into_iter().for_each(|one| one.join());
    });
}

/// Waits on `fd` in a coroutine; the caller runs on after it has parked.
fn parked_reader(fd: RawFd) -> crore::JoinHandle<Result<usize, i32>> {
    let reader = crore::spawn(move || recv(fd, &mut [0; 8], 0));
    crore::yield_now();
    crore::yield_now();
    reader
}

#[test]
fn closing_wakes_those_who_wait() {
    in_coroutines(|_| {
        let ways = 3 + i32::from(crate::common::kernel_has(libc::SYS_close_range));
        for way in 0..ways {
            let (a, _b) = tcp_pair();
            let other = std::fs::File::open("/dev/null").unwrap();
            let fd = a.into_raw_fd();
            let readers = [parked_reader(fd), parked_reader(fd)];
            // SAFETY: `fd` is ours alone and not used as a stream any more.
            let ended = unsafe {
                match way {
                    0 => libc::close(fd),
                    1 => libc::dup2(other.as_raw_fd(), fd),
                    2 => libc::dup3(other.as_raw_fd(), fd, libc::O_CLOEXEC),
                    _ => libc::close_range(fd as u32, fd as u32, 0),
                }
            };
            assert!(ended >= 0);
            for reader in readers {
                assert_eq!(reader.join().unwrap(), Err(libc::EBADF), "way {way}");
            }
            if matches!(way, 1 | 2) {
                // SAFETY: the duplicate is ours.
                assert_eq!(unsafe { libc::close(fd) }, 0);
            }
        }
    });
}

#[test]
fn a_failed_dup2_wakes_nobody() {
    in_coroutines(|_| {
        let (a, b) = tcp_pair();
        let reader = parked_reader(a.as_raw_fd());
        // SAFETY: no pointers; the first number is not open.
        assert_eq!(unsafe { libc::dup2(1 << 28, a.as_raw_fd()) }, -1);
        (&b).write_all(b"still").unwrap();
        assert_eq!(reader.join().unwrap(), Ok(5));
    });
}

#[test]
fn a_number_can_be_used_again() {
    in_coroutines(|on| {
        let mut numbers = std::collections::HashSet::new();
        let mut reused = 0;
        for round in 0..200u32 {
            let (a, b) = UnixStream::pair().unwrap();
            reused += u32::from(!numbers.insert(a.as_raw_fd()));
            let reader = on.go(move || {
                let mut buf = [0; 16];
                let n = (&a).read(&mut buf).unwrap();
                buf[..n].to_vec()
            });
            crore::yield_now();
            (&b).write_all(&round.to_le_bytes()).unwrap();
            assert_eq!(reader.join(), round.to_le_bytes());
        }
        assert!(reused > 100, "numbers must be used again here, {reused}");
    });
}

#[test]
fn a_number_replaced_unseen_loses_no_wakeup() {
    in_coroutines(|on| {
        for round in 0..50u32 {
            let (a, b) = tcp_pair();
            let fd = a.into_raw_fd();
            let reader = parked_reader(fd);
            (&b).write_all(b"x").unwrap();
            assert_eq!(reader.join().unwrap(), Ok(1));
            drop(b);
            let (new, b) = io::pipe().unwrap();
            // No hook sees this: the socket ends, the number means the pipe.
            // SAFETY: `fd` is ours, and from here on a pipe's.
            let a = unsafe {
                assert_eq!(
                    libc::syscall(libc::SYS_dup3, new.as_raw_fd(), fd, 0),
                    fd.into()
                );
                io::PipeReader::from_raw_fd(fd)
            };
            drop(new);
            let reader = on.go(move || {
                let mut buf = [0; 16];
                let n = (&a).read(&mut buf).unwrap();
                buf[..n].to_vec()
            });
            crore::yield_now();
            (&b).write_all(&round.to_le_bytes()).unwrap();
            assert_eq!(reader.join(), round.to_le_bytes());
        }
    });
}

#[test]
fn a_forked_child_has_plain_calls_and_disturbs_nobody() {
    in_coroutines(|_| {
        let (a, b) = tcp_pair();
        let (mut from_child, mut to_parent) = io::pipe().unwrap();
        let reader = parked_reader(a.as_raw_fd());
        // SAFETY: the child makes system calls only, then ends.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: closes the child's copies; `_exit` runs nothing.
            unsafe {
                libc::close(a.as_raw_fd());
                let done = libc::write(to_parent.as_raw_fd(), b"bye".as_ptr().cast(), 3);
                libc::_exit(i32::from(done != 3));
            }
        }
        to_parent.flush().unwrap();
        let mut three = [0; 3];
        from_child.read_exact(&mut three).unwrap();
        assert_eq!(&three, b"bye");
        let mut status = 0;
        // SAFETY: our own child, a place for its status.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert_eq!(status, 0);
        (&b).write_all(b"alive").unwrap();
        assert_eq!(reader.join().unwrap(), Ok(5));
    });
}
