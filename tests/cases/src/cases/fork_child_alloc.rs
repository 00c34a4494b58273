//! A plain program: the child of a fork calls `dup2`, which POSIX allows, while a thread that
//! the child does not have was inside of the allocator. The hook allocated. Right: it ends.

use std::alloc::*;
use std::sync::atomic::{Ordering::*, *};
use std::time::*;

struct Spin;
static LOCK: AtomicBool = AtomicBool::new(false);
static HOLD: AtomicBool = AtomicBool::new(false);
/// Other cases share this allocator.
static THIS_CASE: AtomicBool = AtomicBool::new(false);
unsafe impl GlobalAlloc for Spin {
    unsafe fn alloc(&self, l: Layout) -> *mut u8 {
        if !THIS_CASE.load(Relaxed) {
            return unsafe { System.alloc(l) };
        }
        while LOCK.swap(true, Acquire) {
            std::hint::spin_loop()
        }
        while HOLD.load(Relaxed) && l.size() == 12345 {}
        let p = unsafe { System.alloc(l) };
        LOCK.store(false, Release);
        p
    }
    unsafe fn dealloc(&self, p: *mut u8, l: Layout) {
        if !THIS_CASE.load(Relaxed) {
            return unsafe { System.dealloc(p, l) };
        }
        while LOCK.swap(true, Acquire) {}
        unsafe { System.dealloc(p, l) };
        LOCK.store(false, Release);
    }
}
#[global_allocator]
static A: Spin = Spin;

pub(crate) fn main() {
    unsafe {
        THIS_CASE.store(true, SeqCst);
        if std::env::args().nth(1).is_some() {
            crore::run(|| ()).unwrap();
        }
        let mut p = [0; 2];
        libc::pipe(p.as_mut_ptr());
        HOLD.store(true, SeqCst);
        std::thread::spawn(|| {
            let v: Vec<u8> = Vec::with_capacity(12345);
            std::hint::black_box(&v);
            std::mem::forget(v);
        });
        libc::usleep(100_000); // now the thread is inside of the allocator
        let c = libc::fork();
        if c == 0 {
            libc::dup2(p[0], 50);
            libc::_exit(0);
        }
        HOLD.store(false, SeqCst);
        let t = Instant::now();
        let mut s = 0;
        while libc::waitpid(c, &mut s, libc::WNOHANG) == 0 && t.elapsed() < Duration::from_secs(2) {
            libc::usleep(1000);
        }
        if t.elapsed() < Duration::from_secs(2) {
            println!("child of fork after dup2: ended");
        } else {
            libc::kill(c, 9);
            println!("FAULT: child of fork after dup2 hangs in the hook's allocation");
        }
    }
}
