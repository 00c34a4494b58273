//! The census: who is there, asked of every worker.
//!
//! Each worker gets a [`Ballot`] by mail and fills it in when it reads its
//! mail, between two coroutines. A run that ends ends the census, too.

use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::pool::Pool;
use super::remote::Message;
use super::worker::Worker;
use crate::shim::Lock;
use crate::task::{Addr, Flags, State};

/// One coroutine, as its worker describes it.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) identity: Addr,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) site: &'static Location<'static>,
    pub(crate) state: State,
    pub(crate) cancelled: bool,
    pub(crate) shared: bool,
}

/// The answers. As a future: ready when all workers have answered, or the run
/// that was asked has ended.
pub(crate) struct Census<'a> {
    pool: &'a Pool,
    run: u64,
    count: Arc<Lock<Count>>,
}

struct Count {
    missing: usize,
    people: Vec<Person>,
    waker: Option<Waker>,
}

/// One worker's answer.
pub(crate) struct Ballot(Arc<Lock<Count>>);

impl<'a> Census<'a> {
    /// Asks all workers; `None` while nobody runs them.
    pub(crate) fn begin(pool: &'a Pool) -> Option<Self> {
        let run = pool.run()?;
        let count = Arc::new(Lock::new(Count {
            missing: pool.remotes().len(),
            people: Vec::new(),
            waker: None,
        }));
        pool.tell_all(|| Message::Count(Ballot(Arc::clone(&count))));
        Some(Self { pool, run, count })
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
        self.pool.watch(fresh.clone());
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
    pub(super) fn cast(self, people: Vec<Person>) {
        self.0.lock().people.extend(people);
    }
}

impl Drop for Ballot {
    fn drop(&mut self) {
        let mut count = self.0.lock();
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
    /// Everybody here.
    pub(super) fn people(&self) -> Vec<Person> {
        self.slots
            .iter_live()
            .map(|(_, slot)| Person {
                identity: self.identity(slot),
                name: self.name(slot),
                site: self.site(slot),
                state: slot.state(),
                cancelled: slot.has(Flags::CANCELLED),
                shared: slot.has(Flags::SHARED),
            })
            .collect()
    }
}
