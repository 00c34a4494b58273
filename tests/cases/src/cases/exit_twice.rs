//! `process::exit` in two coroutines while a handler of `atexit` waits. std took both for one
//! thread and aborted; with own thread-locals (`tls`) the thread stopped. Right, as with
//! threads (`thread`): the second waits, and the status is 5.

use std::time::Duration;
extern "C" fn flush() {
    std::thread::sleep(Duration::from_millis(200));
} // joins a thread, writes to a socket …
pub(crate) fn main() {
    unsafe { libc::atexit(flush) };
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_secs(4));
        eprintln!("FAULT: the process does not end");
        unsafe { libc::_exit(3) }
    });
    let how = std::env::args().nth(1).unwrap_or_default();
    let second = || {
        std::thread::sleep(Duration::from_millis(50));
        std::process::exit(6)
    };
    if how == "thread" {
        std::thread::spawn(|| std::process::exit(5));
        std::thread::spawn(second);
        std::thread::sleep(Duration::from_secs(9));
    }
    crore::run(|| {
        let go = |f: fn()| {
            drop(
                crore::Builder::new()
                    .own_thread_locals(how == "tls")
                    .spawn(f)
                    .unwrap(),
            )
        };
        go(|| std::process::exit(5));
        go(second);
        std::thread::sleep(Duration::from_secs(9));
    })
    .unwrap();
}
