//! The descriptor table against a naive model, over random operations.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::task::Waker;

use super::super::fd_table::FdTable;
use super::super::poller::Readiness;
use super::super::{Condition, Hint, Outcome, WaitKey};
use super::{Bell, R, W, bell};
use crate::sys::fd::table;
use crate::util::fuzz::Random;

const FDS: usize = 4;
/// Numbers above what the tests of this process open.
const BASE: RawFd = 60_000;

/// What the model knows of a descriptor.
#[derive(Default)]
struct PairFd {
    renewals: u32,
    /// Serial number, and `renewals` at that time.
    registration: Option<(u32, u32)>,
    not_ready: [bool; Condition::ALL.len()],
    latched: [bool; 2],
}

struct PairWait {
    key: WaitKey,
    bell: Arc<Bell>,
    fd: usize,
    condition: Condition,
    renewals: u32,
    outcome: Outcome,
}

struct TablePair {
    table: FdTable,
    files: [PairFd; FDS],
    waits: Vec<PairWait>,
    serial: u32,
    woken: Vec<Waker>,
}

impl PairFd {
    fn current(&self) -> bool {
        self.registration
            .is_some_and(|(_, renewals)| renewals == self.renewals)
    }
}

impl TablePair {
    fn number(fd: usize) -> RawFd {
        BASE + fd as RawFd
    }

    fn register(&mut self, fd: usize) {
        // As the reactor does: those who wait for the old file are closed.
        if !self.files[fd].current() {
            self.release(fd, Outcome::Closed);
        }
        self.serial += 1;
        let (record, generation) = table::register(Self::number(fd)).unwrap();
        self.table
            .registered(Self::number(fd), record, generation, self.serial);
        let renewals = self.files[fd].renewals;
        self.files[fd] = PairFd {
            renewals,
            registration: Some((self.serial, renewals)),
            ..PairFd::default()
        };
    }

    fn release(&mut self, fd: usize, outcome: Outcome) {
        self.table
            .release(Self::number(fd), outcome, &mut self.woken);
        self.files[fd].registration = None;
        self.resolve(fd, &Condition::ALL, outcome);
    }

    fn resolve(&mut self, fd: usize, conditions: &[Condition], outcome: Outcome) {
        for wait in self.waits.iter_mut().filter(|wait| wait.fd == fd) {
            if wait.outcome == Outcome::Pending && conditions.contains(&wait.condition) {
                wait.outcome = outcome;
            }
        }
    }

    /// One of the pending waits for a condition ends, if there are any; which one is the
    /// table's choice.
    fn resolve_one(&mut self, fd: usize, condition: Condition) {
        let table = &self.table;
        let mut pending: Vec<_> = self.waits.iter_mut().collect();
        pending.retain(|wait| {
            (wait.fd, wait.condition, wait.outcome) == (fd, condition, Outcome::Pending)
        });
        let any = !pending.is_empty();
        pending.retain(|wait| table.pending(&wait.key).is_none());
        assert_eq!(pending.len(), usize::from(any));
        pending
            .iter_mut()
            .for_each(|wait| wait.outcome = Outcome::Ready);
    }

    fn event(&mut self, fd: usize, serial: u32, bits: u64) {
        let ready = Readiness {
            read: bits & 1 != 0,
            write: bits & 2 != 0,
            read_closed: bits & 12 == 12,
            write_closed: bits & 48 == 48,
            urgent: bits & 64 != 0,
        };
        self.table
            .event(Self::number(fd), serial, ready, &mut self.woken);
        let file = &mut self.files[fd];
        if !file.current() || file.registration.is_none_or(|(s, _)| s != serial) {
            return;
        }
        let mut happened = Vec::new();
        for (direction, open, closed) in [
            (R, ready.read, ready.read_closed),
            (W, ready.write, ready.write_closed),
        ] {
            if open || closed {
                for condition in [direction.into(), Condition::polled(direction)] {
                    file.not_ready[condition as usize] = false;
                    happened.push(condition);
                }
            }
            file.latched[direction as usize] |= closed;
        }
        if ready.urgent || ready.read_closed || ready.write_closed {
            happened.push(Condition::Exception);
        }
        if ready.urgent || file.latched.contains(&true) {
            self.resolve(fd, &happened, Outcome::Ready);
        } else {
            happened
                .into_iter()
                .for_each(|condition| self.resolve_one(fd, condition));
        }
    }

