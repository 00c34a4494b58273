//! Descriptors that are closed, duplicated and replaced under coroutines that
//! wait on them, seen by the hooks and unseen, against a model of numbers and
//! open files. For `cargo test` and `cargo fuzz` alike.
//!
//! An input is a sequence of operations of three bytes each: what (its high
//! bit: from another thread), which number, which other. Every input is valid.
//! Every open file is one end of a socket pair, and all bytes that come to it
//! are its tag. Who read a byte says so; the model knows which tags it may see.
//!
//! - After a close or a replacement that a hook saw, all who waited on the
//!   number get `EBADF`, and never a byte of what the number means next.
//! - After one that no hook saw they go on waiting, as threads would, or go by
//!   what the number means then: `EBADF`, or the new file's bytes.
//! - Whoever waits later has lost nothing: when all have come to rest, none of
//!   them waits on a number that is not open, or whose file has something to
//!   read, whatever was registered under the number before.

mod waiter;

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use waiter::{Waiter, plain};

/// Numbers that take part; nothing else of the process has these.
const FIRST: RawFd = 900;
const NUMBERS: usize = 6;
const WAITERS: usize = 8;
/// What nobody may need to come to rest.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which open file: its bytes, and its place in `Play::files`.
pub(crate) type Tag = u8;

struct File {
    /// `None` once it was closed: the stream has ended.
    peer: Option<OwnedFd>,
    pending: usize,
}

struct Play {
    files: Vec<File>,
    /// What each number means.
    means: [Option<Tag>; NUMBERS],
    waiters: [Option<Waiter>; WAITERS],
    answers: usize,
}

fn number(n: usize) -> RawFd {
    FIRST + n as RawFd
}

/// Runs the operations of one input; how many waits had an answer.
pub(crate) fn run(input: &[u8]) -> usize {
    crore::run(|| {
        let mut play = Play {
            files: Vec::new(),
            means: [None; NUMBERS],
            waiters: [const { None }; WAITERS],
            answers: 0,
        };
        for operation in input.chunks_exact(3) {
            let (n, m) = (operation[1] as usize, operation[2] as usize);
            play.obey(operation[0], n % NUMBERS, m % NUMBERS, m / NUMBERS);
            play.settle();
        }
        play.end()
    })
    .expect("the runtime runs")
}

/// Runs `f` here, or on a plain thread.
fn on(thread: bool, f: impl FnOnce() -> i32 + Send + 'static) -> i32 {
    if thread {
        let job = crore::spawn_blocking(f);
        job.join().expect("it does not panic")
    } else {
        f()
    }
}

impl Play {
    fn obey(&mut self, what: u8, n: usize, m: usize, how: usize) {
        let elsewhere = what & 0x80 != 0;
        match what & 0x1f {
            0..=2 => self.open(n, elsewhere, false),
            3 => self.open(n, elsewhere, true),
            4..=5 => self.close(n, elsewhere, false),
            6..=7 => self.close(n, elsewhere, true),
            8..=9 => self.dup(n, m, elsewhere, false),
            10 => self.dup(n, m, elsewhere, true),
            11 => self.dup_to_free(n, m),
            12 => self.close_range(n, m),
            13..=17 => self.wait(n, how, false),
            18..=19 => self.wait(n, how, true),
            20..=24 => self.send(n, 1 + how % 3),
            25 => self.end_of_stream(n),
            26..=27 => {
                // What was asked about the number is to be asked again.
                // SAFETY: no pointers.
                unsafe { libc::fcntl(number(n), libc::F_SETFL, libc::O_RDWR) };
            }
            28..=29 => self.cancel(how % WAITERS),
            _ => crore::yield_now(),
        }
    }

