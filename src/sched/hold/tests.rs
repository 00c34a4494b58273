//! A thread that runs, wants to run and waits by a plan, in a time of its own, and a looker
//! that the machine interrupts.

use std::cell::Cell;

use super::*;

#[derive(Clone, Copy, PartialEq)]
enum Does {
    Run,
    WantToRun,
    Wait,
}

struct Thread<'a> {
    plan: &'a [(Does, u64)],
    /// Microseconds.
    now: Cell<u64>,
    random: Cell<u64>,
    /// How long a reading takes at most.
    reading: u64,
    counts_delay: bool,
}

impl Thread<'_> {
    fn random(&self, below: u64) -> u64 {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        x % below.max(1)
    }

    /// A reading is over.
    fn pass<T>(&self, read: T) -> T {
        self.now.set(self.now.get() + self.random(self.reading));
        read
    }

    /// For how long it has done so between two times, and whether it does at the second.
    fn spent(&self, what: Does, from: u64, to: u64) -> (u64, bool) {
        let (mut at, mut sum, mut is) = (0, 0, false);
        for &(does, long) in self.plan {
            let end = at + long;
            if does == what {
                sum += end.min(to).saturating_sub(at.max(from));
                is |= at <= to && to < end;
            }
            at = end;
        }
        (sum, is)
    }

    fn held(&self, from: u64) -> Duration {
        let spent = |what| self.spent(what, from, self.now.get()).0;
        micros(spent(Does::Run) + spent(Does::Wait))
    }
}

impl Readings for Thread<'_> {
    fn time(&self) -> Duration {
        self.pass(micros(self.now.get()))
    }

    fn cpu(&self) -> Option<Duration> {
        let cpu = self.spent(Does::Run, 0, self.now.get()).0;
        Some(self.pass(micros(cpu)))
    }

    /// As the kernel, which counts it when it is over.
    fn delay(&self) -> Option<Duration> {
        let mut over = 0;
        let mut at = 0;
        for &(does, long) in self.plan {
            at += long;
            if does == Does::WantToRun && at <= self.now.get() {
                over += long;
            }
        }
        self.pass(self.counts_delay.then(|| micros(over)))
    }

    fn waits_in(&self) -> Option<WaitsIn> {
        let waits = self.spent(Does::Wait, 0, self.now.get()).1;
        let call = WaitsIn::parse("0 0x3 0x0 0x0 0x0 0x0 0x0 0x7 0x8").unwrap();
        self.pass(waits.then_some(call))
    }
}

fn micros(time: u64) -> Duration {
    Duration::from_micros(time)
}

const LIMIT: u64 = 40_000;
/// Not in step with anything.
const LOOK: u64 = 2_300;

/// Whether it is found before its plan ends, which begins at `switch`; looks as the watchdog.
fn is_found(thread: &Thread, switch: u64) -> bool {
    let end: u64 = thread.plan.iter().map(|(_, long)| long).sum();
    let sleep = |due: Option<Duration>| {
        let next = next_look(micros(LIMIT), due.into_iter());
        thread.now.set(thread.now.get() + next.as_micros() as u64);
    };
    thread.now.set(thread.random(LOOK));
    while thread.now.get() < switch {
        sleep(None);
    }
    let mut hold = WorkerHold::begin(thread, micros(LIMIT)).unwrap();
    while thread.now.get() < end {
        hold.look(thread).unwrap();
        if hold.due_in().is_zero() {
            return true;
        }
        sleep(Some(hold.due_in()));
    }
    false
}

#[test]
fn whoever_holds_a_worker_for_a_fourth_longer_than_the_limit_is_found() {
    let before = 3 * LOOK;
    let holds: [&[(Does, u64)]; 4] = [
        &[(Does::Run, 50_000)],
        &[(Does::Wait, 50_000)],
        &[(Does::Run, 15_000), (Does::Wait, 35_000)],
        &[
            (Does::Wait, 10_000),
            (Does::Run, 15_000),
            (Does::Wait, 25_000),
        ],
    ];
    for (which, hold) in holds.into_iter().enumerate() {
        for seed in 1..=1_000 {
            let plan = [&[(Does::Run, before)], hold].concat();
            let thread = Thread {
                plan: &plan,
                now: Cell::new(0),
                random: Cell::new(seed * 0x9e37_79b9),
                reading: 10,
                counts_delay: true,
            };
            assert!(is_found(&thread, before), "{which}, {seed}");
        }
    }
}

/// However the thread and the looker are interrupted.
#[test]
fn nobody_is_held_for_longer_than_it_is() {
    let mut most_of_it = 0;
    for seed in 1..=20_000 {
        let mut thread = Thread {
            plan: &[],
            now: Cell::new(0),
            random: Cell::new(seed * 0x9e37_79b9),
            reading: if seed % 2 == 0 { 20 } else { 20_000 },
            counts_delay: true,
        };
        let parts = [Does::Run, Does::WantToRun, Does::Wait];
        let part = |_| {
            let does = parts[thread.random(3) as usize];
            (does, thread.random(30_000))
        };
        let plan: Vec<_> = (0..20).map(part).collect();
        thread.plan = &plan;
        let end: u64 = plan.iter().map(|(_, long)| long).sum();
        let switch = thread.now.get();
        let mut hold = WorkerHold::begin(&thread, micros(LIMIT)).unwrap();
        while thread.now.get() < end {
            hold.look(&thread).unwrap();
            assert!(hold.held() <= thread.held(switch), "seed {seed}");
            thread.now.set(thread.now.get() + thread.random(2 * LOOK));
        }
        most_of_it += u32::from(hold.held() > thread.held(switch) / 2);
    }
    assert!(most_of_it > 15_000, "{most_of_it}");
}

/// Where the kernel counts no delay a wait is found, if later.
#[test]
fn a_wait_is_seen_in_two_looks() {
    let plan = [(Does::Run, 3 * LOOK), (Does::Wait, 50_000)];
    let mut thread = Thread {
        plan: &plan,
        now: Cell::new(0),
        random: Cell::new(7),
        reading: 10,
        counts_delay: false,
    };
    assert!(is_found(&thread, 3 * LOOK));
    let plan = [(Does::Run, 3 * LOOK), (Does::WantToRun, 50_000)];
    thread.plan = &plan;
    assert!(!is_found(&thread, 3 * LOOK));
}
