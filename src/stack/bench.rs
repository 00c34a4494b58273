//! Measurements of the frame pool and the copier, printed:
//! `cargo test --release --lib stack::bench -- --ignored --nocapture --test-threads 1`

use std::hint::black_box;
use std::ptr::with_exposed_provenance_mut;
use std::time::Instant;

use super::copy;
use super::frame_pool::{FramePool, FramePoolConfig};
use super::shared::{Resident, Saved, SharedStack};
use crate::util::fuzz::Random;

/// Nanoseconds a round, the best of several runs.
fn best(rounds: u32, mut run: impl FnMut()) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..9 {
        let start = Instant::now();
        for _ in 0..rounds {
            run();
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(rounds));
    }
    best
}

#[test]
#[ignore = "prints times"]
fn alloc_and_free() {
    let mut pool = FramePool::new(FramePoolConfig::default()).unwrap();
    let mut pair = || {
        let frame = pool.alloc(black_box(144)).unwrap();
        black_box(pool.addr(&frame));
        // SAFETY: from this pool, with this length.
        unsafe { pool.free(frame, black_box(144)) };
    };
    println!(
        "alloc + free, the only frame of its class: {:.1} ns",
        best(1_000_000, &mut pair)
    );
    let _keep = pool.alloc(144).unwrap();
    let mut pair = || {
        let frame = pool.alloc(black_box(144)).unwrap();
        black_box(pool.addr(&frame));
        // SAFETY: from this pool, with this length.
        unsafe { pool.free(frame, black_box(144)) };
    };
    println!(
        "alloc + free, 144 B, hot: {:.1} ns",
        best(1_000_000, &mut pair)
    );
}

#[test]
#[ignore = "prints times"]
fn save_and_restore() {
    for len in [128, 144, 208, 1024, 4096] {
        let mut population = Population::new(3, len, FramePoolConfig::default());
        let mut next = 0;
        let ns = best(1_000_000, || {
            population.switch(next);
            next = if next == 2 { 0 } else { next + 1 };
        });
        println!("save + restore of {len:4} B, hot: {ns:.1} ns");
    }
}

#[test]
#[ignore = "prints times, needs 2 GB"]
fn ten_million_frames() {
    const COUNT: usize = 10_000_000;
    for (pages, huge_after) in [("small", u32::MAX), ("huge", 8)] {
        let config = FramePoolConfig {
            huge_after,
            ..FramePoolConfig::default()
        };
        let mut population = Population::new(COUNT, 144, config);
        let counters = population.pool.counters();
        println!(
            "{pages} pages: {} frames, {} B live, {} B held ({:+.2} %), {} chunks",
            counters.frames,
            counters.live,
            counters.held,
            (counters.held as f64 / counters.live as f64 - 1.0) * 100.0,
            counters.chunks
        );
        let mut order: Vec<u32> = (0..COUNT as u32).collect();
        population.print_round(&format!("{pages} pages, in order"), &order, 0);
        population.print_round(&format!("{pages} pages, in order, prefetch"), &order, 8);
        let mut random = Random::new(1);
        for nth in (1..COUNT).rev() {
            order.swap(nth, random.next() as usize % (nth + 1));
        }
        population.print_round(&format!("{pages} pages, random"), &order, 0);
        for ahead in [4, 8, 16] {
            population.print_round(
                &format!("{pages} pages, random, prefetch {ahead}"),
                &order,
                ahead,
            );
        }
        let start = Instant::now();
        population.end_all();
        let ns = start.elapsed().as_nanos() as f64 / COUNT as f64;
        println!(
            "discard {ns:.0} ns; held after: {} B",
            population.pool.counters().held
        );
    }
}

/// Tasks of one shared stack, all parked at one depth.
struct Population {
    pool: FramePool,
    shared: SharedStack,
    sp: usize,
    tasks: Vec<Option<Saved>>,
}

impl Population {
    fn new(count: usize, len: usize, config: FramePoolConfig) -> Self {
        const STACK: usize = 64 << 10;
        const ROOT: usize = 192;
        // Leaked, so that it outlives the shared stack.
        let memory = Vec::leak(vec![0u128; STACK / 16]);
        let limit = memory.as_mut_ptr().expose_provenance();
        let boundary = limit + STACK - ROOT;
        let mut this = Self {
            pool: FramePool::new(config).unwrap(),
            // SAFETY: leaked memory, exposed, and nothing runs on it.
            shared: unsafe { SharedStack::new(limit + STACK, limit, boundary) },
            sp: boundary - len,
            tasks: (0..count).map(|_| None).collect(),
        };
        let start = Instant::now();
        for task in 0..count {
            this.save_owner();
            // SAFETY: nothing runs on the stack.
            unsafe { this.shared.make_idle() };
            this.shared.start(task as u32);
            this.stamp(task as u32);
            // SAFETY: the task is parked, its base frames as the others'.
            unsafe { this.shared.capture_base_frames(boundary, 8) };
        }
        let ns = start.elapsed().as_nanos() as f64 / count as f64;
        if count > 1000 {
            println!("first save {ns:.0} ns");
        }
        this
    }

    /// One word of the frames, all of which is known to be initialised.
    fn word(&self) -> *mut u32 {
        with_exposed_provenance_mut(self.sp)
    }

    fn stamp(&mut self, task: u32) {
        // SAFETY: the word lies in the stack, on which nothing runs.
        unsafe { self.word().write(task) };
    }

    #[inline]
    fn save_owner(&mut self) {
        if let Resident::Owner(owner) = self.shared.resident() {
            // SAFETY: every task is parked at `sp`.
            let saved = unsafe { self.shared.save(self.sp, &mut self.pool) };
            self.tasks[owner as usize] = Some(saved.unwrap());
        }
    }

    #[inline]
    fn switch(&mut self, task: u32) {
        if self.shared.hit(task) {
            return;
        }
        self.save_owner();
        let saved = self.tasks[task as usize]
            .take()
            .expect("not resident, so saved");
        // SAFETY: saved from this stack, to this pool, for this task.
        unsafe { self.shared.restore(task, saved, &mut self.pool) };
        // SAFETY: as in `stamp`.
        assert_eq!(unsafe { self.word().read() }, task);
    }

    fn print_round(&mut self, what: &str, order: &[u32], ahead: usize) {
        let start = Instant::now();
        for (nth, &task) in order.iter().enumerate() {
            if ahead > 0 {
                if let Some(&task) = order.get(nth + 2 * ahead) {
                    copy::prefetch((&raw const self.tasks[task as usize]).cast(), 8);
                }
                if let Some(&task) = order.get(nth + ahead)
                    && let Some(saved) = &self.tasks[task as usize]
                {
                    saved.prefetch(&self.pool);
                }
            }
            self.switch(task);
        }
        let ns = start.elapsed().as_nanos() as f64 / order.len() as f64;
        println!("{what}: save + restore {ns:.0} ns");
    }

    fn end_all(&mut self) {
        for saved in self.tasks.iter_mut().filter_map(Option::take) {
            // SAFETY: saved to this pool.
            unsafe { saved.discard(&mut self.pool) };
        }
    }
}