    /// A new file at the number, in the place of what is there.
    fn open(&mut self, n: usize, elsewhere: bool, unseen: bool) {
        if self.files.len() >= usize::from(Tag::MAX) {
            return;
        }
        let mut pair = [-1; 2];
        // SAFETY: a place for two descriptors.
        let made =
            unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, pair.as_mut_ptr()) };
        assert_eq!(made, 0);
        // SAFETY: new, and ours.
        let [near, peer] = pair.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        let tag = self.files.len() as Tag;
        self.files.push(File {
            peer: Some(peer),
            pending: 0,
        });
        self.replace(near.as_raw_fd(), n, tag, elsewhere, unseen);
    }

    fn dup(&mut self, n: usize, m: usize, elsewhere: bool, unseen: bool) {
        match self.means[n] {
            Some(tag) if n != m => self.replace(number(n), m, tag, elsewhere, unseen),
            _ => {}
        }
    }

    fn replace(&mut self, old: RawFd, n: usize, tag: Tag, elsewhere: bool, unseen: bool) {
        let new = number(n);
        self.changes(n, Some(tag), !unseen);
        // SAFETY: no pointers; the number is ours.
        let result = on(elsewhere, move || unsafe {
            if unseen {
                libc::syscall(libc::SYS_dup3, old, new, 0) as i32
            } else {
                libc::dup2(old, new)
            }
        });
        assert_eq!(result, new);
    }

    /// A duplicate at a number that is free: a hook sees it begin, but has not
    /// seen it end, maybe.
    fn dup_to_free(&mut self, n: usize, m: usize) {
        if let (Some(tag), None) = (self.means[n], self.means[m]) {
            // SAFETY: no pointers.
            let new = unsafe { libc::fcntl(number(n), libc::F_DUPFD, number(m)) };
            assert_eq!(new, number(m), "it was free");
            self.changes(m, Some(tag), false);
        }
    }

    fn close(&mut self, n: usize, elsewhere: bool, unseen: bool) {
        let fd = number(n);
        self.changes(n, None, !unseen);
        // SAFETY: no pointers; nobody else has the number.
        on(elsewhere, move || unsafe {
            if unseen {
                libc::syscall(libc::SYS_close, fd) as i32
            } else {
                libc::close(fd)
            }
        });
    }

    fn close_range(&mut self, n: usize, m: usize) {
        let (first, last) = (n.min(m), n.max(m));
        for n in first..=last {
            self.changes(n, None, true);
        }
        let (first, last) = (number(first), number(last));
        // SAFETY: no pointers; the numbers are ours.
        unsafe {
            // (One by one where the kernel has no such call.)
            if libc::close_range(first as u32, last as u32, 0) != 0 {
                (first..=last).for_each(|fd| {
                    libc::close(fd);
                });
            }
        }
    }

    /// The number is about to mean something else.
    fn changes(&mut self, n: usize, tag: Option<Tag>, seen: bool) {
        self.means[n] = tag;
        for waiter in self.waiters.iter_mut().flatten() {
            if waiter.number == n {
                waiter.changes(tag, seen);
            }
        }
    }

    fn wait(&mut self, n: usize, who: usize, polls: bool) {
        let place = &mut self.waiters[who % WAITERS];
        if place.is_none() {
            *place = Some(Waiter::spawn(n, number(n), self.means[n], polls));
        }
    }

    fn send(&mut self, n: usize, count: usize) {
        let Some(tag) = self.means[n] else { return };
        let file = &mut self.files[usize::from(tag)];
        if let Some(peer) = &file.peer {
            plain::write(peer.as_raw_fd(), &vec![tag; count]);
            file.pending += count;
        }
    }

    fn end_of_stream(&mut self, n: usize) {
        if let Some(tag) = self.means[n] {
            self.files[usize::from(tag)].peer = None;
        }
    }

    fn cancel(&mut self, who: usize) {
        if let Some(waiter) = &mut self.waiters[who] {
            waiter.cancel();
        }
    }

    fn settle(&mut self) {
        let start = Instant::now();
        let mut turns = 0_u32;
        loop {
            self.collect();
            let Some(why) = self.lost() else { break };
            assert!(start.elapsed() < PATIENCE, "{why}");
            turns += 1;
            if turns % 8 == 0 {
                crore::sleep(Duration::from_micros(200));
            } else {
                crore::yield_now();
            }
        }
    }

    /// Judges all who have an answer.
    fn collect(&mut self) {
        for place in &mut self.waiters {
            let Some(answer) = place.as_ref().and_then(Waiter::answer) else {
                continue;
            };
            let waiter = place.take().expect("it has an answer");
            let files = &mut self.files;
            let ended = |tag: Tag| files[usize::from(tag)].peer.is_none();
            if let Some(tag) = waiter.judge(answer, ended) {
                let pending = &mut files[usize::from(tag)].pending;
                assert!(*pending > 0, "a byte of {tag} that was not sent");
                *pending -= 1;
            }
            self.answers += 1;
        }
    }

    /// Somebody who waits and should not.
    fn lost(&self) -> Option<String> {
        let waiting = self.waiters.iter().flatten();
        let mut lost = waiting.filter(|waiter| match self.means[waiter.number] {
            _ if waiter.must_end() => true,
            _ if waiter.may_wait() => false,
            None => true,
            Some(tag) => {
                let file = &self.files[usize::from(tag)];
                file.pending > 0 || file.peer.is_none()
            }
        });
        lost.next()
            .map(|waiter| format!("{waiter:?} waits, {:?}", self.means))
    }

    fn end(mut self) -> usize {
        self.close_range(0, NUMBERS - 1);
        self.settle();
        assert!(self.waiters.iter().all(Option::is_none));
        self.answers
    }
}
