//! Writes of more than there is room for, to what can't be asked not to wait: FIFOs and
//! terminals. They park, all bytes arrive, and small ones arrive whole.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::time::Duration;

use crate::files::path;
use crate::hook_common::{On, code, in_coroutines, pattern, said, same};

/// Both ends of a FIFO that has no name any more: for reading and for writing.
fn fifo() -> [File; 2] {
    let path = path();
    let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: a valid name.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let mut options = File::options();
    let both = options.read(true).write(true).open(&path).unwrap();
    let [reads, writes] = [(true, false), (false, true)].map(|(read, write)| {
        let mut options = File::options();
        options.read(read).write(write).open(&path).unwrap()
    });
    std::fs::remove_file(path).unwrap();
    drop(both);
    [reads, writes]
}

/// A pseudoterminal: its master, and its other side after `change` of its ways.
pub(crate) fn pty(change: impl FnOnce(&mut libc::termios)) -> [File; 2] {
    let (mut master, mut other) = (-1, -1);
    let (none, unset) = (std::ptr::null_mut(), std::ptr::null());
    // SAFETY: places for two descriptors, no name, no size; a valid termios.
    unsafe {
        let done = libc::openpty(&mut master, &mut other, none, none.cast(), unset);
        assert_eq!(done, 0);
        let mut ways: libc::termios = std::mem::zeroed();
        assert_eq!(libc::tcgetattr(other, &mut ways), 0);
        change(&mut ways);
        assert_eq!(libc::tcsetattr(other, libc::TCSANOW, &ways), 0);
        [master, other].map(|fd| File::from_raw_fd(fd))
    }
}

pub(crate) fn raw(ways: &mut libc::termios) {
    // SAFETY: a valid one.
    unsafe { libc::cfmakeraw(ways) };
}

/// Who writes to whom.
fn pairs() -> Vec<(&'static str, [File; 2])> {
    let [master, other] = pty(raw);
    let [from, to] = pty(raw);
    vec![
        ("FIFO", fifo()),
        ("terminal", [master, other]),
        ("master", [to, from]),
        ("lines", pty(|_| ())),
    ]
}

#[test]
fn all_of_a_large_write_arrives() {
    same(|on| {
        let mut out = Vec::new();
        for (name, [mut reads, mut writes]) in pairs() {
            let data = pattern(300_000);
            // A line's end takes more room than it has bytes.
            let ends = data.iter().filter(|&&byte| byte == b'\n').count();
            let len = data.len() + if name == "lines" { ends } else { 0 };
            let writer = on.go(move || {
                writes.write_all(&data).unwrap();
                writes
            });
            let (mut all, mut buffer) = (Vec::new(), vec![0; 7000]);
            while all.len() < len {
                let some = reads.read(&mut buffer).unwrap();
                all.extend_from_slice(&buffer[..some]);
            }
            writer.join();
            out.push((name, all));
        }
        out
    });
}

/// By several workers at a time: each finds room, and then another may be faster.
#[test]
fn records_of_many_writers_arrive_whole() {
    const RECORDS: usize = 1500;
    std::thread::spawn(|| {
        let runtime = crore::Runtime::builder().workers(3).build().unwrap();
        let [mut reads, writes] = fifo();
        let records = runtime.run(move || {
            let writers: Vec<_> = (0..6_u8)
                .map(|id| {
                    let mut writes = writes.try_clone().unwrap();
                    crore::spawn(move || {
                        for _ in 0..RECORDS {
                            writes.write_all(&[id; 600]).unwrap();
                        }
                    })
                })
                .collect();
            drop(writes);
            let mut all = Vec::new();
            reads.read_to_end(&mut all).unwrap();
            writers.into_iter().for_each(|one| one.join().unwrap());
            all
        });
        let records = records.unwrap();
        assert_eq!(records.len(), 6 * RECORDS * 600);
        let whole = |record: &[u8]| record.iter().all(|&byte| byte == record[0]);
        assert!(records.chunks(600).all(whole));
    })
    .join()
    .unwrap();
}

/// Several readers of one FIFO, of which each byte goes to one.
#[test]
fn a_reader_that_was_not_the_fastest_parks() {
    std::thread::spawn(|| {
        let runtime = crore::Runtime::builder().workers(3).build().unwrap();
        let [reads, mut writes] = fifo();
        let total = runtime.run(move || {
            let readers: Vec<_> = (0..6)
                .map(|_| {
                    let mut reads = reads.try_clone().unwrap();
                    crore::spawn(move || {
                        let mut total = 0;
                        loop {
                            match reads.read(&mut [0; 1]).unwrap() {
                                0 => return total,
                                some => total += some,
                            }
                        }
                    })
                })
                .collect();
            for _ in 0..3000 {
                writes.write_all(&[7]).unwrap();
            }
            drop(writes);
            let totals = readers.into_iter().map(|one| one.join().unwrap());
            totals.sum::<usize>()
        });
        assert_eq!(total.unwrap(), 3000);
    })
    .join()
    .unwrap();
}

