//! What a hooked call and a mutex of C cost on a plain thread, how exact short
//! sleeps are, what reading a file costs:
//! `cargo run --release -p crore-benches --bin hook_cost`.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// The time of one call, in nanoseconds.
fn time(calls: u32, f: &mut impl FnMut()) -> f64 {
    let begun = Instant::now();
    (0..calls).for_each(|_| f());
    begun.elapsed().as_nanos() as f64 / f64::from(calls)
}

/// The best of several.
fn nanos(mut f: impl FnMut()) -> f64 {
    (0..7).fold(f64::INFINITY, |best, _| best.min(time(200_000, &mut f)))
}

/// The best of each of two that take turns: a noisy machine disturbs them alike.
fn compare(mut one: impl FnMut(), mut other: impl FnMut()) -> (f64, f64) {
    (0..100).fold((f64::INFINITY, f64::INFINITY), |best, _| {
        let first = best.0.min(time(20_000, &mut one));
        (first, best.1.min(time(20_000, &mut other)))
    })
}

fn a_mutex_of_c_on_a_plain_thread() {
    type Call = unsafe extern "C" fn(*mut libc::pthread_mutex_t) -> c_int;
    let next = |name: &std::ffi::CStr| {
        // SAFETY: a valid name; the function behind it has this type.
        unsafe {
            std::mem::transmute::<*mut c_void, Call>(libc::dlsym(libc::RTLD_NEXT, name.as_ptr()))
        }
    };
    let (lock, unlock) = (next(c"pthread_mutex_lock"), next(c"pthread_mutex_unlock"));
    let mut mutex = libc::PTHREAD_MUTEX_INITIALIZER;
    let mutex = &raw mut mutex;
    for when in ["before any runtime", "after one"] {
        // SAFETY: a mutex that stays where it is; each locking is undone.
        let (hooked, plain) = unsafe {
            compare(
                || {
                    _ = (
                        libc::pthread_mutex_lock(mutex),
                        libc::pthread_mutex_unlock(mutex),
                    )
                },
                || _ = (lock(mutex), unlock(mutex)),
            )
        };
        println!(
            "a mutex of C, lock and unlock, {when}: hooked {hooked:.1} ns, libc {plain:.1} ns"
        );
        crore::run(|| std::thread::sleep(Duration::from_millis(1))).unwrap();
    }
}

fn a_hooked_call_on_a_plain_thread() {
    type Read = unsafe extern "C" fn(c_int, *mut c_void, usize) -> isize;
    // SAFETY: a valid name; the function behind it has this type.
    let libcs: Read =
        unsafe { std::mem::transmute(libc::dlsym(libc::RTLD_NEXT, c"read".as_ptr())) };
    let null = File::open("/dev/null").unwrap();
    let (fd, mut byte) = (null.as_raw_fd(), 0u8);
    let place: *mut c_void = (&raw mut byte).cast();
    // SAFETY: one byte, in both.
    let (hooked, plain) = unsafe {
        compare(
            || _ = black_box(libc::read(fd, place, 1)),
            || _ = black_box(libcs(fd, place, 1)),
        )
    };
    println!("read of /dev/null on a plain thread: hooked {hooked:.1} ns, libc {plain:.1} ns");
    // Without the system call's noise: refused by the hook's own code path.
    // SAFETY: no descriptor.
    let (hooked, plain) = unsafe {
        compare(
            || _ = black_box(libc::read(-1, place, 1)),
            || _ = black_box(libcs(-1, place, 1)),
        )
    };
    println!("read of nothing: hooked {hooked:.1} ns, libc {plain:.1} ns");
}

fn short_sleeps() {
    crore::run(|| {
        for micros in [50, 200, 1000, 5000] {
            let time = Duration::from_micros(micros);
            let mut took: Vec<_> = (0..200)
                .map(|_| {
                    let begun = Instant::now();
                    std::thread::sleep(time);
                    begun.elapsed()
                })
                .collect();
            took.sort();
            println!(
                "sleep of {time:?}: median {:?}, 95 % {:?}",
                took[100], took[190]
            );
        }
    })
    .unwrap();
}

fn reading_files() {
    let path = std::env::temp_dir().join(format!("crore-cost-{}", std::process::id()));
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    file.write_all(&vec![7; 1 << 20]).unwrap();
    let fd = file.as_raw_fd();
    for len in [100, 4096, 65536] {
        let mut buf = vec![0u8; len];
        let place: *mut c_void = buf.as_mut_ptr().cast();
        // SAFETY: a buffer of `len` bytes, in all.
        let mut read = || _ = black_box(unsafe { libc::pread(fd, place, len, 0) });
        let plain = nanos(&mut read);
        let ours = crore::run(|| nanos(&mut read)).unwrap();
        println!("pread of {len} cached bytes: thread {plain:.0} ns, coroutine {ours:.0} ns");
    }
    crore::run(|| {
        let begun = Instant::now();
        for _ in 0..2000 {
            crore::spawn_blocking(|| ()).join().unwrap();
        }
        println!("a helper and back: {:?}", begun.elapsed() / 2000);
    })
    .unwrap();
}

fn main() {
    a_mutex_of_c_on_a_plain_thread();
    a_hooked_call_on_a_plain_thread();
    short_sleeps();
    reading_files();
}
