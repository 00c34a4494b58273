//! A signal handler that calls close() or dup2() (both async-signal-safe by POSIX) aborts the
//! process if it interrupts the worker while it has its driver borrowed ("RefCell already borrowed",
//! src/util/section.rs:120, from sched::worker::fd_gone <- hook::life::ends). A thread survives.
//! Run: cargo run --release. Aborts within a second, debug and release.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
static SPARE: AtomicI32 = AtomicI32::new(-1);
static KNOWN: AtomicI32 = AtomicI32::new(-1);
extern "C" fn handler(_: libc::c_int) {
    // or close(): any number that a coroutine waited for once
    unsafe {
        let e = *libc::__errno_location();
        libc::dup2(SPARE.load(Relaxed), KNOWN.load(Relaxed));
        *libc::__errno_location() = e;
    }
}
pub(crate) fn main() {
    crore::run(|| unsafe {
        let (mut a, mut b) = UnixStream::pair().unwrap();
        let waits = crore::spawn(move || {
            let mut one = [0];
            a.read_exact(&mut one).unwrap();
            a
        });
        crore::sleep(std::time::Duration::from_millis(5));
        b.write_all(b"x").unwrap();
        let (keep, spare) = UnixStream::pair().unwrap();
        SPARE.store(spare.into_raw_fd(), Relaxed);
        let known = waits.join().unwrap(); // its number is known to the reactor
        KNOWN.store(known.into_raw_fd(), Relaxed);
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut());
        let tick = libc::timeval {
            tv_sec: 0,
            tv_usec: 50,
        };
        let timer = libc::itimerval {
            it_interval: tick,
            it_value: tick,
        };
        libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut());
        let mut pairs = vec![];
        for _ in 0..20 {
            let (mut a, mut b) = UnixStream::pair().unwrap();
            crore::spawn(move || {
                let mut one = [0];
                while a.read_exact(&mut one).is_ok() {
                    a.write_all(&one).unwrap();
                }
            });
            pairs.push(crore::spawn(move || {
                for _ in 0..300_000 {
                    let mut one = [0];
                    b.write_all(&one).unwrap();
                    b.read_exact(&mut one).unwrap();
                }
            }));
        }
        for pair in pairs {
            pair.join().unwrap();
        }
        println!("survived");
        let _ = keep.as_raw_fd();
        std::process::exit(0);
    })
    .unwrap();
}