    fn wait(&mut self, fd: usize, condition: Condition) {
        if !self.files[fd].current() {
            self.register(fd);
        }
        let (bell, waker) = bell();
        let waited = self.table.wait(Self::number(fd), condition, waker, 0);
        let (key, _) = waited.expect("registered above");
        let (renewals, outcome) = (self.files[fd].renewals, Outcome::Pending);
        self.waits.push(PairWait {
            key,
            bell,
            fd,
            condition,
            renewals,
            outcome,
        });
    }

    fn finish(&mut self, nth: usize) {
        let wait = self.waits.swap_remove(nth);
        let overtaken = wait.renewals != self.files[wait.fd].renewals;
        let expected = if overtaken {
            Outcome::Closed
        } else {
            wait.outcome
        };
        assert_eq!(self.table.finish(wait.key), expected);
        self.woken.extend(self.table.take_next());
        let file = &self.files[wait.fd];
        let in_turns = wait.condition != Condition::Exception && file.latched == [false; 2];
        let ready = in_turns && file.current() && !file.not_ready[wait.condition as usize];
        if ready && expected == Outcome::Ready {
            self.resolve_one(wait.fd, wait.condition);
        }
    }

    fn check(&mut self) {
        self.woken.drain(..).for_each(Waker::wake);
        for wait in &self.waits {
            let pending = wait.outcome == Outcome::Pending;
            assert_eq!(wait.bell.rung(), usize::from(!pending));
            let fd = pending.then_some(Self::number(wait.fd));
            assert_eq!(self.table.pending(&wait.key), fd);
        }
        for (fd, file) in self.files.iter().enumerate() {
            for direction in [R, W] {
                for condition in [direction.into(), Condition::polled(direction)] {
                    let not_ready = file.current() && file.not_ready[condition as usize];
                    let expected = if not_ready { Hint::NotReady } else { Hint::Try };
                    assert_eq!(self.table.hint(Self::number(fd), condition), expected);
                }
            }
            assert_eq!(self.table.is_current(Self::number(fd)), file.current());
            let stale = file.registration.is_some() && !file.current();
            assert_eq!(self.table.is_stale(Self::number(fd)), stale);
        }
        assert_eq!(self.table.is_idle(), self.waits.is_empty());
    }
}

#[test]
fn the_table_agrees_with_a_naive_model() {
    let mut rng = Random::new(3);
    let mut pair = TablePair {
        table: FdTable::new(),
        files: Default::default(),
        waits: Vec::new(),
        serial: 0,
        woken: Vec::new(),
    };
    for _ in 0..100_000 {
        let fd = rng.below(FDS as u64) as usize;
        let direction = if rng.below(2) == 0 { R } else { W };
        match rng.below(32) {
            0..=4 if pair.waits.len() < 40 => pair.wait(fd, direction.into()),
            5..=7 if pair.waits.len() < 40 => pair.wait(fd, Condition::polled(direction)),
            8..=9 if pair.waits.len() < 40 => pair.wait(fd, Condition::Exception),
            0..=13 => {
                let condition = match rng.below(2) {
                    0 => direction.into(),
                    _ => Condition::polled(direction),
                };
                pair.table.clear_readiness(TablePair::number(fd), condition);
                let file = &mut pair.files[fd];
                let holds = file.current() && !file.latched[direction as usize];
                file.not_ready[condition as usize] |= holds;
            }
            14..=20 => {
                // Mostly the present registration, sometimes one before it.
                let serial = pair.files[fd].registration.map_or(0, |(serial, _)| serial);
                let stale = rng.below(4) == 0;
                pair.event(fd, serial.wrapping_sub(stale.into()), rng.next() >> 13);
            }
            21..=27 => {
                if !pair.waits.is_empty() {
                    let nth = rng.below(pair.waits.len() as u64) as usize;
                    pair.finish(nth);
                }
            }
            28 => {
                if table::renew(TablePair::number(fd)) {
                    pair.files[fd].renewals += 1;
                }
            }
            29 => pair.register(fd),
            30 => pair.release(fd, Outcome::Closed),
            _ => pair.release(fd, Outcome::Ready),
        }
        pair.check();
    }
    while !pair.waits.is_empty() {
        pair.finish(0);
        pair.check();
    }
}
