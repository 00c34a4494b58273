//! Files that go to the disk (`O_DIRECT`, `O_DSYNC`), and what a helper thread does in a
//! coroutine's place: it works on the caller's memory, as it is aligned, and on the
//! file that the number meant when the call was made.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;

use crate::common::kernel_has;
use crate::files::path;
use crate::hook_common::{pattern, said};

const BLOCK: usize = 4096;
const LEN: usize = 64 * BLOCK;

/// A buffer on a stack, aligned as `O_DIRECT` wants it.
#[repr(align(4096))]
struct Aligned([u8; 2 * BLOCK]);

/// A buffer on the heap, aligned as `O_DIRECT` wants it.
struct Heap(*mut u8);

impl Heap {
    const LAYOUT: Layout = match Layout::from_size_align(LEN, BLOCK) {
        Ok(layout) => layout,
        Err(_) => unreachable!(),
    };

    fn new() -> Self {
        // SAFETY: not empty.
        let place = unsafe { alloc_zeroed(Self::LAYOUT) };
        assert!(!place.is_null());
        Self(place)
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: allocated with zeros, and borrowed with `self`.
        unsafe { std::slice::from_raw_parts_mut(self.0, LEN) }
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        // SAFETY: allocated so.
        unsafe { dealloc(self.0, Self::LAYOUT) };
    }
}

/// One file, opened to go by the cache and with `flags`: none where the file system
/// can't.
fn opened(flags: i32) -> Option<(File, File)> {
    let path = path();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let cached = options.open(&path).unwrap();
    let direct = options.custom_flags(flags).open(&path).ok();
    fs::remove_file(path).unwrap();
    Some((cached, direct?))
}

/// What a call that was just made said, and the first bytes that it moved.
type Said = Vec<(Result<usize, i32>, Vec<u8>)>;

/// Every call that moves bytes of a file, on `buffer`, each with pages in the cache:
/// then the kernel says that it would wait. At last the file's sum.
fn all_calls(cached: &File, fd: RawFd, buffer: &mut [u8]) -> Said {
    let data = pattern(LEN + 100);
    let n = buffer.len();
    let place = buffer.as_mut_ptr();
    let two = [(0, n / 2), (n / 2, n - n / 2)].map(|(at, len)| libc::iovec {
        iov_base: place.wrapping_add(at).cast(),
        iov_len: len,
    });
    let (iov, b) = (two.as_ptr(), BLOCK as i64);
    // SAFETY: here and below, `place` has `n` bytes, as the two halves have.
    let calls: [&dyn Fn() -> isize; 14] = unsafe {
        [
            &|| libc::pread(fd, place.cast(), n, b),
            &|| libc::pwrite(fd, place.cast(), n, 0),
            &|| libc::preadv(fd, iov, 2, 0),
            &|| libc::pwritev(fd, iov, 2, b),
            &|| libc::preadv2(fd, iov, 2, 0, 0),
            &|| libc::pwritev2(fd, iov, 2, b, libc::RWF_DSYNC),
            &|| libc::preadv2(fd, iov, 2, 0, libc::RWF_NOWAIT),
            &|| libc::read(fd, place.cast(), n),
            &|| libc::readv(fd, iov, 2),
            &|| libc::write(fd, place.cast(), n),
            &|| libc::writev(fd, iov, 2),
            &|| libc::preadv2(fd, iov, 2, -1, 0),
            // Up to the end, and misaligned.
            &|| libc::pread(fd, place.cast(), n, LEN as i64 - b),
            &|| libc::pread(fd, place.cast(), n, 100),
        ]
    };
    let mut out = Said::new();
    for (at, call) in calls.iter().enumerate() {
        cached.write_all_at(&data, 0).unwrap();
        // SAFETY: the buffer, which nobody else uses now.
        unsafe { place.write_bytes(at as u8, n) };
        let answer = said(call());
        // SAFETY: as above.
        let bytes = unsafe { std::slice::from_raw_parts(place, n) };
        out.push((answer, vec![bytes[0], bytes[n / 2], bytes[n - 1]]));
    }
    let mut whole = vec![0; LEN + 100];
    cached.read_exact_at(&mut whole, 0).unwrap();
    let sum = whole.iter().map(|&byte| usize::from(byte)).sum();
    out.push((Ok(sum), Vec::new()));
    out
}

