//! The promise: destructors of thread-locals, which run when a thread ends, may
//! use crore as any other code.

use std::cell::RefCell;
use std::panic::resume_unwind;
use std::sync::mpsc;
use std::thread;

use crore::sync::channel;

use crate::common::succeeds;

struct AtEnd(Option<Box<dyn FnOnce()>>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(|f| f());
    }
}

thread_local! {
    static AT_END: RefCell<AtEnd> = const { RefCell::new(AtEnd(None)) };
}

/// Calls `f` on a thread once before, and once while its thread-locals end;
/// those that `f` itself begins are gone by then.
fn twice(f: fn() -> bool) -> bool {
    let (tell, told) = mpsc::channel();
    let thread = thread::spawn(move || {
        AT_END.with_borrow_mut(|end| {
            end.0 = Some(Box::new(move || tell.send(f()).unwrap()));
        });
        f()
    });
    thread.join().unwrap() & told.recv().unwrap()
}

#[test]
fn coroutines_run_panic_and_wait_while_their_thread_ends() {
    let name = "coroutines_run_panic_and_wait_while_their_thread_ends";
    succeeds(name, || {
        let worked = twice(|| {
            crore::run(|| {
                let bad = crore::spawn(|| resume_unwind(Box::new("quietly")));
                assert!(bad.join().unwrap_err().is_panic());
                let (tx, rx) = channel::rendezvous();
                let sender = crore::spawn(move || tx.send(7));
                assert_eq!(rx.recv(), Ok(7));
                sender.join().unwrap().unwrap();
                crore::sleep(std::time::Duration::from_millis(1));
                crore::spawn_blocking(|| 5).join().unwrap() == 5
            })
            .unwrap()
        });
        assert!(worked);
    });
}

#[cfg(feature = "hook")]
#[test]
fn names_are_looked_up_while_their_thread_ends() {
    let name = "names_are_looked_up_while_their_thread_ends";
    succeeds(name, || {
        let worked = twice(|| {
            crore::run(|| {
                // SAFETY: a C string; the answer is not used further.
                let host = unsafe { gethostbyname(c"127.0.0.1".as_ptr()) };
                // SAFETY: no pointers.
                !host.is_null() && !unsafe { libc::getpwuid(0) }.is_null()
            })
            .unwrap()
        });
        assert!(worked);
    });
}

#[cfg(feature = "hook")]
unsafe extern "C" {
    fn gethostbyname(name: *const std::ffi::c_char) -> *mut std::ffi::c_void;
}
