//! `close` and `dup2` in a handler while the worker is busy. The process aborted if the
//! driver was borrowed in that moment. Right: it survives.

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
                for _ in 0..20_000 {
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
