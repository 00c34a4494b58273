//! `splice`, `tee`, `sendfile` between all kinds of ends: with bytes and without, with room
//! and without, either of them non-blocking, with `SPLICE_F_NONBLOCK` and without. Where
//! the thread waits, the coroutine does, until somebody writes or reads.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use super::calls;
use super::ends::{Kind, set_nonblocking};
use super::worlds::{Call, Story, Threads, retold};

/// Where the ends are in the world: `FROM` is read, `FEED` is its other side.
const FROM: usize = 0;
const FEED: usize = 1;
const DRAIN: usize = 2;
const TO: usize = 3;

/// One case: the state of both ends.
#[derive(Clone, Copy, Debug)]
struct State {
    from: Kind,
    to: Kind,
    /// The source is there with bytes.
    filled: bool,
    /// The target has no room.
    full: bool,
    nonblocking: [bool; 2],
}

impl State {
    fn ends(self) -> Vec<OwnedFd> {
        let [from, feed] = self.from.ends();
        let [drain, to] = self.to.ends();
        if self.filled {
            write(&feed, 5);
        }
        if self.full && self.to != Kind::File {
            set_nonblocking(to.as_raw_fd(), true);
            while write(&to, 4096) > 0 {}
            while write(&to, 1) > 0 {}
        }
        set_nonblocking(from.as_raw_fd(), self.nonblocking[0]);
        set_nonblocking(to.as_raw_fd(), self.nonblocking[1]);
        vec![from, feed, drain, to]
    }
}

fn write(fd: &impl AsRawFd, n: usize) -> isize {
    // SAFETY: a valid buffer.
    unsafe { libc::write(fd.as_raw_fd(), [b'x'; 4096].as_ptr().cast(), n) }
}

/// A state, and the call that is made in it, by the place of its ends in the world.
struct Case {
    name: &'static str,
    state: State,
    call: Box<dyn Fn(usize) -> Call>,
}

/// Makes each call, then feeds its source, drains its target and lets both go.
fn tell(cases: &[Case]) -> Story {
    let mut threads = Threads::new(ends(cases));
    for (at, case) in cases.iter().enumerate() {
        let (at, Case { name, state, call }) = (4 * at, case);
        let copy = threads.begun();
        threads.step(format!("{name} {state:?}"), call(at));
        // A pipe may hold pages of the file itself, which is left alone then; and the
        // kernel lets nobody write to a pipe that it takes from for a full socket.
        if state.from != Kind::File && !state.filled {
            threads.step("feed".into(), calls::write(at + FEED, 5, 1));
        }
        let drain = threads.begun();
        threads.step("drain".into(), calls::read(at + DRAIN, 8192));
        threads.step("flags".into(), calls::flags(vec![at + FROM, at + TO]));
        // (Nor does it let go of such a pipe's other end.)
        if !state.full || threads.is_over(copy) {
            threads.step("no feed".into(), calls::replaced(at + FEED));
        }
        // A number that is waited on is no other file's: coroutines hear of that.
        if threads.is_over(drain) {
            threads.step("no drain".into(), calls::replaced(at + DRAIN));
        }
    }
    threads.end()
}

fn ends(cases: &[Case]) -> Vec<OwnedFd> {
    cases.iter().flat_map(|case| case.state.ends()).collect()
}

