//! `flockfile` in two coroutines of a thread. Both were inside at one time (the lock is
//! recursive by thread); with own thread-locals (`own`) the thread stopped for ever. Right:
//! one at a time.

use std::sync::atomic::{AtomicI32, Ordering::SeqCst};
use std::time::Duration;
unsafe extern "C" {
    fn flockfile(f: *mut libc::FILE);
    fn funlockfile(f: *mut libc::FILE);
    static stderr: *mut libc::FILE;
}
static INSIDE: AtomicI32 = AtomicI32::new(0);
static BAD: AtomicI32 = AtomicI32::new(0);
fn user() {
    for _ in 0..5 {
        unsafe { flockfile(stderr) };
        if INSIDE.fetch_add(1, SeqCst) != 0 {
            BAD.fetch_add(1, SeqCst);
        }
        std::thread::sleep(Duration::from_millis(5));
        INSIDE.fetch_sub(1, SeqCst);
        unsafe { funlockfile(stderr) };
    }
}
pub(crate) fn main() {
    let own = std::env::args().nth(1).is_some();
    let two = [std::thread::spawn(user), std::thread::spawn(user)];
    two.into_iter().for_each(|t| t.join().unwrap());
    println!("threads: two inside {} times", BAD.swap(0, SeqCst)); // 0
    crore::run(move || {
        let two = [0, 1].map(|_| {
            crore::Builder::new()
                .own_thread_locals(own)
                .spawn(user)
                .unwrap()
        });
        two.into_iter().for_each(|t| t.join().unwrap());
    })
    .unwrap();
    println!("coroutines: two inside {} times", BAD.load(SeqCst)); // 9
}
