//! The census: who is there, asked of every worker.
//!
//! Each worker gets a [`Ballot`] by mail and fills it in when it reads its
//! mail, between two coroutines. A run that ends ends the census, too.

use std::backtrace::Backtrace;
use std::collections::HashMap;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::cx::Cx;
use super::pool::Pool;
use super::remote::Message;
use super::wake;
use super::watchers::Watch;
use super::worker::{ERA_BITS, Worker};
use crate::driver::WaitTarget;
use crate::shim::Lock;
use crate::task::{Addr, Flags, Slot, State};

/// Coroutines that one worker asks for a backtrace in one census: each takes
/// tens of microseconds, and nobody reads more.
const TRACES: usize = 1_000;

/// Bytes of stack that taking a backtrace may use. To print one, which is more,
/// takes 22.5 KiB in a debug build.
const ROOM: usize = 24 << 10;

/// How much is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Who is there, and in what state.
    Names,
    /// What those who wait wait for, since when and where in their code, too.
    Waits,
}

/// One coroutine, as its worker describes it.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) identity: Addr,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) site: &'static Location<'static>,
    pub(crate) state: State,
    pub(crate) cancelled: bool,
    pub(crate) shared: bool,
    /// Descriptors and times that it waits for, if it is parked.
    pub(crate) awaits: Vec<WaitTarget>,
    /// How long it has been parked.
    pub(crate) parked_for: Option<Duration>,
    pub(crate) backtrace: Option<Arc<Backtrace>>,
}

/// The answers. As a future: ready when all workers have answered, or the run
/// that was asked has ended.
pub(crate) struct Census<'a> {
    pool: &'a Pool,
    run: u64,
    /// For the end of the run.
    watch: Watch<'a>,
    count: Arc<Lock<Count>>,
}

struct Count {
    missing: usize,
    people: Vec<Person>,
    waker: Option<Waker>,
}

/// One worker's answer.
pub(crate) struct Ballot {
    asked: Asked,
    count: Arc<Lock<Count>>,
}

impl<'a> Census<'a> {
    /// Asks all workers; `None` while nobody runs them.
    pub(crate) fn begin(pool: &'a Pool, asked: Asked) -> Option<Self> {
        let run = pool.run()?;
        let count = Arc::new(Lock::new(Count {
            missing: pool.remotes().len(),
            people: Vec::new(),
            waker: None,
        }));
        pool.tell_all(|| Message::Count {
            run,
            ballot: Ballot {
                asked,
                count: Arc::clone(&count),
            },
        });
        Some(Self {
            pool,
            run,
            watch: pool.watch(),
            count,
        })
    }

    /// Those who have been counted so far.
    pub(crate) fn people(&self) -> Vec<Person> {
        std::mem::take(&mut self.count.lock().people)
    }
}

impl Future for &Census<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // Cloned and dropped outside the lock: both may be foreign code.
        let fresh = context.waker().clone();
        self.watch.wake(fresh.clone());
        let over = !self.pool.is_run(self.run);
        let mut count = self.count.lock();
        if count.missing == 0 || over {
            drop(count);
            return Poll::Ready(());
        }
        let old = count.waker.replace(fresh);
        drop(count);
        drop(old);
        Poll::Pending
    }
}

impl Ballot {
    pub(super) fn cast(self, worker: &Worker) {
        let mut people = worker.people();
        if self.asked == Asked::Waits {
            worker.ask_about_waits(&mut people);
        }
        let people = people.into_iter().map(|(_, person)| person);
        self.count.lock().people.extend(people);
    }
}

impl Drop for Ballot {
    fn drop(&mut self) {
        let mut count = self.count.lock();
        count.missing -= 1;
        let waker = if count.missing == 0 {
            count.waker.take()
        } else {
            None
        };
        drop(count);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Worker {
    /// Everybody here, with the number of his slot.
    fn people(&self) -> Vec<(u32, Person)> {
        let person = |slot: &Slot| Person {
            identity: self.identity(slot),
            name: self.name(slot),
            site: self.site(slot),
            state: slot.state(),
            cancelled: slot.has(Flags::CANCELLED),
            shared: slot.has(Flags::SHARED),
            awaits: Vec::new(),
            parked_for: None,
            backtrace: None,
        };
        let all = self.slots.iter_live();
        all.map(|(index, slot)| (index, person(slot))).collect()
    }

    /// Adds what is known of those who wait, and asks the first [`TRACES`] of
    /// them where they are.
    fn ask_about_waits(&self, people: &mut [(u32, Person)]) {
        // Mail may be read by a running coroutine (`Cx::is_cancelled`), on its
        // own stack, which may be the stack of those we would ask.
        let mut traces = if Cx::running().is_some() { 0 } else { TRACES };
        let mut waits = self.waits();
        for (index, person) in people {
            let slot = self.slots.slot(*index);
            if slot.state() != State::Parked {
                continue;
            }
            if let Some((awaits, since)) = waits.remove(index) {
                person.awaits = awaits;
                person.parked_for = since;
            }
            if !slot.has(Flags::SHARED) {
                let tick = u64::from(slot.frame.get()) << ERA_BITS;
                person.parked_for = Some(self.driver.borrow().ago(tick));
            }
            if traces > 0 && !slot.has(Flags::POLLED) {
                traces -= 1;
                person.backtrace = self.backtrace(slot).map(Arc::new);
            }
        }
    }

    /// Who waits in the driver for what, by slot; and for descriptors, how long.
    fn waits(&self) -> HashMap<u32, (Vec<WaitTarget>, Option<Duration>)> {
        let mut waits = HashMap::<_, (Vec<_>, Option<_>)>::new();
        let driver = self.driver.borrow();
        for (waker, awaited, since) in driver.waits() {
            let task = wake::whom(waker).and_then(|addr| self.slots.find(addr));
            let Some((index, _)) = task else { continue };
            let (awaits, longest) = waits.entry(index).or_default();
            awaits.push(awaited);
            *longest = (*longest).max(since);
        }
        waits
    }

    /// Where a suspended coroutine is in its code: it looks itself, on its own
    /// stack, if that has the room.
    fn backtrace(&self, slot: &Slot) -> Option<Backtrace> {
        let mut trace = None;
        let mut look = || trace = Some(Backtrace::force_capture());
        self.stacks.run_on_stack(&self.slots, slot, ROOM, &mut look);
        trace
    }
}