/// [`all_calls`] with a buffer on the heap, on the stack, and a misaligned one.
fn every_buffer(flags: i32) -> Option<Vec<Said>> {
    let (cached, direct) = opened(flags)?;
    let fd = direct.as_raw_fd();
    let rewound = |buffer: &mut [u8]| {
        // SAFETY: no pointers.
        assert_eq!(unsafe { libc::lseek(fd, 0, libc::SEEK_SET) }, 0);
        all_calls(&cached, fd, buffer)
    };
    let mut stack = Aligned([0; 2 * BLOCK]);
    let mut heap = Heap::new();
    Some(vec![
        rewound(heap.bytes()),
        rewound(&mut stack.0),
        rewound(&mut heap.bytes()[..BLOCK]),
        rewound(&mut heap.bytes()[512..512 + BLOCK]),
        rewound(&mut stack.0[1..BLOCK + 1]),
    ])
}

/// On a thread and on each kind of stack, with the same answers.
fn on_every_stack<T: std::fmt::Debug + PartialEq + Send + 'static>(what: fn() -> T) {
    let plain = std::thread::spawn(what).join().unwrap();
    let runtime = crore::Runtime::builder().shared_stacks(1, 1 << 20).build();
    let ours = runtime.unwrap().run(move || {
        let own = crore::spawn(what);
        // SAFETY: hands no reference to a local to anything but calls of libc.
        let shared = [(); 2].map(|()| unsafe { crore::spawn_shared(what) });
        let own = own.join().unwrap();
        for one in shared {
            assert_eq!(one.join().unwrap(), own, "left: shared, right: own stack");
        }
        own
    });
    assert_eq!(ours.unwrap(), plain, "left: coroutines, right: threads");
}

#[test]
fn direct_io_says_and_moves_what_it_does_on_a_thread() {
    on_every_stack(|| every_buffer(libc::O_DIRECT));
}

#[test]
fn files_that_are_written_to_disk_at_once() {
    on_every_stack(|| every_buffer(libc::O_DSYNC));
    on_every_stack(|| every_buffer(libc::O_DIRECT | libc::O_SYNC));
}

/// From a file with `O_DIRECT`, and to one.
#[test]
fn direct_files_are_copied_as_by_a_thread() {
    on_every_stack(|| {
        let (cached, direct) = opened(libc::O_DIRECT)?;
        let (mut other, to) = opened(libc::O_DIRECT)?;
        cached.write_all_at(&pattern(LEN + 100), 0).unwrap();
        let mut out = Vec::new();
        let (mut source, mut sink) = std::io::pipe().unwrap();
        let (from, none) = (direct.as_raw_fd(), std::ptr::null_mut());
        for n in [BLOCK, 3 * BLOCK] {
            // SAFETY: no places for offsets.
            let moved = unsafe { libc::sendfile(sink.as_raw_fd(), from, none, n) };
            let moved = said(moved);
            let mut got = vec![0; moved.unwrap_or(0)];
            source.read_exact(&mut got).unwrap();
            out.push((moved, got));
        }
        // SAFETY: as above, in both.
        let moved = unsafe { libc::copy_file_range(from, none, to.as_raw_fd(), none, BLOCK, 0) };
        out.push((said(moved), Vec::new()));
        sink.write_all(&pattern(BLOCK)).unwrap();
        // SAFETY: as above.
        let moved =
            unsafe { libc::splice(source.as_raw_fd(), none, to.as_raw_fd(), none, BLOCK, 0) };
        out.push((said(moved), Vec::new()));
        let mut whole = Vec::new();
        other.read_to_end(&mut whole).unwrap();
        out.push((Ok(0), whole));
        Some(out)
    });
}

/// A disk: a file behind a loop device, for as long as this lives.
struct Disk(PathBuf);

