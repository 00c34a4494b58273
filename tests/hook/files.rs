//! The rows of the hooks' table about files: in a coroutine each call says and
//! does what it says and does on a thread, and those that wait for somebody
//! park.

use std::ffi::{CString, c_int};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::hook_common::{On, flags, in_coroutines, pattern, said, same};

/// A path that nobody else has.
pub(crate) fn path() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "crore-files-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    std::env::temp_dir().join(name)
}

/// An open file that is gone when it is closed.
pub(crate) fn file() -> File {
    let path = path();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    fs::remove_file(path).unwrap();
    file
}

fn iov(bytes: &mut [u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    }
}

/// What is not in memory must be fetched: by a helper.
fn forget_cache(file: &File) {
    file.sync_all().unwrap();
    // SAFETY: no pointers.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}

#[test]
fn positioned_reads_and_writes() {
    same(|_| {
        let mut file = file();
        let fd = file.as_raw_fd();
        let mut out = Vec::new();
        let mut data = pattern(700_000);
        let (mut a, mut b) = (pattern(10), pattern(300));
        // SAFETY: buffers below are as long as said; the rest is refused.
        unsafe {
            out.push(said(libc::pwrite(fd, data.as_ptr().cast(), data.len(), 5)));
            out.push(said(libc::pwrite64(fd, b"hello".as_ptr().cast(), 5, 0)));
            let two = [iov(&mut a), iov(&mut b)];
            out.push(said(libc::pwritev(fd, two.as_ptr(), 2, 900_000)));
            out.push(said(libc::pwritev2(
                fd,
                two.as_ptr(),
                2,
                950_000,
                libc::RWF_DSYNC,
            )));
            out.push(said(libc::pwritev2(fd, two.as_ptr(), 2, -1, 0)));
            out.push(said(libc::pwrite(fd, b"x".as_ptr().cast(), 1, -1)));
            out.push(said(libc::pwrite(-1, b"x".as_ptr().cast(), 1, 0)));
        }
        for cached in [true, false] {
            if !cached {
                forget_cache(&file);
            }
            // SAFETY: as above.
            unsafe {
                let to = data.as_mut_ptr();
                out.push(said(libc::pread(fd, to.cast(), data.len(), 3)));
                out.push(said(libc::pread64(fd, to.add(9).cast(), 100, 699_990)));
                out.push(said(libc::pread(fd, to.cast(), 100, 2_000_000)));
                let two = [iov(&mut a), iov(&mut b)];
                out.push(said(libc::preadv(fd, two.as_ptr(), 2, 100)));
                out.push(said(libc::preadv2(fd, two.as_ptr(), 2, 949_990, 0)));
                out.push(said(libc::preadv2(fd, two.as_ptr(), 2, -1, 0)));
                out.push(said(libc::pread(fd, to.cast(), 1, -5)));
                out.push(said(libc::preadv(fd, two.as_ptr(), -1, 0)));
                out.push(said(libc::preadv2(fd, two.as_ptr(), 2, 0, 1 << 30)));
            }
        }
        let place = file.stream_position().unwrap();
        let mut all = Vec::new();
        file.rewind().unwrap();
        forget_cache(&file);
        file.read_to_end(&mut all).unwrap();
        (out, place, data, a, b, all)
    });
}

/// Where a file's own position is used, it is behind what was sent, also when
/// the other side took a part only, or nothing.
#[test]
fn sendfile_moves_the_position_by_what_was_sent() {
    same(|_| {
        let mut file = file();
        file.write_all(&pattern(1 << 20)).unwrap();
        file.rewind().unwrap();
        let (near, far) = UnixStream::pair().unwrap();
        near.set_write_timeout(Some(std::time::Duration::from_millis(20)))
            .unwrap();
        let (out, from) = (near.as_raw_fd(), file.as_raw_fd());
        // SAFETY: no place for an offset.
        let send = || said(unsafe { libc::sendfile(out, from, std::ptr::null_mut(), 1 << 20) });
        let some = send().unwrap();
        assert!(some < 1 << 20, "nobody reads");
        let behind = file.stream_position().unwrap() == some as u64;
        let nothing = send();
        let still = file.stream_position().unwrap() == some as u64;
        drop(far);
        (behind, nothing, still)
    });
}

/// A file that the kernel makes up gives a piece at a time, and may make wait
/// for the next.
#[test]
fn a_made_up_file_is_asked_once() {
    same(|_| {
        // Long enough: a line of 50 bytes or more for each mapping, and every
        // second page is one.
        // SAFETY: a mapping of its own, given back below.
        unsafe {
            let (len, flags) = (200 * 4096, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            let at = libc::mmap(std::ptr::null_mut(), len, libc::PROT_NONE, flags, -1, 0);
            assert_ne!(at, libc::MAP_FAILED);
            for page in (0..200).step_by(2) {
                let page = at.byte_add(page * 4096);
                assert_eq!(libc::mprotect(page, 4096, libc::PROT_READ), 0);
            }
            let mut maps = File::open("/proc/self/maps").unwrap();
            let mut buffer = vec![0; 1 << 20];
            let first = maps.read(&mut buffer).unwrap();
            let second = maps.read(&mut buffer).unwrap();
            assert_eq!(libc::munmap(at, len), 0);
            (first > 0 && first <= 4096, second > 0)
        }
    });
}

#[test]
fn a_cold_file_with_the_nonblocking_flag_is_read_all_the_same() {
    same(|_| {
        let mut file = file();
        file.write_all(&pattern(100_000)).unwrap();
        forget_cache(&file);
        file.rewind().unwrap();
        // SAFETY: no pointers.
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
        let mut all = Vec::new();
        file.read_to_end(&mut all).unwrap();
        all
    });
}

#[test]
fn positions_are_refused_where_there_are_none() {
    same(|_| {
        let (socket, _other) = UnixStream::pair().unwrap();
        let (pipe, _writer) = std::io::pipe().unwrap();
        let mut byte = [0u8];
        [socket.as_raw_fd(), pipe.as_raw_fd()].map(|fd| {
            // SAFETY: one byte.
            unsafe {
                [
                    said(libc::pread(fd, byte.as_mut_ptr().cast(), 1, 0)),
                    said(libc::pwrite(fd, byte.as_ptr().cast(), 1, 0)),
                    said(libc::fsync(fd) as isize),
                ]
            }
        })
    });
}

#[test]
fn syncing() {
    same(|_| {
        let mut file = file();
        file.write_all(b"data").unwrap();
        let fd = file.as_raw_fd();
        // SAFETY: no pointers.
        unsafe {
            [fd, -1].map(|fd| {
                [libc::fsync(fd), libc::fdatasync(fd), libc::syncfs(fd)]
                    .map(|result| said(result as isize))
            })
        }
    });
}

fn fifo() -> (PathBuf, CString) {
    let path = path();
    let name = CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: a path.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    (path, name)
}

fn open(name: &CString, flags: c_int) -> Result<OwnedFd, i32> {
    // SAFETY: a path; the descriptor is fresh.
    unsafe {
        said(libc::open(name.as_ptr(), flags) as isize).map(|fd| OwnedFd::from_raw_fd(fd as RawFd))
    }
}

#[test]
fn a_fifo_opens_when_both_ends_are_there() {
    same(|on| {
        let mut all = Vec::new();
        for write_first in [true, false] {
            let (path, name) = fifo();
            let theirs = name.clone();
            let (one, other) = if write_first {
                (libc::O_WRONLY, libc::O_RDONLY)
            } else {
                (libc::O_RDONLY, libc::O_WRONLY)
            };
            let first = on.go(move || open(&theirs, one).unwrap());
            if on == On::Coroutines {
                crore::yield_now();
            }
            let second = open(&name, other).unwrap();
            let first = first.join();
            all.push((flags(&first), flags(&second)));
            let (w, r) = if write_first {
                (first, second)
            } else {
                (second, first)
            };
            File::from(w).write_all(b"through").unwrap();
            let mut text = String::new();
            File::from(r).read_to_string(&mut text).unwrap();
            all.push((text.len() as i64, 0));
            fs::remove_file(path).unwrap();
        }
        all
    });
}

#[test]
fn a_writer_that_comes_and_goes_lets_the_reader_in() {
    in_coroutines(|on| {
        let (path, name) = fifo();
        let theirs = name.clone();
        let reader = on.go(move || {
            let mut text = String::new();
            let mut file = File::from(open(&theirs, libc::O_RDONLY).unwrap());
            file.read_to_string(&mut text).unwrap();
            text
        });
        crore::yield_now();
        drop(open(&name, libc::O_WRONLY).unwrap());
        assert_eq!(reader.join(), "");
        fs::remove_file(path).unwrap();
    });
}

#[test]
fn waiting_for_a_fifo_can_be_cancelled() {
    in_coroutines(|_| {
        let (path, name) = fifo();
        let handles = [libc::O_RDONLY, libc::O_WRONLY].map(|flags| {
            let (_other, name) = (
                fifo(),
                CString::new(format!("{}{flags}", path.display())).unwrap(),
            );
            // SAFETY: a path.
            assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
            let theirs = name.clone();
            let waits = crore::spawn(move || open(&theirs, flags).map(drop));
            crore::yield_now();
            waits.cancel();
            (waits, name)
        });
        for (waits, name) in handles {
            assert_eq!(waits.join().unwrap(), Err(libc::ECANCELED));
            fs::remove_file(name.to_str().unwrap()).unwrap();
        }
        drop(name);
        fs::remove_file(path).unwrap();
    });
}

#[test]
fn opening_everything_else() {
    same(|_| {
        let dir = path();
        fs::create_dir(&dir).unwrap();
        let name = CString::new(dir.join("file").to_str().unwrap()).unwrap();
        let missing = CString::new(dir.join("missing").to_str().unwrap()).unwrap();
        let mut out = Vec::new();
        // SAFETY: paths; descriptors are closed below.
        unsafe {
            let made = libc::open(name.as_ptr(), libc::O_CREAT | libc::O_WRONLY, 0o640);
            out.push(said(libc::close(made) as isize));
            out.push(said(libc::close(libc::creat(name.as_ptr(), 0o600)) as isize));
            out.push(said(libc::open(missing.as_ptr(), libc::O_RDONLY) as isize));
            out.push(said(libc::open64(missing.as_ptr(), libc::O_RDONLY) as isize));
            out.push(said(libc::open(std::ptr::null(), libc::O_RDONLY) as isize));
            let at = libc::openat(libc::AT_FDCWD, name.as_ptr(), libc::O_RDONLY);
            out.push(said(libc::close(at) as isize));
            out.push(said(
                libc::openat(-1, c"x".as_ptr(), libc::O_RDONLY) as isize
            ));
            out.push(said(
                libc::open(name.as_ptr(), libc::O_CREAT | libc::O_EXCL, 0o600) as isize,
            ));
        }
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(dir.join("file")).unwrap().permissions(),
        );
        fs::remove_dir_all(dir).unwrap();
        (out, mode)
    });
}

#[test]
fn copying_between_files() {
    same(|_| {
        let (mut from, mut to) = (file(), file());
        let data = pattern(300_000);
        from.write_all(&data).unwrap();
        from.rewind().unwrap();
        let (f, t) = (from.as_raw_fd(), to.as_raw_fd());
        let (mut here, mut there, mut out) = (10i64, 7i64, Vec::new());
        let none = std::ptr::null_mut();
        // SAFETY: places that live across the calls, or none.
        unsafe {
            out.push(said(libc::copy_file_range(f, none, t, none, 1000, 0)));
            out.push(said(libc::copy_file_range(
                f, &mut here, t, &mut there, 500, 0,
            )));
            out.push(said(libc::copy_file_range(f, &mut here, -1, none, 500, 0)));
            out.push(said(libc::copy_file_range(f, none, t, none, 1, 99)));
            out.push(said(libc::sendfile(t, f, none, 2000)));
            out.push(said(libc::sendfile(t, f, &mut here, 100_000)));
            out.push(said(libc::sendfile(t, -1, none, 1)));
            out.push(said(libc::sendfile(t, f, none, 1_000_000)));
        }
        let mut all = Vec::new();
        to.rewind().unwrap();
        to.read_to_end(&mut all).unwrap();
        let place = from.stream_position().unwrap();
        (out, here, there, place, all)
    });
}

#[test]
fn a_file_is_sent_to_a_slow_reader() {
    same(|on| {
        let mut from = file();
        from.write_all(&pattern(3 << 20)).unwrap();
        let mut out = Vec::new();
        for with_offset in [true, false] {
            from.rewind().unwrap();
            let (a, b) = UnixStream::pair().unwrap();
            let reader = on.go(move || {
                let mut all = Vec::new();
                (&b).read_to_end(&mut all).unwrap();
                all
            });
            let mut at = 1000i64;
            let offset = if with_offset {
                &raw mut at
            } else {
                std::ptr::null_mut()
            };
            // SAFETY: a place that lives across the call, or none.
            let sent =
                said(unsafe { libc::sendfile(a.as_raw_fd(), from.as_raw_fd(), offset, 5 << 20) });
            drop(a);
            let all = reader.join();
            out.push((sent, at, from.stream_position().unwrap(), all));
        }
        out
    });
}

#[test]
fn splicing() {
    same(|on| {
        let (from, mut source) = UnixStream::pair().unwrap();
        let (to, mut sink) = UnixStream::pair().unwrap();
        let (r, w) = std::io::pipe().unwrap();
        let mover = on.go(move || {
            let none = std::ptr::null_mut();
            let mut said_ = Vec::new();
            loop {
                // SAFETY: no offsets.
                let into = said(unsafe {
                    libc::splice(from.as_raw_fd(), none, w.as_raw_fd(), none, 4096, 0)
                });
                let Ok(mut left @ 1..) = into else {
                    said_.push(into);
                    // SAFETY: no offsets.
                    said_.push(said(unsafe {
                        libc::splice(to.as_raw_fd(), none, to.as_raw_fd(), none, 1, 0)
                    }));
                    return said_;
                };
                while left > 0 {
                    // SAFETY: no offsets.
                    left -= said(unsafe {
                        libc::splice(r.as_raw_fd(), none, to.as_raw_fd(), none, left, 0)
                    })
                    .unwrap();
                }
            }
        });
        let reader = on.go(move || {
            let mut all = Vec::new();
            sink.read_to_end(&mut all).unwrap();
            all
        });
        for piece in pattern(1 << 20).chunks(30_000) {
            source.write_all(piece).unwrap();
        }
        drop(source);
        (mover.join(), reader.join())
    });
}

#[test]
fn splicing_between_file_and_pipe() {
    same(|_| {
        let (mut from, mut to) = (file(), file());
        from.write_all(&pattern(5000)).unwrap();
        let (r, w) = std::io::pipe().unwrap();
        let mut at = 100i64;
        let none = std::ptr::null_mut();
        // SAFETY: a place that lives across the calls, or none.
        let (into, out_of, again) = unsafe {
            (
                said(libc::splice(
                    from.as_raw_fd(),
                    &mut at,
                    w.as_raw_fd(),
                    none,
                    3000,
                    0,
                )),
                said(libc::splice(
                    r.as_raw_fd(),
                    none,
                    to.as_raw_fd(),
                    none,
                    9999,
                    0,
                )),
                said(libc::splice(
                    r.as_raw_fd(),
                    none,
                    to.as_raw_fd(),
                    none,
                    1,
                    libc::SPLICE_F_NONBLOCK,
                )),
            )
        };
        let mut all = Vec::new();
        to.rewind().unwrap();
        to.read_to_end(&mut all).unwrap();
        (into, out_of, again, at, all)
    });
}
