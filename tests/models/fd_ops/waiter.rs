//! A coroutine that waits on one number, once, and what it may get.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;

use crore::JoinHandle;

use super::Tag;

/// What the call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A byte was read.
    Byte(Tag),
    /// The end of the stream.
    End,
    /// `poll` says so.
    Events(libc::c_short),
    Error(libc::c_int),
}

pub(crate) struct Waiter {
    pub(crate) number: usize,
    polls: bool,
    /// Files that the number has meant, as far as it may know.
    tags: Vec<Tag>,
    /// A hook saw the number end.
    closed: bool,
    /// The number was not open at first, or ended unseen.
    loose: bool,
    /// It waited when the number changed unseen. A thread would go on waiting
    /// for the old file; a coroutine may, too, or notice.
    overtaken: bool,
    /// It was closed while it may have been reading already.
    raced: bool,
    cancelled: bool,
    answer: Rc<Cell<Option<Answer>>>,
    handle: JoinHandle<()>,
}

impl Waiter {
    pub(crate) fn spawn(number: usize, fd: RawFd, means: Option<Tag>, polls: bool) -> Self {
        let answer = Rc::new(Cell::new(None));
        let theirs = Rc::clone(&answer);
        let handle = crore::spawn_local(move || {
            theirs.set(Some(if polls { poll(fd) } else { read(fd) }));
        });
        // So that it is in its call when the next thing happens.
        crore::yield_now();
        Self {
            number,
            polls,
            tags: means.into_iter().collect(),
            closed: false,
            loose: means.is_none(),
            overtaken: false,
            raced: false,
            cancelled: false,
            answer,
            handle,
        }
    }

    /// The number means something else, or nothing, from now on.
    pub(crate) fn changes(&mut self, by: Option<Tag>, seen: bool) {
        // Of one who may notice at any time nobody knows what came first.
        self.raced |= seen && self.overtaken;
        self.closed |= seen;
        self.loose |= !seen;
        self.overtaken = !seen;
        if !self.closed || self.polls {
            self.tags.extend(by);
        }
    }

    pub(crate) fn cancel(&mut self) {
        self.cancelled = true;
        self.handle.cancel();
    }

    pub(crate) fn answer(&self) -> Option<Answer> {
        self.answer.get()
    }

    /// Whether it may wait, whatever the number means now.
    pub(crate) fn may_wait(&self) -> bool {
        self.overtaken
    }

    /// Whether it may not wait any longer, whatever the number means now. (A
    /// `poll` looks at that again, and no cancellation ends it.)
    pub(crate) fn must_end(&self) -> bool {
        (self.cancelled || self.closed) && !self.polls
    }

    /// Says what is wrong with an answer; the file that a byte was taken from.
    pub(crate) fn judge(self, answer: Answer, ended: impl Fn(Tag) -> bool) -> Option<Tag> {
        let may_be_closed = self.closed || self.loose;
        match answer {
            Answer::Byte(tag) => {
                assert!(!self.closed || self.raced, "{self:?} got a byte of {tag}");
                assert!(self.tags.contains(&tag), "{self:?} got a byte of {tag}");
                return Some(tag);
            }
            Answer::End => {
                let some_ended = self.tags.iter().any(|&tag| ended(tag));
                assert!(some_ended && (!self.closed || self.raced), "{self:?}");
            }
            Answer::Events(events) => {
                let closed = events & libc::POLLNVAL != 0;
                assert!(
                    events != 0 && (!closed || may_be_closed),
                    "{self:?} {events}"
                );
            }
            Answer::Error(libc::EBADF) => assert!(may_be_closed, "{self:?}"),
            Answer::Error(libc::ECANCELED) => assert!(self.cancelled, "{self:?}"),
            Answer::Error(code) => panic!("{self:?}: error {code}"),
        }
        None
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter")
            .field("number", &self.number)
            .field("polls", &self.polls)
            .field("tags", &self.tags)
            .field("closed", &self.closed)
            .field("loose", &self.loose)
            .field("cancelled", &self.cancelled)
            .finish()
    }
}

fn error() -> Answer {
    let error = io::Error::last_os_error();
    Answer::Error(error.raw_os_error().expect("an error of libc"))
}

fn read(fd: RawFd) -> Answer {
    let mut byte: Tag = 0;
    // SAFETY: a place for one byte.
    match unsafe { libc::read(fd, (&raw mut byte).cast(), 1) } {
        1 => Answer::Byte(byte),
        0 => Answer::End,
        _ => error(),
    }
}

fn poll(fd: RawFd) -> Answer {
    let mut entry = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one entry.
    match unsafe { libc::poll(&mut entry, 1, -1) } {
        1 => Answer::Events(entry.revents),
        _ => error(),
    }
}

/// Past the hooks.
pub(crate) mod plain {
    use super::RawFd;

    pub(crate) fn write(fd: RawFd, bytes: &[u8]) {
        let (at, len) = (bytes.as_ptr().cast(), bytes.len());
        // SAFETY: a live buffer.
        let sent = crore::unhooked(|| unsafe { libc::send(fd, at, len, libc::MSG_NOSIGNAL) });
        // Nobody may have the other end any more.
        assert!(sent == -1 || sent == len as isize);
    }
}