impl Disk {
    /// None where we may not have one.
    fn new() -> Option<Self> {
        let path = path();
        fs::write(&path, pattern(1 << 20)).unwrap();
        let mut command = Command::new("losetup");
        let made = command.args(["--find", "--show"]).arg(&path).output();
        fs::remove_file(path).unwrap();
        let name = made.ok().filter(|made| made.status.success())?.stdout;
        Some(Self(String::from_utf8(name).unwrap().trim().into()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let gone = Command::new("losetup")
            .arg("--detach")
            .arg(&self.0)
            .status();
        assert!(gone.unwrap().success());
    }
}

/// What is half in memory is read whole.
#[test]
fn a_disk_is_read_whole() {
    on_every_stack(|| {
        let disk = Disk::new()?;
        let file = File::open(&disk.0).unwrap();
        let fd = file.as_raw_fd();
        let mut buffer = vec![0; 1 << 20];
        let mut out = Vec::new();
        for positioned in [true, false] {
            // SAFETY: no pointers, and a buffer as long as said.
            unsafe {
                assert_eq!(libc::posix_fadvise(fd, 0, 0, libc::POSIX_FADV_RANDOM), 0);
                assert_eq!(libc::posix_fadvise(fd, 0, 0, libc::POSIX_FADV_DONTNEED), 0);
                file.read_exact_at(&mut buffer[..BLOCK], 0).unwrap();
                let place = buffer.as_mut_ptr().cast();
                out.push(said(match positioned {
                    true => libc::pread(fd, place, 1 << 20, 0),
                    false => libc::read(fd, place, 1 << 20),
                }));
            }
            out.push(Ok(buffer.iter().map(|&byte| usize::from(byte)).sum()));
        }
        Some(out)
    });
}

/// Whether others of the worker had a turn while the call moved bytes.
fn lets_others_run(call: impl FnOnce() -> isize) -> bool {
    let ran = Rc::new(Cell::new(false));
    let theirs = Rc::clone(&ran);
    let other = crore::spawn_local(move || theirs.set(true));
    let moved = call();
    let had_a_turn = ran.get();
    assert_eq!(said(moved), Ok(BLOCK));
    other.join().unwrap();
    had_a_turn
}

/// What waits for the disk does so on another thread.
#[test]
fn others_run_while_the_disk_works() {
    let files =
        [libc::O_DIRECT, libc::O_DSYNC, libc::O_SYNC, 0].map(|flags| (flags, opened(flags)));
    crore::run(|| {
        let mut buffer = Heap::new();
        let place = buffer.bytes().as_mut_ptr();
        let part = libc::iovec {
            iov_base: place.cast(),
            iov_len: BLOCK,
        };
        for (flags, file) in &files {
            let Some((cached, file)) = file else {
                println!("skipped: the file system has not {flags:#o}");
                continue;
            };
            cached.write_all_at(&pattern(LEN), 0).unwrap();
            let fd = file.as_raw_fd();
            // SAFETY: here and below, the buffer has a block.
            let writes = || unsafe { libc::pwrite(fd, place.cast(), BLOCK, 0) };
            // The second finds the block where it is, and nothing of it in memory.
            for _ in 0..if *flags == 0 { 0 } else { 2 } {
                assert!(lets_others_run(writes), "a write, {flags:#o}");
            }
            let reads: [fn(i32, *mut libc::c_void) -> isize; 2] = [
                // SAFETY: as above.
                |fd, to| unsafe { libc::pread(fd, to, BLOCK, 0) },
                // SAFETY: as above.
                |fd, to| unsafe { libc::read(fd, to, BLOCK) },
            ];
            for read in reads.into_iter().filter(|_| *flags == libc::O_DIRECT) {
                let reads = || read(fd, place.cast());
                assert!(lets_others_run(reads), "a read, {flags:#o}");
                // Now nothing of it is in memory.
                assert!(lets_others_run(reads), "a read, {flags:#o}");
            }
            for sync in [libc::RWF_DSYNC, libc::RWF_SYNC] {
                // SAFETY: as above.
                let writes = || unsafe { libc::pwritev2(fd, &part, 1, 0, sync) };
                if kernel_has(libc::SYS_pwritev2) {
                    assert!(lets_others_run(writes), "a write, {flags:#o}, {sync:#x}");
                }
            }
        }
    })
    .unwrap();
}
