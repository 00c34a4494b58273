//! The reactor on files in memory (`memory.rs`), with what may be closed,
//! replaced and duplicated, seen and unseen, under those that wait.
//!
//! The model follows what the reactor does at its seam, call by call and event
//! by event, and knows from that which outcome each waiter must read. What it
//! checks:
//!
//! - A waiter's outcome is the one that calls and events give it, and its waker
//!   was woken once if it has one. An event wakes one waiter, whose end wakes the next
//!   as long as nothing says that the direction is not ready any more.
//! - A direction said not to be ready is not, or an event is under way, or the
//!   number changed unseen.
//! - When nothing is due any more ([`ReactorBed::settle`]) nobody waits for what is
//!   ready or closed, unless the number changed unseen after its waiter's
//!   registration had been validated; and nothing more is asked of the kernel.
//! - A wait on a current registration makes no call, and is validated once at
//!   most, after [`REVALIDATE_AFTER`].

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use crate::driver::clock;
use crate::driver::fd_table::Hint;
use crate::driver::memory::{FileKind, MemoryBackend, PollerCall};
use crate::driver::poller::{Backend, Readiness, ReadyEvent, WatchError};
use crate::driver::reactor::{REVALIDATE_AFTER, Reactor};
use crate::driver::wait_queue::{Condition, Direction, Outcome, WaitKey};
use crate::sys::fd::table;
use crate::util::fuzz::{Op, ops};

/// Numbers that an input works on.
const FDS: usize = 4;

