//! What coroutines cost in Rust: as scripts/costs.c, operation by operation, for
//! `scripts/costs.py`, which compares them.

use std::fs;
use std::io;

const RUNNABLE: usize = 1000;
const YIELDS: usize = 1000;
const SPAWNS: usize = 300_000;
const PARKED: usize = 50_000;

/// Nanoseconds.
fn cpu() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a place for the time.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// Bytes.
fn resident() -> f64 {
    let all = fs::read_to_string("/proc/self/statm").expect("/proc is mounted");
    let pages = all.split(' ').nth(1).and_then(|word| word.parse().ok());
    // SAFETY: no memory is passed.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as f64;
    pages
        .map(|pages: f64| pages * page)
        .expect("a number of pages")
}

/// A function that returns after it was suspended, as `crore_yield` is.
#[inline(never)]
fn yield_once() {
    crore::yield_now();
}

/// Nanoseconds of a switch of `RUNNABLE` coroutines that run this.
fn switch(yields: fn()) -> f64 {
    let all: Vec<_> = (0..RUNNABLE).map(|_| crore::spawn(yields)).collect();
    let begun = cpu();
    all.into_iter().for_each(|one| one.join().expect("it ends"));
    (cpu() - begun) / (RUNNABLE * YIELDS) as f64
}

fn first() {
    let called = switch(|| (0..YIELDS).for_each(|_| yield_once()));
    println!("switch {called:.3}");
    let begun = cpu();
    for _ in 0..SPAWNS {
        crore::spawn(|| {}).join().expect("it ends");
    }
    println!("spawn {:.3}", (cpu() - begun) / SPAWNS as f64);

    let inlined = switch(|| (0..YIELDS).for_each(|_| crore::yield_now()));
    println!("inlined {inlined:.3}");

    let mut all = Vec::with_capacity(PARKED);
    let before = resident();
    all.extend((0..PARKED).map(|_| crore::spawn(crore::park)));
    crore::yield_now();
    println!("memory {:.0}", (resident() - before) / PARKED as f64);
    for one in all {
        one.coroutine().unpark();
        one.join().expect("it ends");
    }
}

fn main() -> io::Result<()> {
    crore::run(first)
}
