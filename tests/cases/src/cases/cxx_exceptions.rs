//! Handlers of C++ exceptions that wait. libstdc++'s stack of caught exceptions is a
//! thread-local, so `throw;` threw another coroutine's, and the end of one handler destroyed
//! the exception that another still used. Right with own thread-locals.

use std::{ffi::*, time::Duration};
unsafe extern "C" {
    fn rethrow(m: c_int, w: extern "C" fn(*mut c_void), a: *mut c_void) -> c_int;
    fn handler(w: extern "C" fn(*mut c_void), a: *mut c_void) -> c_int;
    fn holder(w: extern "C" fn(*mut c_void), a: *mut c_void, out: *mut c_char) -> c_int;
}

extern "C" fn wait(ms: *mut c_void) {
    std::thread::sleep(Duration::from_millis(ms as u64))
}
fn go<T: Send + 'static>(
    tls: bool,
    f: impl FnOnce() -> T + Send + 'static,
) -> crore::JoinHandle<T> {
    crore::Builder::new()
        .own_thread_locals(tls)
        .spawn(f)
        .unwrap()
}
pub(crate) fn main() {
    crore::run(|| {
        for tls in [true, false] {
            let a = go(tls, || unsafe { rethrow(1, wait, 10 as *mut _) });
            let b = go(tls, || unsafe { rethrow(2, wait, 20 as *mut _) });
            println!(
                "own thread-locals {tls}: A threw 1, got {:?}; B threw 2, got {:?}",
                a.join().unwrap(),
                b.join().unwrap()
            );
            let a = go(tls, || unsafe { handler(wait, 10 as *mut _) });
            let b = go(tls, || {
                let mut o = [0u8; 32];
                unsafe { holder(wait, 30 as *mut _, o.as_mut_ptr().cast()) };
                String::from_utf8_lossy(&o).into_owned()
            });
            a.join().unwrap();
            println!(
                "own thread-locals {tls}: B's exception reads {} (want b…)",
                b.join().unwrap()
            );
        }
    })
    .unwrap();
}