/// Counts its wakes.
#[derive(Default)]
pub(in crate::driver) struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Bell {
    pub(in crate::driver) fn rung(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A bell and its waker.
pub(in crate::driver) fn bell() -> (Arc<Bell>, Waker) {
    let bell = Arc::new(Bell::default());
    (Arc::clone(&bell), Waker::from(bell))
}

/// What the model knows of a number.
#[derive(Clone, Copy, Default)]
struct ModelFd {
    generation: u32,
    /// The registration that the reactor made last, until it is released.
    registration: Option<ModelRegistration>,
    /// The generation moved, and the reactor is still to be told.
    to_tell: bool,
}

#[derive(Clone, Copy)]
struct ModelRegistration {
    serial: u32,
    generation: u32,
    /// The number changed unseen since.
    changed: bool,
    /// An event has told of an end.
    ended: bool,
}

struct ModelWait {
    key: WaitKey,
    bell: Arc<Bell>,
    fd: usize,
    condition: Condition,
    generation: u32,
    since: u64,
    outcome: Outcome,
    /// Its waker is handed out by the next look.
    late: bool,
    /// The kernel was asked about the number since, and it meant its file.
    validated: bool,
    /// The number changed unseen after that.
    excused: bool,
}

struct ReactorBed {
    memory: MemoryBackend,
    reactor: Reactor,
    first: RawFd,
    fds: [ModelFd; FDS],
    waits: Vec<ModelWait>,
    /// What the last look brought, as far as it was not dispatched.
    events: Vec<ReadyEvent>,
    now: u64,
    woken: Vec<Waker>,
}

impl ModelFd {
    fn is_current(&self) -> bool {
        self.registration
            .is_some_and(|registration| registration.generation == self.generation)
    }

    fn is_stale(&self) -> bool {
        self.registration.is_some() && !self.is_current()
    }
}

/// Whether who waits for this would not wait.
fn is_ready(ready: Readiness, condition: impl Into<Condition>) -> bool {
    match condition.into() {
        Condition::Read | Condition::PollRead => ready.read | ready.read_closed,
        Condition::Write | Condition::PollWrite => ready.write | ready.write_closed,
        Condition::Exception => ready.urgent | ready.read_closed | ready.write_closed,
    }
}

impl ReactorBed {
    fn new() -> Self {
        // Numbers are known to the whole process, which may run several tests.
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static FIRST: RawFd =
                5_000 + (NEXT.fetch_add(FDS, Ordering::Relaxed) % 1_000) as RawFd;
        }
        let memory = MemoryBackend::new();
        let poller = memory.poller().expect("it needs nothing");
        Self {
            memory,
            reactor: Reactor::new(poller),
            first: FIRST.with(|&first| first),
            fds: Default::default(),
            waits: Vec::new(),
            events: Vec::new(),
            now: 0,
            woken: Vec::new(),
        }
    }

    fn number(&self, fd: usize) -> RawFd {
        self.first + fd as RawFd
    }

    /// All pending waits on a number, perhaps for one condition, end.
    fn resolve(&mut self, fd: usize, condition: Option<Condition>, outcome: Outcome, late: bool) {
        for wait in self.waits.iter_mut().filter(|wait| wait.fd == fd) {
            let concerned = condition.is_none_or(|condition| wait.condition == condition);
            if concerned && wait.outcome == Outcome::Pending {
                (wait.outcome, wait.late) = (outcome, late);
            }
        }
    }

    /// Of the pending waits for a condition as many end as there are turns. Which ones
    /// is the reactor's choice.
    fn resolve_some(&mut self, fd: usize, condition: Condition, turns: usize) {
        let pending = |wait: &&mut ModelWait| {
            (wait.fd, wait.condition, wait.outcome) == (fd, condition, Outcome::Pending)
        };
        let mut waiting = 0;
        let mut ended = 0;
        for wait in self.waits.iter_mut().filter(pending) {
            waiting += 1;
            if !self.reactor.is_pending(&wait.key) {
                ended += 1;
                wait.outcome = Outcome::Ready;
            }
        }
        assert_eq!(ended, turns.min(waiting), "as many as have a turn");
    }

    /// The reactor gave a registration up.
    fn release(&mut self, fd: usize, outcome: Outcome, late: bool) {
        self.fds[fd].registration = None;
        self.resolve(fd, None, outcome, late);
    }

    /// The kernel was asked, and now the number has a registration that holds.
    fn validated(&mut self, fd: usize, serial: u32, generation: u32) {
        let before = self.fds[fd].registration;
        let same = before.filter(|before| before.serial == serial);
        self.fds[fd].registration = same.or(Some(ModelRegistration {
            serial,
            generation,
            changed: false,
            ended: false,
        }));
        for wait in self.waits.iter_mut().filter(|wait| wait.fd == fd) {
            (wait.validated, wait.excused) = (true, false);
        }
    }

    fn wait(&mut self, fd: usize, condition: Condition, again: bool) {
        let number = self.number(fd);
        let (current, stale) = (self.fds[fd].is_current(), self.fds[fd].is_stale());
        let (bell, waker) = bell();
        let waited = if again {
            self.reactor.wait_again(number, condition, waker)
        } else {
            self.reactor.wait(number, condition, waker)
        };
        let calls = self.memory.take_calls();
        if current || (again && stale) {
            assert_eq!(calls, [], "a wait that needs no call");
            assert_eq!(waited.is_ok(), current);
        } else {
            // Those that wait for the old file learn that it is gone.
            self.release(fd, Outcome::Closed, true);
            let generation = self.fds[fd].generation;
            match calls[..] {
                [PollerCall::Register(of, serial, result)] if of == number => {
                    assert_eq!(waited.as_ref().err(), result.err().as_ref());
                    if result.is_ok() {
                        self.validated(fd, serial, generation);
                    }
                }
                _ => panic!("{calls:?} for a wait on {number}"),
            }
        }
        if let Ok(key) = waited {
            self.add_wait(key, bell, fd, condition);
        }
    }

    fn wait_if_not_ready(&mut self, fd: usize, direction: Direction) {
        let number = self.number(fd);
        let not_ready = self.reactor.table.hint(number, direction) == Hint::NotReady;
        let (bell, waker) = bell();
        let key = self.reactor.wait_if_not_ready(number, direction, waker);
        assert_eq!(key.is_some(), not_ready);
        assert_eq!(self.memory.take_calls(), []);
        if let Some(key) = key {
            self.add_wait(key, bell, fd, direction.into());
        }
    }

    fn add_wait(&mut self, key: WaitKey, bell: Arc<Bell>, fd: usize, condition: Condition) {
        self.waits.push(ModelWait {
            key,
            bell,
            fd,
            condition,
            generation: self.fds[fd].generation,
            since: self.now,
            outcome: Outcome::Pending,
            late: false,
            validated: false,
            excused: false,
        });
    }

    fn finish(&mut self, nth: usize) {
        if self.waits.is_empty() {
            return;
        }
        let wait = self.waits.swap_remove(nth % self.waits.len());
        let overtaken = wait.generation != self.fds[wait.fd].generation;
        let expected = if overtaken {
            Outcome::Closed
        } else {
            wait.outcome
        };
        assert_eq!(self.reactor.table.finish(wait.key), expected);
        let next = self.reactor.table.take_next();
        let fd = wait.fd;
        let in_turns = wait.condition != Condition::Exception;
        let may_be_ready = in_turns && self.may_be_ready(fd, wait.condition);
        let passes_on = expected == Outcome::Ready && may_be_ready;
        self.resolve_some(fd, wait.condition, usize::from(passes_on));
        self.woken.extend(next);
    }

    fn may_be_ready(&self, fd: usize, condition: Condition) -> bool {
        let hint = self.reactor.table.hint(self.number(fd), condition);
        let ended = self.fds[fd].registration.is_some_and(|of| of.ended);
        self.fds[fd].is_current() && !ended && hint == Hint::Try
    }

    /// A `poll` of the descriptor, which takes nothing.
    fn poll(&mut self, fd: usize, direction: Direction) {
        let number = self.number(fd);
        let file = self.memory.file(number);
        if file.is_some_and(|(_, file)| !is_ready(file.ready, direction)) {
            let polled = Condition::polled(direction);
            self.reactor.table.clear_readiness(number, polled);
        }
    }

    /// A call on the descriptor, which takes what is ready, all of it or less
    /// than it asked for.
    fn call(&mut self, fd: usize, direction: Direction, short: bool) {
        let number = self.number(fd);
        let Some((_, file)) = self.memory.file(number) else {
            return;
        };
        if !is_ready(file.ready, direction) {
            self.reactor.table.clear_readiness(number, direction);
            return;
        }
        // Of a stream a short transfer takes all, but for a read that stops at
        // urgent data; of anything else it says nothing.
        let takes_all = if short {
            file.kind == FileKind::Tcp && !file.ready.urgent
        } else {
            true
        };
        if takes_all {
            let mut ready = file.ready;
            match direction {
                Direction::Read => (ready.read, ready.urgent) = (false, false),
                Direction::Write => ready.write = false,
            }
            self.memory.set_ready(number, ready, false);
        }
        if short {
            self.reactor.moved_short(number, direction);
        }
    }

    /// Something comes.
    fn arrive(&mut self, fd: usize, what: u8) {
        let Some((_, file)) = self.memory.file(self.number(fd)) else {
            return;
        };
        let mut ready = file.ready;
        match what % 16 {
            0..=6 => ready.read = true,
            7..=12 => ready.write = true,
            13 => (ready.read, ready.urgent) = (true, file.kind == FileKind::Tcp),
            14 => ready.read_closed = true,
            _ => ready.write_closed = true,
        }
        self.memory.set_ready(self.number(fd), ready, true);
    }

    /// A number's meaning is about to change, as the hooks say.
    fn renew(&mut self, fd: usize) {
        let registered = table::renew(self.number(fd));
        assert!(registered || !self.fds[fd].is_current(), "none is told");
        self.fds[fd].generation += 1;
        self.fds[fd].to_tell |= registered;
    }

    /// The notice of that, which may come late.
    fn tell(&mut self, fd: usize) {
        self.fds[fd].to_tell = false;
        let number = self.number(fd);
        self.reactor.fd_gone(number, &mut self.woken);
        let calls = self.memory.take_calls();
        if self.fds[fd].is_stale() {
            self.release(fd, Outcome::Closed, false);
            assert_eq!(calls, [PollerCall::Deregister(number)]);
        } else {
            assert_eq!(calls, [], "what was registered after that stays");
        }
    }

    /// The kernel closes or replaces a number.
    fn change(&mut self, fd: usize, op: &Op) {
        let number = self.number(fd);
        match op.small % 8 {
            0..=1 => self.memory.close(number),
            2..=3 => {
                let other = self.number(op.large / 4 % FDS);
                if self.memory.file(other).is_none() || other == number {
                    return;
                }
                self.memory.dup(other, number);
            }
            4 => drop(self.memory.open(number, FileKind::Regular)),
            5 => drop(self.memory.open(number, FileKind::Other)),
            _ => drop(self.memory.open(number, FileKind::Tcp)),
        }
        if let Some(registration) = &mut self.fds[fd].registration {
            registration.changed = true;
        }
        for wait in self.waits.iter_mut().filter(|wait| wait.fd == fd) {
            wait.excused |= wait.validated;
        }
    }

    /// A look at the kernel; when there are events of an earlier one it only
    /// does what is due.
    fn look(&mut self, now: u64) {
        self.now = now;
        self.reactor.set_now(now, &mut self.woken);
        for wait in &mut self.waits {
            wait.late = false;
        }
        self.reactor.revalidate(&mut self.woken);
        self.follow_calls();
        assert_eq!(self.reactor.pending_events(), self.events.len());
        if self.events.is_empty() {
            self.reactor.poll(false).expect("memory does not fail");
            self.events = self.reactor.last_events().to_vec();
        }
    }

    /// What a revalidation did, and what that means.
    fn follow_calls(&mut self) {
        let calls = self.memory.take_calls();
        let mut calls = calls.into_iter().peekable();
        while let Some(call) = calls.next() {
            let (PollerCall::Register(number, ..)
            | PollerCall::Reregister(number, ..)
            | PollerCall::Deregister(number)) = call;
            let fd = (number - self.first) as usize;
            let registration = self.fds[fd].registration.expect("it is registered");
            let (mut made, mut another) = ((registration.serial, Ok(())), false);
            match call {
                PollerCall::Deregister(_) => {
                    assert!(self.fds[fd].is_stale());
                    self.release(fd, Outcome::Closed, false);
                    continue;
                }
                PollerCall::Reregister(_, serial, Err(WatchError::NotRegistered)) => {
                    assert_eq!(serial, registration.serial);
                    let Some(PollerCall::Register(of, serial, result)) = calls.next() else {
                        panic!("another file is registered at once");
                    };
                    assert_eq!(of, number);
                    made = (serial, result);
                    another = true;
                }
                PollerCall::Reregister(_, serial, result) => {
                    assert_eq!(serial, registration.serial);
                    made.1 = result;
                }
                PollerCall::Register(..) => panic!("nobody asked for {call:?}"),
            }
            assert!(self.fds[fd].is_current(), "only these are validated");
            let due = |wait: &ModelWait| {
                let parked = wait.since + REVALIDATE_AFTER <= self.now;
                wait.fd == fd && wait.outcome == Outcome::Pending && !wait.validated && parked
            };
            assert!(self.waits.iter().any(due), "once a park, and not at once");
            if another {
                self.release(fd, Outcome::Ready, false);
            }
            match made {
                (serial, Ok(())) => self.validated(fd, serial, registration.generation),
                (_, Err(WatchError::NotOpen)) => self.release(fd, Outcome::Closed, false),
                (_, Err(_)) => self.release(fd, Outcome::Ready, false),
            }
        }
    }

    fn dispatch(&mut self, most: usize) {
        let most = most.min(self.events.len());
        self.reactor.dispatch(most, &mut self.woken);
        let mut turns = [[0; Condition::ALL.len()]; FDS];
        for event in self.events.drain(..most).collect::<Vec<_>>() {
            let fd = (event.fd - self.first) as usize;
            let Some(of) = self.fds[fd].registration else {
                continue;
            };
            if !self.fds[fd].is_current() || of.serial != event.serial {
                continue;
            }
            let ready = event.ready;
            let closed = ready.read_closed || ready.write_closed;
            let registration = self.fds[fd].registration.as_mut().expect("it is there");
            registration.ended |= closed;
            let for_all = registration.ended || ready.urgent;
            for condition in Condition::ALL {
                if is_ready(ready, condition) {
                    turns[fd][condition as usize] += if for_all { 1 << 16 } else { 1 };
                }
            }
        }
        for (fd, turns) in turns.iter().enumerate() {
            for condition in Condition::ALL {
                self.resolve_some(fd, condition, turns[condition as usize]);
            }
        }
    }

    /// Does all that is due, until nothing is; then nobody waits in vain.
    fn settle(&mut self) {
        for fd in 0..FDS {
            if self.fds[fd].to_tell {
                self.tell(fd);
            }
        }
        for round in 0.. {
            self.dispatch(usize::MAX);
            let due = self.reactor.next_validation();
            self.look(due.unwrap_or(self.now).max(self.now));
            if due.is_none() && self.events.is_empty() {
                break;
            }
            assert!(round < 100, "it never comes to rest");
        }
        self.check();
        // Those who were woken look, and pass on what is left.
        while let Some(nth) = self
            .waits
            .iter()
            .position(|wait| wait.outcome != Outcome::Pending)
        {
            self.finish(nth);
            self.check();
        }
        for wait in &self.waits {
            if wait.excused {
                continue;
            }
            let (_, file) = self
                .memory
                .file(self.number(wait.fd))
                .expect("nobody waits for what is closed");
            assert!(!is_ready(file.ready, wait.condition), "a lost wake-up");
        }
    }

    fn check(&mut self) {
        self.woken.drain(..).for_each(Waker::wake);
        for wait in &self.waits {
            let resolved = wait.outcome != Outcome::Pending;
            assert_eq!(wait.bell.rung(), usize::from(resolved && !wait.late));
            assert_eq!(self.reactor.is_pending(&wait.key), !resolved);
        }
        for fd in 0..FDS {
            let hinted = Condition::ALL.iter().take(4);
            hinted.for_each(|&condition| self.check_hint(fd, condition));
        }
        assert_eq!(self.reactor.table.is_idle(), self.waits.is_empty());
    }

    fn check_hint(&self, fd: usize, condition: Condition) {
        let number = self.number(fd);
        if self.reactor.table.hint(number, condition) == Hint::Try {
            return;
        }
        assert!(self.fds[fd].is_current(), "a hint without a registration");
        let of = self.fds[fd].registration.expect("it is current");
        let Some((file, now)) = self.memory.file(number).filter(|_| !of.changed) else {
            return;
        };
        let under_way = self.memory.has_edge(number, file)
            || self.events.iter().any(|event| {
                (event.fd, event.serial) == (number, of.serial) && is_ready(event.ready, condition)
            });
        assert!(under_way || !is_ready(now.ready, condition), "a false hint");
    }
}

/// Runs the operations of one input.
pub(crate) fn run(input: &[u8]) {
    let mut bed = ReactorBed::new();
    for op in ops(input) {
        let fd = op.large % FDS;
        let direction = [Direction::Read, Direction::Write][usize::from(op.small >> 7)];
        let condition = match op.small >> 5 & 3 {
            3 => Condition::Exception,
            2 => Condition::polled(direction),
            _ => direction.into(),
        };
        match op.what % 32 {
            0..=4 if bed.waits.len() < 32 => bed.wait(fd, condition, false),
            5 => bed.wait(fd, condition, true),
            6..=7 => bed.wait_if_not_ready(fd, direction),
            0..=10 => bed.finish(op.large),
            11 if op.small % 2 == 0 => bed.poll(fd, direction),
            11..=14 => bed.call(fd, direction, op.small % 2 == 0),
            15..=18 => bed.arrive(fd, op.small),
            19..=21 => bed.look(bed.now + u64::from(op.small % 8)),
            22 => bed.look(bed.now + op.large as u64 * clock::ticks(MILLISECOND) / 512),
            23 => bed.dispatch(usize::from(op.small % 4)),
            24 => bed.dispatch(usize::MAX),
            25..=26 => bed.change(fd, &op),
            27 => bed.renew(fd),
            28 if bed.fds[fd].to_tell => bed.tell(fd),
            28 | 29 => {
                // All of a close that is seen.
                bed.renew(fd);
                bed.tell(fd);
                bed.change(fd, &op);
            }
            30 => bed.memory.set_exhausted(op.small % 4 == 0),
            _ => bed.settle(),
        }
        bed.check();
    }
    bed.settle();
    while !bed.waits.is_empty() {
        bed.finish(0);
        bed.check();
    }
}

const MILLISECOND: std::time::Duration = std::time::Duration::from_millis(1);
