//! Scenarios of the table: locks and conditions of many threads, of which some give up.
//!
//! A thread stands for a coroutine: it sleeps until a waker that took it off the queue
//! rings its bell.

use super::table::{Batch, Left, Table};
use crate::shim::atomic::{AtomicU32, AtomicUsize, Ordering};
use crate::shim::scenario::{check, crowd, join};
use crate::shim::{Arc, Parker};
use crate::task::Addr;

const ALL: u32 = u32::MAX;
const CROWD: usize = 6;

struct Bed {
    table: Table,
    /// Words that are waited at, as long as they are 0 (or, of a lock, 1).
    words: [AtomicU32; 2],
    bells: Vec<Parker>,
}

fn bed() -> Arc<Bed> {
    Arc::new(Bed {
        table: Table::new(1, 16).expect("address space"),
        words: [AtomicU32::new(0), AtomicU32::new(0)],
        bells: (0..CROWD).map(|_| Parker::new()).collect(),
    })
}

/// Two addresses of one bucket.
fn address(word: usize) -> usize {
    64 * (word + 1)
}

impl Bed {
    fn ring(&self, batch: &Batch) {
        let bells = batch.waiters().iter();
        bells.for_each(|waiter| self.bells[waiter.to_bits() as usize].unpark());
    }

    fn wake(&self, word: usize, most: usize) {
        if self.table.may_wait(address(word)) {
            let mut batch: Batch = Batch::new();
            self.table.take(address(word), most, ALL, &mut batch);
            self.ring(&batch);
        }
    }

    /// Whether `who` had to wait, and was woken; not if it gave up.
    fn wait(
        &self,
        who: usize,
        word: usize,
        first: bool,
        patient: bool,
        still: impl Fn() -> bool,
    ) -> Waited {
        let me = Addr::from_bits(who as u64);
        let place = if first {
            self.table.queue_first(address(word), ALL, me, still)
        } else {
            self.table.queue(address(word), ALL, me, still)
        };
        let Some(place) = place else {
            return Waited::Not;
        };
        let rung = match patient {
            true => self.bells[who].park(None),
            false => self.bells[who].park(Some(std::time::Instant::now())),
        };
        match self.table.leave(place, true) {
            Some(Left::Woken) => {
                // Its waker is on its way to the bell.
                if !rung {
                    self.bells[who].park(None);
                }
                Waited::Woken
            }
            _ => {
                assert!(!rung, "woken in the queue");
                Waited::GaveUp
            }
        }
    }

    /// As glibc's locks do; `false` if it gave up.
    fn lock(&self, who: usize, patient: bool) -> bool {
        let is_taken = || self.words[0].swap(1, Ordering::Acquire) == 1;
        let mut first = false;
        loop {
            match self.wait(who, 0, first, patient, is_taken) {
                Waited::Not => return true,
                Waited::Woken => first = true,
                Waited::GaveUp => return false,
            }
        }
    }

    fn unlock(&self) {
        self.words[0].swap(0, Ordering::Release);
        self.wake(0, 1);
    }
}

enum Waited {
    Not,
    Woken,
    GaveUp,
}

#[test]
fn a_lock_goes_round_though_some_give_up() {
    check(|| {
        let shared = Arc::new((bed(), AtomicUsize::new(0)));
        let theirs = Arc::clone(&shared);
        join(crowd(CROWD, move |who| {
            let (bed, inside) = &*theirs;
            for _ in 0..2 {
                if bed.lock(who, who % 3 != 0) {
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    bed.unlock();
                }
            }
        }));
        let (bed, _) = &*shared;
        assert_eq!(bed.words[0].load(Ordering::SeqCst), 0);
        assert_eq!(bed.table.counted(address(0)), 0);
    });
}

/// Four wait at two words of one bucket. One is changed and all there are woken; the
/// other's wake-ups are put off, and made by whoever comes.
#[test]
fn all_at_a_word_hear_that_it_changed() {
    check(|| {
        let bed = bed();
        let theirs = Arc::clone(&bed);
        join(crowd(CROWD, move |who| {
            let word = who % 2;
            if who < 4 {
                let unchanged = || theirs.words[word].load(Ordering::Relaxed) == 0;
                // One wake-up too many is allowed.
                while let Waited::Woken = theirs.wait(who, word, false, true, unchanged) {}
                return;
            }
            theirs.words[word].store(1, Ordering::Relaxed);
            if word == 0 {
                theirs.wake(word, usize::MAX);
            } else {
                theirs.table.defer(address(word));
            }
            theirs.table.flush(|batch| theirs.ring(batch));
        }));
        assert_eq!(bed.table.counted(address(0)), 0);
    });
}