/// A difference is one that comes again: what sockets have on its way, and other tests'
/// forks, are not ours. `CRORE_MIRROR_ALL=1` plays all cases, else every fourth is.
fn compare(cases: Vec<Case>) {
    let every = if std::env::var_os("CRORE_MIRROR_ALL").is_some() {
        1
    } else {
        4
    };
    let cases: Vec<_> = cases.into_iter().step_by(every).collect();
    let mut differences = Vec::new();
    for some in cases.chunks(8) {
        let play = |_| retold(&Arc::new(tell(some)), ends(some));
        let played = (0..3).map(play).take_while(Result::is_err);
        differences.extend(played.filter_map(Result::err).nth(2));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

/// All states of all pairs of kinds, in each of which `calls` are made.
fn states(from: &[Kind], to: &[Kind], calls: &[(&'static str, fn(usize) -> Call)]) -> Vec<Case> {
    let mut cases = Vec::new();
    for (&from, &to) in from
        .iter()
        .flat_map(|from| to.iter().map(move |to| (from, to)))
    {
        for bits in 0..16_u32 {
            let bit = |at: u32| bits >> at & 1 != 0;
            let nonblocking = [bit(0), bit(1)];
            let [filled, full] = [bit(2), bit(3)];
            let always = |kind| matches!(kind, Kind::File | Kind::Eventfd);
            // How much a terminal has room for depends on when its bytes are passed on.
            if filled && always(from) || full && (always(to) || to == Kind::Terminal) {
                continue;
            }
            let state = State {
                from,
                to,
                filled,
                full,
                nonblocking,
            };
            cases.extend(calls.iter().map(|&(name, call)| {
                let call = Box::new(call);
                Case { name, state, call }
            }));
        }
    }
    cases
}

const NONBLOCK: u32 = libc::SPLICE_F_NONBLOCK;

const SPLICES: [(&str, fn(usize) -> Call); 2] = [
    ("splice", |at| calls::splice(at + FROM, at + TO, 100, 0)),
    ("splice without waiting", |at| {
        calls::splice(at + FROM, at + TO, 100, NONBLOCK)
    }),
];

const TEES: [(&str, fn(usize) -> Call); 2] = [
    ("tee", |at| calls::tee(at + FROM, at + TO, 100, 0)),
    ("tee without waiting", |at| {
        calls::tee(at + FROM, at + TO, 100, NONBLOCK)
    }),
];

const SENDFILES: [(&str, fn(usize) -> Call); 2] = [
    ("sendfile", |at| {
        calls::sendfile(at + FROM, at + TO, None, 100)
    }),
    ("sendfile at", |at| {
        calls::sendfile(at + FROM, at + TO, Some(5), 100)
    }),
];

#[test]
fn copies_between_pipes_wait_as_the_kernel_does() {
    let (pipes, calls) = ([Kind::Pipe, Kind::Fifo], [SPLICES, TEES].concat());
    compare(states(&pipes, &[Kind::Pipe], &calls));
}

#[test]
fn splices_into_pipes_wait_as_the_kernel_does() {
    use Kind::{Eventfd, File, Pipe, Tcp, Terminal, UnixStream};
    compare(states(
        &[Tcp, UnixStream, Terminal, File, Eventfd],
        &[Pipe],
        &SPLICES,
    ));
}

#[test]
fn splices_out_of_pipes_wait_as_the_kernel_does() {
    use Kind::{Eventfd, Fifo, File, Pipe, Terminal, UnixPacket, UnixStream};
    let mut cases = states(&[Pipe], &[UnixStream, Terminal, File, Eventfd], &SPLICES);
    cases.extend(states(&[Fifo], &[UnixPacket], &SPLICES));
    compare(cases);
}

#[test]
fn sendfile_waits_as_the_kernel_does() {
    use Kind::{File, Pipe, UnixStream};
    compare(states(&[File, UnixStream], &[Pipe, UnixStream], &SENDFILES));
}

#[test]
fn what_is_refused_is_refused_at_once() {
    let state = State {
        from: Kind::Pipe,
        to: Kind::Pipe,
        filled: false,
        full: false,
        nonblocking: [false; 2],
    };
    let mut cases = Vec::new();
    for flags in [0, NONBLOCK, 64] {
        for (from, to) in [
            (FEED, TO),
            (FROM, DRAIN),
            (FROM, FEED),
            (FROM, FROM),
            (FROM, TO),
        ] {
            let flags = if (from, to) == (FROM, TO) {
                flags | 64
            } else {
                flags
            };
            let splice = move |at| calls::splice(at + from, at + to, 10, flags);
            let tee = move |at| calls::tee(at + from, at + to, 10, flags);
            cases.push(Case {
                name: "splice",
                state,
                call: Box::new(splice),
            });
            cases.push(Case {
                name: "tee",
                state,
                call: Box::new(tee),
            });
        }
        for end in [FROM, TO] {
            let vmsplice = move |at| calls::vmsplice(at + end, 10, flags);
            cases.push(Case {
                name: "vmsplice",
                state,
                call: Box::new(vmsplice),
            });
        }
    }
    compare(cases);
}
