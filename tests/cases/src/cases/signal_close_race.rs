//! `close` in a handler that interrupts a worker at any moment. The driver was borrowed a
//! second time, and the process aborted. Right: OK.

use std::{io::Read, os::fd::IntoRawFd, os::unix::net::UnixStream, sync::atomic::*, time::*};
static FD: AtomicI32 = AtomicI32::new(-1);
extern "C" fn on(_: i32) {
    let fd = FD.swap(-1, Ordering::SeqCst);
    if fd >= 0 {
        unsafe {
            libc::close(fd);
        }
    }
}
pub(crate) fn main() {
    unsafe {
        let mut sa: libc::sigaction = std::mem::zeroed();
        sa.sa_sigaction = on as *const () as usize;
        sa.sa_flags = libc::SA_RESTART;
        libc::sigaction(libc::SIGALRM, &sa, std::ptr::null_mut());
        let each = libc::timeval {
            tv_sec: 0,
            tv_usec: 50,
        };
        libc::setitimer(
            libc::ITIMER_REAL,
            &libc::itimerval {
                it_interval: each,
                it_value: each,
            },
            std::ptr::null_mut(),
        );
    }
    crore::run(|| {
        let end = Instant::now() + Duration::from_secs(5);
        let all: Vec<_> = (0..8)
            .map(|_| {
                crore::spawn(move || {
                    while Instant::now() < end {
                        let (mut x, y) = UnixStream::pair().unwrap();
                        let _ = crore::timeout(Duration::from_micros(30), || x.read(&mut [0; 1])); // now the reactor knows it
                        let old = FD.swap(x.into_raw_fd(), Ordering::SeqCst);
                        if old >= 0 {
                            unsafe {
                                libc::close(old);
                            }
                        }
                        drop(y);
                    }
                })
            })
            .collect();
        all.into_iter().for_each(|h| h.join().unwrap());
    })
    .unwrap();
    println!("OK");
}
