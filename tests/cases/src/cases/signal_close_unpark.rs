//! `close` in a handler that interrupts a plain thread in `unpark`. It spun for ever on the
//! mailbox's lock, which the interrupted code held. Right: OK.

use std::{
    io::Read, os::fd::IntoRawFd, os::unix::net::UnixStream, sync::atomic::*, time::Duration,
};
static FD: AtomicI32 = AtomicI32::new(-1);
static HANDLED: AtomicUsize = AtomicUsize::new(0);
extern "C" fn on(_: i32) {
    let fd = FD.swap(-1, Ordering::SeqCst);
    if fd >= 0 {
        unsafe {
            libc::close(fd);
        }
        HANDLED.fetch_add(1, Ordering::SeqCst);
    }
}
pub(crate) fn main() {
    unsafe {
        libc::signal(libc::SIGUSR1, on as *const () as usize);
    }
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_secs(50));
        println!(
            "FAULT: hangs after {} signals",
            HANDLED.load(Ordering::SeqCst)
        );
        std::process::exit(1)
    });
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    let s = stop.clone();
    crore::run(move || {
        let sleeper = crore::spawn(|| {
            loop {
                crore::park()
            }
        });
        crore::yield_now();
        let co = sleeper.coroutine();
        let t = std::thread::spawn(move || {
            while !s.load(Ordering::SeqCst) {
                co.unpark();
            }
        });
        let pt = std::os::unix::thread::JoinHandleExt::as_pthread_t(&t);
        // Fewer on a machine that is busy.
        let begun = std::time::Instant::now();
        let in_time = |_: &usize| begun.elapsed() < Duration::from_secs(20);
        for i in (0..1_000_usize).take_while(in_time) {
            let (mut x, _y) = UnixStream::pair().unwrap();
            let _ = crore::timeout(Duration::from_millis(1), || x.read(&mut [0; 1]));
            FD.store(x.into_raw_fd(), Ordering::SeqCst);
            unsafe {
                libc::pthread_kill(pt, libc::SIGUSR1);
            }
            while FD.load(Ordering::SeqCst) >= 0 || HANDLED.load(Ordering::SeqCst) <= i {
                std::thread::yield_now();
            }
        }
        stop.store(true, Ordering::SeqCst);
        t.join().unwrap();
        println!("OK");
    })
    .unwrap();
}