fn write(fd: RawFd, data: &[u8]) -> Result<usize, i32> {
    // SAFETY: a valid buffer.
    said(unsafe { libc::write(fd, data.as_ptr().cast(), data.len()) })
}

#[test]
fn what_is_refused_or_not_to_be_waited_for_says_so() {
    same(|_| {
        let mut out = Vec::new();
        for (name, [reads, writes]) in pairs() {
            let data = vec![b'x'; 300_000];
            if name == "FIFO" {
                out.push((name, write(reads.as_raw_fd(), &data)));
                out.push((name, code((&writes).read(&mut [0; 9]))));
            }
            // SAFETY: F_SETFL takes no pointer.
            let set = unsafe { libc::fcntl(writes.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
            assert_eq!(set, 0);
            let first = write(writes.as_raw_fd(), &data);
            // (How much a terminal takes depends on what the kernel does beside.)
            let part = first.map(|some| match name {
                "FIFO" => some,
                _ => usize::from(0 < some && some < data.len()),
            });
            out.push((name, part));
            let rest: Vec<_> = (0..200)
                .map(|_| write(writes.as_raw_fd(), &data[..4096]))
                .collect();
            out.push((name, *rest.last().unwrap()));
            if name == "FIFO" {
                drop(reads);
                out.push((name, write(writes.as_raw_fd(), &data)));
            }
        }
        out
    });
}

/// The user's own open file is left alone: also while the write waits.
#[test]
fn the_flags_of_the_users_file_stay() {
    in_coroutines(|_: On| {
        for (name, [mut reads, mut writes]) in pairs() {
            let fd = writes.as_raw_fd();
            let writer = crore::spawn(move || {
                let done = writes.write_all(&vec![b'x'; 300_000]);
                (done.is_ok(), writes)
            });
            crore::sleep(Duration::from_millis(5));
            // SAFETY: F_GETFL takes no pointer.
            let flags = unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_GETFL) };
            assert_eq!(flags & i64::from(libc::O_NONBLOCK), 0, "{name}");
            let (mut total, mut buffer) = (0, vec![0; 9000]);
            while total < 300_000 {
                total += reads.read(&mut buffer).unwrap();
            }
            assert!(writer.join().unwrap().0);
        }
    });
}

/// A write that waits for room ends with its coroutine, or with its reader.
#[test]
fn a_write_that_waits_for_room_can_end() {
    in_coroutines(|_| {
        for (name, [reads, mut writes]) in pairs() {
            let writer = crore::spawn(move || code(writes.write_all(&vec![b'x'; 300_000])));
            crore::sleep(Duration::from_millis(5));
            writer.cancel();
            assert_eq!(writer.join().unwrap(), Err(libc::ECANCELED), "{name}");
            drop(reads);
        }
        let [reads, mut writes] = fifo();
        let writer = crore::spawn(move || code(writes.write_all(&vec![b'x'; 300_000])));
        crore::sleep(Duration::from_millis(5));
        drop(reads);
        assert_eq!(writer.join().unwrap(), Err(libc::EPIPE));
    });
}

/// From a file and from a pipe to a terminal.
#[test]
fn terminals_are_sent_to() {
    same(|on| {
        let mut out = Vec::new();
        for from_pipe in [false, true] {
            let [mut master, other] = pty(raw);
            let mut file = crate::files::file();
            let data = pattern(200_000);
            file.write_all(&data).unwrap();
            file.rewind().unwrap();
            let (source, mut into) = std::io::pipe().unwrap();
            let feeder = on.go(move || {
                if from_pipe {
                    into.write_all(&data).unwrap();
                }
            });
            let sender = on.go(move || {
                let (mut sent, none) = (0, std::ptr::null_mut());
                let (tty, most) = (other.as_raw_fd(), 200_000);
                while sent < most {
                    // SAFETY: no places for offsets.
                    sent += said(unsafe {
                        match from_pipe {
                            true => libc::splice(source.as_raw_fd(), none, tty, none, most, 0),
                            false => libc::sendfile(tty, file.as_raw_fd(), none, most - sent),
                        }
                    })
                    .unwrap();
                }
                other
            });
            let mut all = vec![0; 200_000];
            master.read_exact(&mut all).unwrap();
            feeder.join();
            sender.join();
            out.push(all);
        }
        out
    });
}

/// `poll` says that 1 can be added.
#[test]
fn a_counter_without_room_is_waited_for() {
    same(|on| {
        // SAFETY: no pointers.
        let event = unsafe { File::from_raw_fd(libc::eventfd(0, 0)) };
        let mut adds = event.try_clone().unwrap();
        let writer = on.go(move || {
            [u64::MAX - 4, 2, 2, u64::MAX].map(|value| code(adds.write(&value.to_ne_bytes())))
        });
        let counts = [0; 2].map(|_| {
            let mut eight = [0; 8];
            crore::sleep(Duration::from_millis(20));
            (&event).read_exact(&mut eight).unwrap();
            u64::from_ne_bytes(eight)
        });
        (
            writer.join(),
            counts.iter().fold(0_u64, |sum, &one| sum.wrapping_add(one)),
        )
    });
}
